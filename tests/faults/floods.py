"""Far more requests than can be carried out at once."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from integrations.messages.scheduled import SCHEDULED
from occ.simulator.store import SimulatedStore
from tasks.queues import REQUESTS
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

OTHERS = 10
OTHERS_WITHIN = 8.0
FEWEST_SLOTS = 3  # that a store of the suite offers


def doors(trial: Trial) -> Report:
    """Many merchants come in at once by one door, and while those are connected, a few by the other; then in reverse.

    None lost; the few are not held up until the many are done.
    """
    many = trial.size(200, 2000)
    report = trial.report()
    with Rig(trial) as rig:
        rig.start()
        by: dict[str, Callable[[object], None]] = {"inbox": rig.post, "queue": rig.send}
        for flooded, free in (("inbox", "queue"), ("queue", "inbox")):
            flood = rig.add_merchants(many, f"flood-{flooded}-{{n}}")
            rig.feed(flood, within=0, door=by[flooded])
            rig.until(partial(_connected, flood, at_least=many // 20), trial.size(60, 600))
            began = time.monotonic()
            others = rig.add_merchants(OTHERS, f"others-{free}-{{n}}")
            rig.feed(others, within=0, door=by[free])
            took = rig.until(partial(_connected, others, at_least=OTHERS), trial.size(60, 600))
            rig.until(lambda: not rig.unfinished(), trial.size(90, 900))
            all_took = time.monotonic() - began
            report.own |= {f"{free}_took": took and round(took, 1), f"{flooded}_flood_took": round(all_took, 1)}
            report.hold(f"{free}_took", took, max(OTHERS_WITHIN, all_took / 2))
        rig.struck()
        return rig.finish(report, heals_within=HEALS_WITHIN)


def _connected(stores: Sequence[SimulatedStore], *, at_least: int) -> bool:
    return sum(store.calls.endpoints["write_slot"] >= FEWEST_SLOTS for store in stores) >= at_least


def countdowns(trial: Trial) -> Report:
    """Requests with an hour's countdown, more than workers would hold in their memory, and ten with a short one.

    None is lost or multiplies; requests without one are carried out meanwhile, those with a short one when it is over.
    """
    many = trial.size(2200, 5000)
    report = trial.report()
    with Rig(trial) as rig:
        rig.start()
        rig.feed(rig.add_merchants(10, "soon-{n}"), within=0, door=partial(_send, rig, countdown=8))
        later = rig.simulator.add("later")
        with rig.producer.producer_pool.acquire(block=True) as producer:
            for number in range(many):
                name = f"later-{number}"
                request = rig.request(later, name) if number % 2 else {"merchant_id": name}
                _send(rig, request, countdown=3600, producer=producer)
        rig.feed(rig.add_merchants(20, "now-{n}"), within=1)
        rig.struck()
        rig.until(lambda: bool(rig.sent_at) and not rig.unfinished(), trial.size(60, 300))
        rig.until(lambda: rig.redis.zcard(SCHEDULED) == many and not rig.redis.llen(REQUESTS), trial.size(60, 300))
        rig.finish(report, heals_within=trial.size(60, 300))
        kept, unread = rig.redis.zcard(SCHEDULED), rig.redis.llen(REQUESTS)
        report.own |= {"kept": kept, "in_queue": unread}
        report.require((kept, unread) == (many, 0), f"{kept} of {many} wait for their time, {unread} in the queue")
        return report


def _send(rig: Rig, request: object, **options: Any) -> None:
    assert isinstance(request, dict)
    task = "occ.connect" if "application_key" in request else "occ.revalidate"
    rig.producer.send_task(task, kwargs=request, queue=REQUESTS, **options)
