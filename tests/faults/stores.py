"""Stores that hang or refuse, and the others beside them."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import quantiles

from occ.simulator.store import SimulatedStore
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

LATENCY = 0.1
HUNG_RATE = 6.0  # requests a second


def hung_stores(trial: Trial) -> Report:
    """One store in five never answers, against the same load of stores that all do.

    From the request to the last slot, the 95th percentile of the healthy four fifths grows by 10 % at most (short form:
    and a tenth of a second, for so few say little). Hung stores are recorded as unreachable. The long form goes back
    and forth between the two, so that the machine's other work falls on both.
    """
    merchants, turns = trial.size(60, 100), trial.size(1, 4)
    report = trial.report()
    settings = {"OCC_CONCURRENCY": "32", "OCC_RETRY_ATTEMPTS": "4"}
    alone: list[SimulatedStore] = []
    beside: list[SimulatedStore] = []
    with Rig(trial, settings=settings, latency=LATENCY) as rig:
        rig.start()
        rig.feed(rig.add_merchants(8, "warm-{n}"), within=1, door=rig.send)
        rig.until(lambda: not rig.unfinished(), 30)
        for turn in range(turns):
            alone += (healthy := rig.add_merchants(merchants, f"alone-{turn}-{{n}}"))
            _connect_a_fifth_more(rig, healthy, rig.add_merchants(merchants // 4, f"also-{turn}-{{n}}"))
            hung = [rig.simulator.add(f"hung-{turn}-{n}") for n in range(1, merchants // 4 + 1)]
            for store in hung:
                store.fail("*", {"fault": "hang", "times": "always"})
                rig.expected[store.name] = "unreachable"
            beside += (healthy := rig.add_merchants(merchants, f"beside-{turn}-{{n}}"))
            _connect_a_fifth_more(rig, healthy, hung)
        rig.struck()
        rig.finish(report, heals_within=4 * 4 + HEALS_WITHIN)
        without, with_hung = _p95(rig, alone), _p95(rig, beside)
        report.own |= {"p95_without": round(without, 3), "p95_with": round(with_hung, 3), "hung": turns * len(hung)}
        report.hold("p95_with", round(with_hung, 3), without * 1.1 + (0 if trial.long else 0.1))
        return report


def _connect_a_fifth_more(rig: Rig, stores: Sequence[SimulatedStore], more: Sequence[SimulatedStore]) -> None:
    """Four of these, one of those, and so on; until all runs have ended."""
    mixed = [one for n, store in enumerate(stores) for one in ([store, more[n // 4]] if n % 4 == 0 else [store])]
    rig.feed(mixed, within=len(mixed) / HUNG_RATE, door=rig.send)
    rig.until(lambda: all(store.name in rig.sent_at for store in mixed) and not rig.unfinished(), 120)


def store_outage(trial: Trial) -> Report:
    """200 stores answer 503 for ten minutes (short form: 60 stores, 25 s).

    Once all are waiting, no second has more than three times the mean request rate, so jitter keeps them apart; and all
    are connected when it is over: within the longest wait and, as they come back all at once, a minute.
    """
    merchants, seconds, longest = trial.size(60, 200), trial.size(25, 600), trial.size(6, 20)
    report = trial.report()
    settings = {"OCC_RETRY_FIRST": "1", "OCC_RETRY_MAX": str(longest), "OCC_RETRY_ATTEMPTS": "1000"}
    with Rig(trial, settings=settings) as rig:
        rig.start()
        stores = rig.add_merchants(merchants, faults={"*": [{"fault": "unavailable", "times": "always"}]})
        first = time.monotonic()
        rig.feed(stores, within=0)
        rig.until(lambda: all(store.calls.endpoints.total() for store in stores), 30)
        rig.go_on(longest * 1.5)  # the first attempts were together, because the requests were
        began = time.monotonic()
        rig.go_on(seconds)
        ended = time.monotonic()
        for store in stores:
            store.heal()
        rig.struck()
        rig.finish(report, heals_within=longest + trial.size(int(HEALS_WITHIN), 60))
        per_second = _per_second(stores, began, ended)
        mean = sum(per_second.values()) / (ended - began)
        busiest = max(per_second.values(), default=0)
        report.own |= {"mean_rate": round(mean, 1), "busiest_second": busiest, "seconds": seconds}
        report.own["busiest_second_at_first"] = max(_per_second(stores, first, began).values(), default=0)
        report.hold("busiest_second", busiest, 3 * mean)
        return report


def _per_second(stores: Iterable[SimulatedStore], began: float, ended: float) -> Counter[int]:
    arrived = (call.arrived for store in stores for call in store.calls.entries)
    return Counter(int(at - began) for at in arrived if began <= at < ended)


def _p95(rig: Rig, stores: Iterable[SimulatedStore]) -> float:
    """Seconds from the request to the answer about the last slot."""
    took = []
    for store in stores:
        answered = [call.answered for call in store.calls.entries if call.endpoint == "write_slot" and call.answered]
        if answered:
            took.append(max(answered) - rig.sent_at[store.name])
    return quantiles(took, n=20)[-1] if len(took) > 1 else float("inf")
