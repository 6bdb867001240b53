"""A worker that dies at one exact place while something is asked of a merchant who is connected."""

from tests.faults.established import SLOT, Life
from tests.faults.points import arm, not_struck, struck_at
from tests.faults.report import Report
from tests.faults.rig import LEASE, Rig
from tests.faults.trial import Trial

_BY_CELERY = "celery"
_SHORT = 8  # of the merchants, in the short form


def _of(step: str, *points: str) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{step}:{point}",) for point in points)


_WRITE = ("claimed", "before_write_slot", "after_write_slot", "before_record", "recorded")
_RECORD = ("before_record", "recorded", "enqueued")
POINTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "revalidated": (
        *_of("ask_revalidate", "before", "recorded", "enqueued"),
        *_of("validate_key", "before_claim", *_RECORD),
    ),
    "repaired": _of(f"register_slot/{SLOT}", *_WRITE),
    "good_key": (
        *_of("accept", "before", "recorded", "enqueued"),
        *_of("validate_key", "before_login", "after_login", *_RECORD),
        *_of("check_shipping_methods", "after_read_slot", *_RECORD),  # where the new key takes the old one's place
    ),
    "wrong_key": (
        *_of("validate_key", "before_login", "before_record", "recorded"),
        ("validate_key:recorded", "validate_key:before_record"),  # the second time the store says no
        ("validate_key:recorded", "validate_key:recorded"),  # the old key is about to go on
    ),
    "disconnects": (
        *_of("ask_disconnect", "before", "recorded", "enqueued"),
        *_of(f"disconnect/{SLOT}", *_WRITE, "enqueued"),
        ("key_forgotten",),
    ),
    "disconnects_in_part": (
        *_of(f"disconnect/{SLOT}", "before_record", "recorded"),
        *(
            ("ask_disconnect:recorded", f"ask_disconnect:{point}") for point in ("before", "recorded", "enqueued")
        ),  # forget the key now
    ),
    "comes_back": (*_of(f"disconnect/{SLOT}", "before_claim"), *_of("accept", "recorded", "enqueued")),
    "moves": (*_of("accept", "recorded", "enqueued"), *_of("go_on", "before", "recorded", "enqueued")),
}
FORMER_POINTS = (
    *_of(f"disconnect/{SLOT}", "before_write_slot", "after_write_slot", "before_record"),
    ("key_forgotten",),
)
"""In the store that a merchant moves away from."""


def request_points(trial: Trial) -> Report:
    """SIGKILL at every boundary of a look, a repair, a change of key, a move and a disconnection, each with a merchant.

    Before and after the PUT of a repair and of a removal, where a new key takes the old one's place, where the key is
    forgotten, where a merchant who moved goes on; in the short form some of them. Workers do one thing at a time. Each
    ends as it should, judged by its store; no PUT is repeated, for whoever comes next sees what was written; except for
    one that was refused.

    Healed within two leases of the last crash, what the story itself waits for aside; in the short form three.
    """
    report = trial.report()
    with Rig(trial) as rig:
        for _ in range(3 if trial.pool == "threads" else 1):
            options = ("--concurrency", "1") if trial.pool == "threads" else ()
            rig.start_worker(*options, environment={"FAULTS_POINTS": "1"})
        rig.start(workers=0)
        plan = _plan()
        if not trial.long:
            plan = {name: plan[name] for name in trial.dice.sample(sorted(plan), _SHORT)}
        rig.established.connect_named({name: kind for name, (kind, _, _) in plan.items()})
        order = list(plan)
        trial.dice.shuffle(order)
        size = trial.size(5, 3)
        for first in range(0, len(order), size):
            for name in order[first : first + size]:
                _, armed, points = plan[name]
                life = rig.established.lives[name]
                life.door = _BY_CELERY if name.endswith(_BY_CELERY) else "inbox"
                arm(rig.redis, armed, *points)
                life.begin()
            rig.until(lambda: not rig.established.unfinished(), 90)
        rig.finish(report, repeated_puts=1, heals_within=float("inf"))
        _hold(rig, report, plan, trial.size(3, 2) * LEASE + 3)
    return report


def _plan() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Merchant id -> the kind of life, the record at which its points are armed, and they."""
    plan: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for kind, rows in POINTS.items():
        for number, points in enumerate(rows, 1):
            name = f"{kind.replace('_', '-')}-{number}"
            plan[name] = kind, name, points
    for number, points in enumerate(FORMER_POINTS, 1):
        name = f"disconnects-by-moving-{number}"
        plan[name] = "moves", f"{name}@1", points
    for number, points in enumerate(_of("ask_disconnect", "before", "recorded", "enqueued"), 1):
        name = f"disconnects-{number}-by-{_BY_CELERY}"
        plan[name] = "disconnects", name, points
    return plan


def _own_waits(life: Life) -> float:
    """Seconds that the story waits for by itself: a second no to a key, a former store before it is left alone."""
    return {"wrong_key": 2.0 + LEASE / 2, "moves": LEASE}.get(life.kind, 0.0)


def _hold(rig: Rig, report: Report, plan: dict[str, tuple[str, str, tuple[str, ...]]], heals_within: float) -> None:
    healed: dict[str, float] = {}
    for name, (_, armed, points) in plan.items():
        life = rig.established.lives[name]
        report.require(not (missed := not_struck(rig.redis, armed)), f"never reached: {name} {missed}")
        at = struck_at(rig.redis, armed)
        if at is not None and life.done_at is not None:
            healed[f"{name} {points[-1]}"] = took = round(life.done_at - at, 1)
            report.hold(f"{name} {points} healed", took, heals_within + _own_waits(life))
    slowest = max(healed, key=lambda key: healed[key], default="")
    report.own |= {"points": len(plan), "slowest": slowest, "slowest_heal": healed.get(slowest)}
    report.seconds_to_heal = healed.get(slowest)
