"""Three days of so many connections: is the load even, and is nobody looked at twice in a period, or skipped?"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise

from integrations.connections.record import DAY
from integrations.connections.schedule import EXPIRY_WARNINGS, Pace, next_in_phase, phase_of
from tests.bench.days import EPOCH, Days
from tests.usual import PACE

HOUR = 3600.0
IMPORT = 2 * HOUR  # in which all of them sign up
SETTLED = IMPORT + 900.0  # the second looks are over
FULLEST_TO_MEAN = 1.3
STANDS_IN = 60.0  # seconds that a look may take; until the second look would come, nothing is asked again
LATEST = 300.0  # seconds after its own moment that a connection is looked at, whatever is being restarted


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. `bucket`: the stretch of time whose load is compared with the mean, in seconds."""

    connections: int = 100_000
    days: int = 3
    bucket: float = 60.0
    seed: int = 1
    new_a_day: float = 0.01  # more that sign up, by day, as a share
    in_trouble: float = 0.005  # stores that are unreachable for some hours
    same_expiry: bool = False  # every key ends at one moment, and one of its warnings falls into these days
    blackout: float = 0.0  # seconds in which nothing of ours runs, on the second day
    pace: Pace = PACE


@dataclass(frozen=True, slots=True)
class Course:
    """How it went. Buckets with their load over the mean; lateness and gaps in seconds."""

    connections: int
    looks: int
    fullest_to_mean: float
    emptiest_to_mean: float
    calls_fullest_to_mean: float
    fullest_on_last_day: float
    twice_in_a_period: int  # periods in which a connection was looked at twice without a reason
    skipped_periods: int
    longest_gap: float  # between two looks at the same connection
    latest: float  # after its own moment
    calls_per_revalidation: float
    messages_per_revalidation: float
    statuses: dict[str, int]
    counts: dict[str, int]
    seconds: float  # it took to simulate

    def is_even(self) -> bool:
        """The law: no bucket much fuller than the mean, nobody twice in a period, nobody skipped."""
        is_once = self.twice_in_a_period == 0 and self.skipped_periods == 0
        return self.fullest_to_mean <= FULLEST_TO_MEAN and is_once and self.latest <= LATEST

    def figures(self) -> dict[str, object]:
        """As JSON."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def simulate(plan: Plan) -> Course:
    """Run it."""
    began = time.perf_counter()
    dice = random.Random(plan.seed)  # noqa: S311 - dice
    days = Days(plan.pace, dice, _seconds_per_call)
    end = SETTLED + plan.days * DAY
    _sign_up(plan, days, dice)
    _run_workers(plan, days, dice, end)
    days.until(EPOCH + end)
    return _course(plan, days, took=time.perf_counter() - began)


def _seconds_per_call(dice: random.Random) -> float:
    """Most stores answer within half a second; one call in a hundred takes long."""
    return dice.uniform(5, 30) if dice.random() < 0.01 else dice.lognormvariate(-1.2, 0.5)


# --- What happens ---------------------------------------------------------------------------------------------------


def _sign_up(plan: Plan, days: Days, dice: random.Random) -> None:
    for number in range(plan.connections):
        name = f"m-{number}"
        expires_at = _expiry(plan, dice)
        days.at(
            EPOCH + dice.uniform(0, IMPORT),
            lambda name=name, expires_at=expires_at: days.sign_up(name, expires_at=expires_at),  # type: ignore[misc]
        )
        if dice.random() < plan.in_trouble:
            since = EPOCH + SETTLED + dice.uniform(0, plan.days * DAY)
            days.unreachable[name] = since, since + dice.uniform(1, 12) * HOUR
    for day in range(plan.days):
        for number in range(round(plan.new_a_day * plan.connections)):
            moment = EPOCH + SETTLED + day * DAY + dice.uniform(8, 18) * HOUR
            days.at(moment, lambda name=f"new-{day}-{number}": days.sign_up(name))  # type: ignore[misc]


def _expiry(plan: Plan, dice: random.Random) -> float | None:
    """Some keys never end, most within the year."""
    if plan.same_expiry:
        return EPOCH + 9 * DAY + DAY / 2
    return None if dice.random() < 0.3 else EPOCH + dice.uniform(5 * DAY, 365 * DAY)


def _run_workers(plan: Plan, days: Days, dice: random.Random, end: float) -> None:
    """Three to six workers by the hour; one is restarted now and then, all at once every day, beats too."""
    fleet = _Fleet(days, dice)
    for hour in range(int(end / HOUR)):
        at = EPOCH + hour * HOUR
        days.at(at + (dice.uniform(0, 600) if hour else 0.0), partial(fleet.scale, 3 + hour % 4))
        days.at(at + dice.uniform(600, HOUR), fleet.restart_one)
        if hour % 4 == 1:
            days.at(at, partial(fleet.silence, [hour // 4 % 2], 20.0))
        if hour % 24 == 12:
            days.at(at + 1800, partial(fleet.restart_all, 10.0))
    days.at(EPOCH + 30 * HOUR, partial(fleet.silence, [1], 2 * HOUR))
    if plan.blackout:
        days.at(EPOCH + SETTLED + 1.25 * DAY, partial(fleet.restart_all, plan.blackout))


@dataclass
class _Fleet:
    """Starts and ends workers and beats."""

    days: Days
    dice: random.Random
    dark_until: float = 0.0

    def scale(self, wanted: int) -> None:
        """Add workers or take some away."""
        while len(self.days.workers) > wanted:
            self.days.stop_worker(min(self.days.workers))
        while len(self.days.workers) < wanted and self.start():
            pass

    def start(self) -> bool:
        """One worker, unless nothing runs at this time."""
        if self.days.now < self.dark_until:
            return False
        self.days.start_worker(f"worker-{self.dice.random()}")
        return True

    def restart_one(self) -> None:
        """In order or not."""
        if self.days.workers:
            end = self.days.kill_worker if self.dice.random() < 0.5 else self.days.stop_worker
            end(self.dice.choice(sorted(self.days.workers)))
            self.days.at(self.days.now + 15, self.start)

    def restart_all(self, pause: float) -> None:
        """As a deployment without any care does it."""
        names = list(self.days.workers)
        for name in names:
            self.days.kill_worker(name)
        self.dark_until = self.days.now + pause
        self.silence(range(len(self.days.beats)), pause)
        self.days.at(self.dark_until, partial(self.scale, len(names)))

    def silence(self, beats: Iterable[int], seconds: float) -> None:
        """No ticks from these."""
        for beat in beats:
            self.days.beats[beat].silent_until = self.days.now + seconds


# --- What came of it ------------------------------------------------------------------------------------------------


def _course(plan: Plan, days: Days, *, took: float) -> Course:
    start, end = EPOCH + SETTLED, EPOCH + SETTLED + plan.days * DAY
    looks = sorted(moment for moments in days.looks.values() for moment in moments if start <= moment < end)
    calls = [moment for moment in days.calls if start <= moment < end]
    fullest, emptiest = _extremes(looks, start, end, plan.bucket)
    last_day, _ = _extremes([moment for moment in looks if moment >= end - DAY], end - DAY, end, plan.bucket)
    twice, skipped, latest = _by_period(plan, days, start, end)
    gaps = [later - earlier for moments in days.looks.values() for earlier, later in pairwise(moments)]
    statuses = Counter(str(connection.status) for connection in days.connections.values())
    revalidations = sum(map(len, days.looks.values()))  # and a first look each, which is a run
    return Course(
        connections=len(days.connections),
        looks=len(looks),
        fullest_to_mean=fullest,
        emptiest_to_mean=emptiest,
        calls_fullest_to_mean=_extremes(calls, start, end, plan.bucket)[0],
        fullest_on_last_day=last_day,
        twice_in_a_period=twice,
        skipped_periods=skipped,
        longest_gap=max(gaps),
        latest=latest,
        calls_per_revalidation=len(calls) / len(looks),
        messages_per_revalidation=days.counts["messages of re-validations"] / (revalidations - len(days.looks)),
        statuses=dict(statuses),
        counts=dict(days.counts),
        seconds=took,
    )


def _extremes(moments: Sequence[float], start: float, end: float, bucket: float) -> tuple[float, float]:
    """The fullest and the emptiest bucket, over the mean."""
    filled = Counter(int((moment - start) // bucket) for moment in moments)
    buckets = int((end - start) // bucket)
    mean = len(moments) / buckets
    return max(filled.values()) / mean, min(filled[number] for number in range(buckets)) / mean


def _by_period(plan: Plan, days: Days, start: float, end: float) -> tuple[int, int, float]:
    """Of connections without a reason for more: own periods with two looks, with none, and the largest delay.

    A look for another reason just before its own moment stands in for the regular one.
    """
    period, twice, skipped, latest = plan.pace.revalidate_every, 0, 0, 0.0
    for name, connection in days.connections.items():
        if name in days.unreachable or connection.started_at >= start:
            continue
        moments = days.looks[name]
        opens = next_in_phase(phase_of(connection), period, start)
        while opens + period <= end:
            within = [moment for moment in moments if opens <= moment < opens + period]
            reasons = _warnings_between(connection.credential.expires_at, opens, opens + period)
            twice += max(0, len(within) - 1 - reasons)
            skipped += not any(
                opens - plan.pace.second_look - STANDS_IN <= moment < opens + period for moment in moments
            )
            if within and not reasons:
                latest = max(latest, within[0] - opens)
            opens += period
    return twice, skipped, latest


def _warnings_between(expires_at: float | None, since: float, until: float) -> int:
    if expires_at is None:
        return 0
    return sum(since - LATEST <= expires_at - days * DAY < until for days in EXPIRY_WARNINGS)
