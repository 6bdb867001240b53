"""What stands between us and the stores forgets connections over which nothing was sent for a while."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from occ.simulator import runner, wire
from occ.simulator.store import SimulatedStore
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial
from tests.pipeline import ended

REMEMBERS = 1.0  # seconds; what comes over a connection that was idle for longer is answered with a reset ...
OUR_KEEP_ALIVE = 6.0
SAYS_SO = 7.0  # ... and after this, it is lost without a trace


@dataclass(slots=True)
class Network:
    """How often something came over a connection that it had forgotten."""

    resets: int = 0
    lost: int = 0


def nat(trial: Trial) -> Report:
    """Connected merchants are re-validated over connections that the network has forgotten, others repaired and so on.

    None lost; no attempt is spent, no store is blamed, and no outage is seen.
    """
    report = trial.report()
    settings = {"OCC_KEEP_ALIVE": f"{OUR_KEEP_ALIVE:g}", "OCC_OUTAGE_SHARE": "0.3"}
    settings |= {"OCC_CALL_DEADLINE": "5", "OCC_LEASE": "10"}  # a second is little on a busy machine
    with _forgetful_network() as network, Rig(trial, settings=settings) as rig:
        rig.start()
        stores = rig.add_merchants(trial.size(24, 200))
        rig.feed(stores, within=1)
        rig.until(lambda: len(rig.sent_at) == len(stores) and not rig.unfinished(), 60)
        rig.established.connect(1)
        for turn, quiet in enumerate([REMEMBERS + 0.5] * trial.size(2, 10) + [SAYS_SO + 1]):
            rig.go_on(quiet)
            rig.struck()
            if turn == 0:
                rig.established.ask(0, 1)
            _look_at(rig, stores)
        rig.finish(report, heals_within=HEALS_WITHIN)
        lines = [entry for store in stores for entry in rig.records.timeline(store.name)]
        causes = {entry["cause"] for entry in lines if "cause" in entry} - {"slot_not_offered"}
        told = {str(event["type"]) for _, event in rig.records.events(count=10_000)}
        report.own |= {"resets": network.resets, "lost_without_a_trace": network.lost, "causes": sorted(causes)}
        report.require(network.resets > 0, "no connection that was forgotten was used")
        report.hold("lost_without_a_trace", network.lost, 0)
        report.hold("causes", len(causes), 0)
        report.hold("outages", sum("outage" in kind for kind in told), 0)
        return report


def _look_at(rig: Rig, stores: Sequence[SimulatedStore]) -> None:
    before = {store.name: store.calls.endpoints["login"] for store in stores}
    for store in stores:
        rig.send_later("revalidate", {"merchant_id": store.name})

    def looked_at() -> bool:
        found = [snapshot.connection for snapshot in rig.records.load_many([store.name for store in stores])]
        logins = (store.calls.endpoints["login"] > before[store.name] for store in stores)
        return all(logins) and all(one is not None and ended(one, 1) for one in found)

    rig.until(looked_at, 60)


@contextmanager
def _forgetful_network() -> Iterator[Network]:
    network = Network()

    class Through(wire.Connection):
        """One connection through it."""

        _used_at: float | None = None

        def data_received(self, data: bytes) -> None:
            idle = 0.0 if self._used_at is None else time.monotonic() - self._used_at
            self._used_at = time.monotonic()
            if idle < REMEMBERS:
                super().data_received(data)
            elif idle < SAYS_SO:
                network.resets += 1
                self._reset()
            else:
                network.lost += 1

        def _write(self, data: bytes) -> None:
            self._used_at = time.monotonic()
            super()._write(data)

    with patch.object(runner, "Connection", Through):
        yield network
