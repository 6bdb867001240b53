"""The demo itself: everything is started, every merchant is asked for, followed to its end, and compared with its part.

Imports the simulator, which lies with the tests: whoever may have to do without imports this module last.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from integrations.connections.record import Connection, ConnectionStatus
from integrations.connections.records import Snapshot
from integrations.connections.status import iso, status_object
from occ.cli.set_up import READ_EVERY, repeatedly
from occ.cli.views import View
from occ.demo.orders import Orders, place_orders
from occ.demo.stage import Stage
from occ.demo.verdict import Seen, differences

_WORKERS_START_WITHIN = 60.0
_RUNS_END_WITHIN = 90.0
_AND_FOR_EACH = 0.3
_MANY = 100
_READ_MANY_EVERY = 1.0

Pause = Callable[[float], None]
"""Waits so many seconds; raises what ends the demo if somebody wants that."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `seen` is by the parts' names, `counted` what the simulator has counted.

    `seconds`: from the first request to the last merchant's end.
    """

    seen: Mapping[str, Seen]
    counted: Mapping[str, Any]
    differences: Sequence[str]
    seconds: float
    orders: Orders

    def as_object(self) -> dict[str, object]:
        """For programs."""
        seen = self.seen.values()
        return {
            "merchants": [status_object(one.connection) for one in seen if one.connection is not None],
            "refused": [{**one.refusal, "at": iso(one.refusal["at"])} for one in seen if one.refusal is not None],
            "simulator": self.counted,
            "orders": self.orders.as_object(),
            "as_expected": not self.differences,
            "differences": list(self.differences),
            "seconds": round(self.seconds, 3),
        }


def play(
    stage: Stage,
    pause: Pause,
    say: Callable[[str], None],
    view: Callable[[Mapping[str, str]], AbstractContextManager[View]],
) -> Outcome:
    """Play all parts on a stage that is open. `view` makes what shows the progress, from names by merchant id.

    Raises RuntimeError if there is nobody to do the work.
    """
    _await_workers(stage, pause)
    inbox = sum(merchant.through_inbox for merchant in stage.merchants)
    say(f"Sending the requests: {len(stage.merchants) - inbox} through Celery, {inbox} through the inbox.")
    asked = time.monotonic()
    for merchant in stage.merchants:
        stage.request(merchant)
        pause(0)
    with view({merchant.id: merchant.part.name for merchant in stage.merchants}) as shown:
        _follow(stage, pause, shown)
    seconds = time.monotonic() - asked
    by_id, counted = stage.seen()
    seen = {merchant.part.name: by_id[merchant.id] for merchant in stage.merchants}
    found = [
        difference for merchant in stage.merchants for difference in differences(merchant.part, by_id[merchant.id])
    ]
    say("A shopper orders something at each healthy store.")
    orders = place_orders(stage, pause)
    return Outcome(seen, counted, [*found, *orders.differences], seconds, orders)


def _await_workers(stage: Stage, pause: Pause) -> None:
    until = time.monotonic() + _WORKERS_START_WITHIN
    while not stage.workers_answer():
        if time.monotonic() > until:
            raise RuntimeError(f"the workers did not start within {_WORKERS_START_WITHIN:g} s; their logs say why")
        pause(0)


def _follow(stage: Stage, pause: Pause, view: View) -> None:
    """Until every run has an outcome, or too much time has passed."""
    ids = [merchant.id for merchant in stage.merchants]
    waiting = list(ids)
    connections: dict[str, Connection] = {}

    def look() -> list[Snapshot]:
        return stage.records.load_many(waiting)

    for snapshots in repeatedly(
        look,
        every=READ_EVERY if len(ids) <= _MANY else _READ_MANY_EVERY,
        until=time.monotonic() + _RUNS_END_WITHIN + _AND_FOR_EACH * len(ids),
        sleep=pause,
    ):
        connections |= {one.merchant_id: one for snapshot in snapshots if (one := snapshot.connection)}
        view.show([connections[merchant] for merchant in ids if merchant in connections], snapshots[0].now())
        refused = stage.refusals()
        waiting[:] = [one for one in waiting if one not in refused and _goes_on(connections.get(one))]
        if not waiting:
            return


def _goes_on(connection: Connection | None) -> bool:
    return connection is None or connection.status is ConnectionStatus.ONBOARDING
