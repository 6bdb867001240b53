"""A worker that dies at one exact place."""

from collections.abc import Mapping

from tests.faults.established import SLOTS
from tests.faults.points import arm, not_struck, struck_at
from tests.faults.report import Report
from tests.faults.rig import LEASE, Rig
from tests.faults.trial import Trial

_BEFORE_ALL = ("before_claim", "claimed")
_AFTER_ALL = ("before_record", "recorded", "enqueued")
_SLOT = "register_slot/order-update"


def _of(step: str, *inside: str) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{step}:{point}",) for point in (*_BEFORE_ALL, *inside, *_AFTER_ALL))


INBOX_POINTS: tuple[tuple[str, ...], ...] = (
    *(("accept:before",), ("accept:recorded",), ("accept:enqueued",)),
    *_of("validate_key", "before_login", "after_login", "after_share", "sent/"),
    *_of("check_shipping_methods", "before_shipping_methods", "after_shipping_methods"),
    *(("check_shipping_methods:sent/order-submit",), ("check_shipping_methods:sent/shipment-create",)),
    *_of(_SLOT, "before_read_slot", "after_read_slot", "before_write_slot", "after_write_slot"),
    # Accepted and never enqueued: only the tick can start it, and the tick dies.
    *(("accept:recorded", f"tick:{point}") for point in ("taken", "before_enqueue", "enqueued")),
)
CELERY_POINTS: tuple[tuple[str, ...], ...] = (("accept:before",), ("accept:recorded",), ("accept:enqueued",))
DIRECTLY_AFTER_A_PUT = {f"{_SLOT}:after_write_slot", f"{_SLOT}:before_record"}


def crash_points(trial: Trial) -> Report:
    """SIGKILL at every boundary of a connect, each with a merchant of its own.

    Before and after each claim, HTTP call, record and enqueue, in the tick and in accept, by both doors. Workers do
    one thing at a time, so that nobody else is hit. Each connection ends right, each outcome is recorded once; at most
    one repeated PUT directly after a PUT, none elsewhere.

    Healed within two leases of the last crash. In the short form some of the points, and three leases: there several
    strike at once, and a crash may take the message along that was to mend another.
    """
    plan: dict[str, tuple[str, ...]] = {f"i-{n}": points for n, points in enumerate(INBOX_POINTS, 1)}
    plan |= {f"c-{n}": points for n, points in enumerate(CELERY_POINTS, 1)}
    if not trial.long:  # a worker takes longer to start than a child of one
        chosen = trial.dice.sample(sorted(plan), 8 if trial.pool == "threads" else 16)
        plan = {name: plan[name] for name in chosen}
    report = trial.report()
    with Rig(trial) as rig:
        for _ in range(3 if trial.pool == "threads" else 1):
            options = ("--concurrency", "1") if trial.pool == "threads" else ()
            rig.start_worker(*options, environment={"FAULTS_POINTS": "1"})
        rig.start(workers=0)
        for wave in _waves(trial, plan):
            for name in wave:
                arm(rig.redis, name, *plan[name])
                store = rig.simulator.add(name, offers=SLOTS)
                rig.expected[name] = "active"
                rig.feed([store], within=0, door=rig.send if name.startswith("c") else rig.post)
            rig.until(lambda: not rig.unfinished(), 60)
        rig.finish(report, repeated_puts=len(DIRECTLY_AFTER_A_PUT), heals_within=float("inf"))
        _hold(rig, report, plan, trial.size(3, 2) * LEASE + 3)
    return report


def _in_tick(points: tuple[str, ...]) -> bool:
    return points[-1].startswith("tick:")


def _waves(trial: Trial, plan: Mapping[str, tuple[str, ...]]) -> list[list[str]]:
    """Merchants whose points strike at the same time. The ticks come last: one that dies takes others along."""
    names = [name for name, points in plan.items() if not _in_tick(points)]
    ticks = [name for name in plan if name not in names]
    trial.dice.shuffle(names)
    size, ticks_at_once = trial.size(6, 3), trial.size(2, 1)
    waves = [names[first : first + size] for first in range(0, len(names), size)]
    return waves + [ticks[first : first + ticks_at_once] for first in range(0, len(ticks), ticks_at_once)]


def _hold(rig: Rig, report: Report, plan: Mapping[str, tuple[str, ...]], heals_within: float) -> None:
    healed: dict[str, float] = {}
    for name, points in plan.items():
        missed = not_struck(rig.redis, name)
        report.require(not missed, f"never reached: {missed}")
        connection, at = rig.connection(name), struck_at(rig.redis, name)
        if connection is not None and at is not None:
            healed[f"{name} {points[-1]}"] = round(connection.updated_at - at, 1)
            bound = heals_within
            if _in_tick(points) and not rig.trial.long:
                bound += LEASE  # a tick that dies puts off all that it had taken, and here three of them strike at once
            report.hold(f"{name} {points} healed", healed[f"{name} {points[-1]}"], bound)
        writes = rig.simulator.store(name).calls.slots
        allowed = 2 if DIRECTLY_AFTER_A_PUT & set(points) else 1
        most = max((count for slot, count in writes.items() if slot.startswith("write_slot")), default=0)
        report.hold(f"{name} {points} PUTs into one slot", most, allowed)
    by_record = {key: seconds for key, seconds in healed.items() if key != "c-1 accept:before"}
    report.own["slowest_with_a_record"] = max(by_record.values(), default=None)
    slowest = max(healed, key=lambda key: healed[key], default="")
    report.own |= {"points": len(plan), "slowest": slowest, "slowest_heal": healed.get(slowest)}
    report.seconds_to_heal = healed.get(slowest)
