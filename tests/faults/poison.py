"""Messages nobody can handle, and merchants whose work kills its process."""

from integrations.connections.findings import findings_of
from integrations.messages.quarantine import list_quarantine
from tests.faults.established import SLOTS
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial
from tests.tasks.worker.broker.messages import MORE_POISON, NOTE, POISON, generated

_TASK = b"occ.register_slot"
_BETWEEN_GOOD_ONES = 25


def poison_matrix(trial: Trial) -> Report:
    """Each shape of malformed message that is known to end workers, and generated ones, into the product's queues.

    After each known shape, and among the generated ones, good requests are handled; no worker ends; every known shape
    is in the quarantine. (That each generated one is either run or kept is counted in tests/tasks/worker/broker.)
    """
    count = trial.size(120, 500)
    report = trial.report()
    shapes = POISON | MORE_POISON
    with Rig(trial) as rig:
        rig.start(workers=1)
        good = iter(rig.add_merchants(len(shapes) + count // _BETWEEN_GOOD_ONES + 2))
        silent = []
        for name, message in shapes.items():
            before = rig.redis.llen("occ:quarantine")
            rig.redis.lpush("occ" if trial.dice.random() < 0.5 else "occ.steps", message)
            rig.feed([next(good)], within=0, door=rig.send)
            if rig.until(lambda before=before: rig.redis.llen("occ:quarantine") > before, 5) is None:  # type: ignore[misc]
                silent.append(name)
        made = [message.replace(NOTE.encode(), _TASK) for message in generated(count, trial.seed)]
        for number, message in enumerate(made):
            rig.redis.lpush("occ" if number % 2 else "occ.steps", message)
            if number % _BETWEEN_GOOD_ONES == 0:
                rig.feed([next(good)], within=0, door=rig.send)
                rig.go_on(0.1)
        rig.struck()
        rig.feed(list(good), within=0, door=rig.send)
        drained = rig.until(lambda: not rig.redis.exists("occ", "occ.steps", "unacked"), 60)
        kept = len(list_quarantine(rig.redis))
        report.own |= {"shapes": len(shapes), "not_kept": silent, "generated": count, "quarantined": kept}
        report.require(drained is not None, "the queue was not worked off")
        report.require(not silent, f"not in quarantine: {silent}")
        return rig.finish(report, heals_within=HEALS_WITHIN)


def poison_merchants(trial: Trial) -> Report:
    """Merchants whose work kills its process every time, and one whose request does, among healthy ones.

    Exactly they fail, with the cause worker_lost; their neighbours connect, whatever they lost on the way. A worker of
    one thread serves the lane for suspects. The request that kills is set aside from the inbox, and no other.
    """
    deadly, healthy = trial.size(2, 5), trial.size(40, 500)
    report = trial.report()
    settings = {"OCC_RETRY_ATTEMPTS": "3"}
    with Rig(trial, settings=settings) as rig:
        rig.start(FAULTS_DEADLY="poison-")
        stores = rig.add_merchants(healthy)
        poison = [rig.simulator.add(f"poison-{n}", offers=SLOTS) for n in range(1, deadly + 1)]
        deadly_request = rig.simulator.add("request-of-poison-1", offers=SLOTS)
        rig.feed([*stores[: healthy // 3], *poison, *stores[healthy // 3 :]], within=healthy / 4, door=rig.post)
        rig.send_later("request", rig.request(deadly_request), later=healthy / 8)
        rig.go_on(healthy / 4)
        failed = rig.until(lambda: all(_cause(rig, store.name) == "worker_lost" for store in poison), 90)
        set_aside = rig.until(lambda: bool(list_quarantine(rig.redis)), 60)
        kept = [(message.queue, message.reason) for message in list_quarantine(rig.redis)]
        report.own |= {"request_set_aside_after": set_aside and round(set_aside, 1), "kept": kept}
        report.require(kept == [("occ:inbox", "no worker lived through 5 deliveries")], f"in quarantine: {kept}")
        rig.struck()
        blamed = sorted(store.name for store in stores if _cause(rig, store.name) == "worker_lost")
        report.own |= {"deadly": deadly, "failed_within": failed and round(failed, 1), "blamed": blamed}
        causes = {store.name: _cause(rig, store.name) for store in poison}
        report.own["causes"] = causes
        report.own["failed"] = sum(cause == "worker_lost" for cause in causes.values())
        report.require(failed is not None, "a deadly merchant has not failed with worker_lost")
        report.require(not blamed, f"blamed: {blamed}")
        return rig.finish(report, repeated_puts=deadly * 3, heals_within=HEALS_WITHIN)


def _cause(rig: Rig, name: str) -> str | None:
    connection = rig.connection(name)
    if connection is None:
        return None
    causes = [finding.code for finding in findings_of(connection)]
    return "worker_lost" if "worker_lost" in causes else next(iter(causes), None)
