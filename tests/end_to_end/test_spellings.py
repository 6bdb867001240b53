"""Ten stores that spell, cut, double, drop or delay URLs: nobody is harmed, and nothing stays unsaid."""

import pytest

from occ.simulator.spelling import spelt
from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import SLOTS, ask, calls, connect, findings, revalidate, slot_statuses
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

THEIRS = ["https://erp.example.org/orders/in", "https://oms.example.net/hooks/all"]
MOST_WRITES = 3  # of one slot, when nobody undoes us

STORES: dict[str, dict[str, object]] = {
    "slash": {"spells_stored": ["slash"]},
    "http": {"spells_stored": ["http"], "allows_http": True},
    "lower path": {"spells_stored": ["lower_path"]},
    "another encoding": {"spells_stored": ["reencode"]},
    "cut": {"spells_stored": ["truncate:40"]},
    "port and slash": {"spells_stored": ["port", "slash"]},
    "each twice": {"shows_urls_twice": True},
    "the last two": {"keeps_last": 2},
    "ids in another case": {"shows_ids": "upper"},
    "shown a second later": {"shows_writes_after": 1},
}
CAUSES = {
    "lower path": "url_in_doubt",
    "cut": "callback_url_respelt",
    "each twice": "urls_multiplied",
    "the last two": "url_pushed_out",
}
"""Where our callback URL cannot be in order. In lower case it might be another merchant's, so nothing is taken out."""


def kept_before(settings: dict[str, object]) -> list[str]:
    """What the others have put in there, as this store keeps it."""
    rules = settings.get("spells_stored", [])
    assert isinstance(rules, list)
    return [spelt(url, rules) for url in THEIRS]


def ours_in(store: SimulatedStore, slot: str, before: list[str]) -> list[str]:
    """What is not the others'."""
    return [url for url in store.urls(slot) if url not in before]


def most_writes(store: SimulatedStore) -> int:
    """Into one slot."""
    return max(store.calls.slots[f"write_slot:{slot}"] for slot in SLOTS)


def test_ten_stores_that_make_something_of_urls(shared: Pipeline) -> None:
    stores: dict[str, tuple[SimulatedStore, list[str]]] = {}
    for name, settings in STORES.items():
        before = kept_before(settings)
        store = shared.simulator.add(
            f"Spells-{len(stores)}", slots={slot: {"urls": before} for slot in SLOTS}, **settings
        )
        stores[name] = store, before
    connect(shared, *(store for store, _ in stores.values()))
    for _ in range(2):
        revalidate(shared, *(store for store, _ in stores.values()))
    for name, (store, before) in stores.items():
        status = shared.status(store.name)
        for slot in SLOTS:
            assert store.urls(slot)[: len(before)] == before, (name, "nobody else's URL is lost, nor changed")
            assert (name not in CAUSES) <= len(ours_in(store, slot, before)) <= 1, (name, "ours is there once at most")
            assert slot_statuses(status)[slot] == ("failed" if name in CAUSES else "registered"), name
        assert findings(status) == [(CAUSES[name], slot) for slot in SLOTS if name in CAUSES], name
        assert most_writes(store) <= MOST_WRITES, (name, calls(store))
    for store, _ in stores.values():
        ask(shared, "occ.disconnect", merchant_id=store.name)
    wait_until(
        lambda: {shared.status(store.name)["status"] for store, _ in stores.values()} == {"disconnected"},
        what="the disconnections",
    )
    for name, (store, before) in stores.items():
        left = {found for code, found in findings(shared.status(store.name)) if code == "left_behind"}
        for slot in SLOTS:
            assert store.urls(slot)[: len(before)] == before, name
            assert slot in left or not ours_in(store, slot, before), (name, "gone, or a finding says where it is left")
