"""How often stores that are well would be called silent, and how soon those that are not.

Half a year of orders at stores of all sizes, with nights, weekends, seasons, holidays and sales. Orders come at random
(a Poisson process whose intensity those shape); what is heard goes through `integrations/connections/rhythm.py`.
"""

import math
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from statistics import median, quantiles

from integrations.connections.rhythm import Rhythm, hear

HOUR = 3600
WEEK = 168
_TOO_SHORT_TO_MATTER = HOUR // 2
_MOST_PER_HOUR = 3.0  # more orders change no pause that the rule would notice
_CLASSES = (10, 50, 250, 1000, 5000)


def _night(hour: int, quiet: float) -> float:
    return quiet if hour < 6 else 0.6 if hour < 9 else 1.5 if hour >= 18 else 1.0


def _weekly(kind: str, hour: int) -> float:
    day, of_day = divmod(hour % WEEK, 24)
    weekend = day >= 5
    if kind == "business":
        return 0.0 if weekend or not 8 <= of_day < 18 else 1.0
    if kind == "worldwide":
        return _night(of_day, 0.6)
    return _night(of_day, 0.04) * (1.4 if weekend else 1.0)


def _intensity(dice: random.Random, weeks: int) -> list[float]:
    """Of one store, hour by hour, one on average in a plain week."""
    kind = dice.choices(("consumer", "business", "worldwide"), (6, 2, 2))[0]
    season, phase = dice.choice((0.0, 0.3, 0.6, 0.85)), dice.random()
    factors = [1.0] * (weeks * 7)
    for _ in range(dice.randint(1, 4)):  # a sale, and the lull that follows it
        begin, length, size = dice.randrange(weeks * 7), dice.randint(2, 7), dice.uniform(2, 10)
        for day in range(begin, min(begin + length, len(factors))):
            factors[day] *= size
        for day in range(begin + length, min(begin + length + 14, len(factors))):
            factors[day] *= 0.6
    for _ in range(dice.randint(2, 6)):  # public holidays, some of them two days long
        begin = dice.randrange(len(factors))
        for day in range(begin, min(begin + dice.randint(1, 2), len(factors))):
            factors[day] *= 0.0 if kind == "business" else 0.3
    level = WEEK / sum(_weekly(kind, hour) for hour in range(WEEK))
    return [
        level
        * _weekly(kind, hour)
        * (1 + season * math.sin(2 * math.pi * (hour / WEEK / 52 + phase)))
        * factors[hour // 24]
        for hour in range(weeks * WEEK)
    ]


def orders(dice: random.Random, intensity: list[float], per_week: float, most: float = _MOST_PER_HOUR) -> Iterator[int]:
    """The times of a store's orders, seconds from the beginning."""
    rates = [min(most, value * per_week / WEEK) for value in intensity]
    reached = [0.0, *accumulate(rates)]
    passed = dice.expovariate(1.0)
    while passed < reached[-1]:
        hour = bisect_right(reached, passed) - 1
        yield int((hour + (passed - reached[hour]) / rates[hour]) * HOUR)
        passed += dice.expovariate(1.0)


def _course(times: Iterator[int], end: int) -> tuple[int, float, Rhythm | None]:
    """How often a store was called silent, for how many weeks that could have happened, and its rhythm at the end."""
    rhythm: Rhythm | None = None
    alarms, learned_at, pending = 0, end, 0
    before = 0
    for at in times:
        if rhythm is None:
            rhythm, before = hear(None, [at], end), at
            continue
        if at - before < _TOO_SHORT_TO_MATTER:
            before, pending = at, pending + 1
            continue
        rhythm = _heard_often(rhythm, before, pending)
        pending, before = 0, at
        moment = rhythm.silent_at
        alarms += moment is not None and at > moment
        rhythm = hear(rhythm, [at], end)
        if rhythm is not None and learned_at == end and rhythm.is_learned:
            learned_at = at
    if rhythm is not None:
        rhythm = _heard_often(rhythm, before, pending)
        moment = rhythm.silent_at
        alarms += moment is not None and end > moment
    return alarms, (end - learned_at) / HOUR / WEEK, rhythm


def _heard_often(rhythm: Rhythm, at: int, deliveries: int) -> Rhythm:
    """After many deliveries up to `at` that followed each other closely: no pause among them is worth noting."""
    return replace(rhythm, last=max(at, rhythm.last), count=rhythm.count + deliveries)


def measure_silence(*, stores: int, weeks: int, seed: int, samples: int = 60) -> Mapping[str, object]:
    """False alarms in a population of `stores`, and how long a silence lasts before it is found, by orders per week."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    end = weeks * WEEK * HOUR
    alarms, watched, judged = 0, 0.0, 0
    by_size: dict[str, int] = defaultdict(int)
    for _ in range(stores):
        per_week = min(20_000.0, max(1.0, dice.lognormvariate(math.log(60), 1.8)))
        false, observed, rhythm = _course(orders(dice, _intensity(dice, weeks), per_week), end)
        alarms, watched = alarms + false, watched + observed
        by_size[_class_of(per_week)] += false
        judged += rhythm is not None and rhythm.is_learned
    return {
        "stores": stores,
        "weeks": weeks,
        "stores_with_a_rhythm": judged,
        "store_weeks_watched": round(watched),
        "false_alarms": alarms,
        "false_alarms_per_1000_store_weeks": round(1000 * alarms / watched, 3) if watched else 0.0,
        **{f"false_alarms_{name}": number for name, number in sorted(by_size.items()) if number},
        **{f"found_within_hours_at_{size}_a_week": _found_within(dice, size, weeks, samples) for size in _CLASSES},
    }


def is_as_promised(figures: Mapping[str, object]) -> bool:
    """At most one false alarm in 1,000 store-weeks."""
    return float(str(figures["false_alarms_per_1000_store_weeks"])) <= 1.0


def _class_of(per_week: float) -> str:
    return f"up_to_{next((size for size in _CLASSES if per_week <= size), 20_000)}_a_week"


def _found_within(dice: random.Random, per_week: int, weeks: int, samples: int) -> str:
    """Median and nine of ten, from the last delivery on; the deliveries stop at the end."""
    waits = []
    for _ in range(samples):
        rhythm = _course(orders(dice, _intensity(dice, weeks), per_week, most=30.0), weeks * WEEK * HOUR)[2]
        moment = rhythm.silent_at if rhythm else None
        if rhythm is not None and moment is not None:
            waits.append((moment - rhythm.last) / HOUR)
    if len(waits) < samples / 2:
        return "too few deliveries to tell"
    return f"{median(waits):.0f} (90 %: {quantiles(waits, n=10)[-1]:.0f})"
