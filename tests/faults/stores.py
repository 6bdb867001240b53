"""Stores that hang or refuse, and the others beside them."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import quantiles

from integrations.connections.lifecycle.requests import is_at_rest
from occ.simulator.store import SimulatedStore
from tasks.queues import REQUESTS
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

LATENCY = 0.1
HUNG_RATE = 6.0  # requests a second
AFTERWARDS_RATE = 8.0  # likewise
FIRST_WITHIN = 6.0
AFTERWARDS_RATIO = 1.3
HANG: Mapping[str, object] = {"fault": "hang", "processed": True, "times": "always"}
DRIP: Mapping[str, object] = {"fault": "drip_body", "times": "always"}
# Name, what goes wrong, and the share of those that are re-validated; the others are being connected.
MIXED_REGION = (("mixed", (HANG, DRIP), 0.5),)
REGIONS = (
    ("hung", (HANG,), 0.0),
    ("hung_again", (HANG,), 1.0),
    ("dripping", (DRIP,), 0.0),
    ("dripping_again", (DRIP,), 1.0),
)


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


def hung_region(trial: Trial) -> Report:
    """300 stores of 340 stop answering at once, as they are being connected or as all of them are re-validated. They
    hang, or answer byte by byte. (Short form: 60 of 68, some of each at the same time.)

    One in ten is like that only where it is written to, or where it is read; what was asked is done all the same. Of
    the healthy stores, those that come at that moment are connected within 6 s, and those that come afterwards within
    1.3 times the time without (short form: and half a second, for so few say little). Once the region answers, each
    ends as if nothing had been.
    """
    healthy, many = trial.size(8, 40), trial.size(60, 300)
    report = trial.report()
    settings = {
        "OCC_CONCURRENCY": str(trial.size(16, 64)),
        "OCC_CALL_DEADLINE": str(trial.size(2, 10)),
        "OCC_LEASE": str(trial.size(7, 20)),
    }
    unsettled: list[str] = []
    with Rig(trial, settings=settings, latency=LATENCY) as rig:
        rig.start()
        _connect(rig, rig.add_merchants(healthy, "warm-{n}"))
        alone = rig.add_merchants(healthy, "alone-{n}")
        _connect(rig, alone, within=healthy / AFTERWARDS_RATE)
        report.own["p95_without"] = round(without := _p95(rig, alone), 2)
        bounds = {"first": FIRST_WITHIN, "after": without * AFTERWARDS_RATIO + trial.size(1, 0) / 2}
        for name, faults, share in REGIONS if trial.long else MIXED_REGION:
            region = rig.add_merchants(many, f"{name}-{{n}}")
            known = region[: round(many * share)]
            _connect(rig, known)
            calls = {store.name: store.calls.endpoints.total() for store in region}
            for number, store in enumerate(region):
                part = "read_slot" if store in known else "write_slot"
                store.fail(part if number % 10 == 0 else "*", faults[number // 10 % len(faults)])
            first = rig.add_merchants(healthy, f"{name}-first-{{n}}")
            _connect(rig, first, beside=region, known=known)
            rig.go_on(trial.size(1, 4))
            after = rig.add_merchants(healthy, f"{name}-after-{{n}}")
            _connect(rig, after, within=healthy / AFTERWARDS_RATE)
            for (when, at_most), stores in zip(bounds.items(), (first, after), strict=True):
                report.own[f"p95_{name}_{when}"] = p95 = round(_p95(rig, stores), 2)
                report.hold(f"p95_{name}_{when}", p95, at_most)
            rig.struck()
            for store in region:
                store.heal()
            unsettled += _await_rest(rig, region, calls)
        rig.finish(report, heals_within=trial.size(40, 120))
        report.own["made_way"] = _cut_short(rig)
        report.require(bool(report.own["made_way"]), "no attempt had to make way")
        report.own["unsettled"] = unsettled[:8]
        report.lost += len(unsettled)
        report.hold("lost", report.lost, 0)
        return report


def _connect(
    rig: Rig,
    watched: Sequence[SimulatedStore],
    *,
    within: float = 0,
    beside: Sequence[SimulatedStore] = (),
    known: Sequence[SimulatedStore] = (),
) -> None:
    """Until all that are watched are connected. At the same time those beside them are connected, or re-validated if
    they are known.
    """
    names = {store.name for store in known}

    def send(request: object) -> None:
        assert isinstance(request, dict)
        if request["merchant_id"] in names:
            asked = {"merchant_id": request["merchant_id"]}
            rig.producer.send_task("occ.revalidate", kwargs=asked, queue=REQUESTS)
        else:
            rig.send(request)

    mixed = [*watched, *beside]
    rig.trial.dice.shuffle(mixed)
    rig.feed(mixed, within=within, door=send)

    def connected() -> bool:
        return all(
            store.calls.endpoints["write_slot"] >= len(store.settings.offers) and not store.calls.in_flight.now
            for store in watched
        )

    rig.until(connected, 120)


def _await_rest(rig: Rig, stores: Sequence[SimulatedStore], calls: Mapping[str, int]) -> list[str]:
    """Until all have been called again and nothing is under way; those of which that never comes true."""
    left = {store.name for store in stores}

    def resting() -> bool:
        names = [name for name in left if rig.simulator.store(name).calls.endpoints.total() > calls[name]]
        for name, snapshot in zip(names, rig.records.load_many(names), strict=True):
            if snapshot.connection is not None and is_at_rest(snapshot.connection):
                left.discard(name)
        return not left

    rig.until(resting, rig.trial.size(100, 300))  # work that stood back often comes again after a minute
    return sorted(left)


def _cut_short(rig: Rig) -> int:
    """How many attempts made way for others."""
    lines = (entry for name in rig.merchant_ids for entry in rig.records.timeline(name))
    return sum(entry.get("cause") == "made_way" for entry in lines)


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
