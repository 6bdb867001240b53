"""What changed in a slot has a name; what is ours is mended once, and what is not ours is only told."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.connections.drift import MENDABLE, Drift, Seen
from integrations.errors import PermanentError, SlotNotFound, TransientError
from integrations.learnt import Spelling
from integrations.oracle_commerce.drift import drift_of, lost_settings, preview_of, remember
from integrations.oracle_commerce.registration import Registration, register, unregister
from integrations.oracle_commerce.slot import Ours
from integrations.oracle_commerce.spelling import mark_of
from occ.simulator.store import SimulatedStore
from tests.examples import examples
from tests.integrations.oracle_commerce.slot_stores import (
    FOREIGN,
    MINE,
    OURS,
    SLOT,
    SPELLINGS,
    THEIRS,
    DirectSlots,
    SlotInMemory,
    contents,
    foreign,
    ours,
)

PRODUCTION, PREVIEW = "production-submitOrder", "publishing-submitOrder"
CHANGED = (
    OURS.replace("https:", "http:"),
    OURS.replace("https://hooks.example.com", "http://hooks.example.com:80"),
    f"{OURS}/",
    f"{OURS}?retry=1",
    f"{OURS}#orders",
    OURS.replace("https://hooks", "HTTP://Hooks") + "/?a#b",
)
LEADS_HERE = tuple(url for url in CHANGED if "?" not in url)
NOT_OURS = (
    "https://hooks.example.com/occ/m-2/order-submit",
    "https://hooks.example.com/occ/m-1/order-update",
    "https://hooks.example.com/staging/m-1/order-submit",
    "https://staging.example.com/occ/m-1/order-submit",
    "https://hooks.example.com:8443/occ/m-1/order-submit",
    "https://hooks.example.com/occ/m-1/Order-Submit",
    "https://user:word@hooks.example.com/occ/m-1/order-submit",
    "https://hooks.example.com:port/occ/m-1/order-submit",
)


class Connected:
    """A store in which our callback URL is in order; what comes next is looked at with `look`."""

    def __init__(self, slot: str = SLOT, **changes: object) -> None:
        self.slot = slot
        self.store = SimulatedStore("s", **changes)  # type: ignore[arg-type]
        self.slots = DirectSlots(self.store)
        first = register(self.slots, slot, MINE, "urls")
        self.seen, self.spelling = first.seen, first.spelling
        self.store.reset_counts()

    def revalidate(self, *, repair: bool = True) -> Registration:
        """A re-validation of the slot."""
        ours = replace(MINE, remembered=self.spelling or Spelling())
        found = register(self.slots, self.slot, ours, "urls", once_registered=True, seen=self.seen, repair=repair)
        self.seen, self.spelling = found.seen, found.spelling
        return found

    def holds(self, **content: object) -> None:
        """Somebody changes the slot."""
        self.store.change(slots={self.slot: content})

    @property
    def calls(self) -> list[str]:
        """What we called since we were connected."""
        return [call.endpoint for call in self.store.calls.entries]

    @property
    def urls(self) -> list[str]:
        """What is in the slot now."""
        return self.store.urls(self.slot)


# --- One drift after the other, against a store that behaves like OCC ------------------------------------------------


def test_where_nothing_drifted_one_call_looks_and_nothing_is_written() -> None:
    connected = Connected(PRODUCTION, slots={PRODUCTION: {"urls": [THEIRS], "headers": {"X-A": "b"}}})
    for _ in range(3):
        found = connected.revalidate()
        assert (found.wrote, found.rival, found.drift, found.lost) == (False, False, (), ())
    assert connected.calls == ["read_slot"] * 3


def test_a_missing_url_is_named_and_put_back() -> None:
    connected = Connected()
    connected.holds(urls=[THEIRS])
    found = connected.revalidate()
    assert found.drift == (Drift.URL_MISSING,)
    assert found.wrote
    assert connected.urls == [THEIRS, OURS]
    assert connected.calls == ["read_slot", "write_slot"]
    assert connected.revalidate().drift == ()


def test_a_url_that_is_there_twice_is_named_and_reduced_to_one() -> None:
    connected = Connected()
    connected.holds(urls=[OURS, THEIRS, OURS])
    assert connected.revalidate().drift == (Drift.URL_DUPLICATED,)
    assert connected.urls == [THEIRS, OURS]
    assert connected.revalidate().drift == ()


@pytest.mark.parametrize("changed", CHANGED)
def test_our_url_written_differently_is_named_and_replaced(changed: str) -> None:
    connected = Connected()
    connected.holds(urls=[changed, THEIRS])
    found = connected.revalidate()
    assert found.drift == (Drift.URL_CHANGED,)
    assert not found.rival, "what we replaced ourselves is nobody else's doing"
    assert connected.urls == [THEIRS, OURS]
    assert connected.revalidate().drift == ()


def test_our_url_written_differently_in_a_slot_for_one_url_is_replaced() -> None:
    store = SimulatedStore("s", body_style="url", allows_http=True)
    seen = register(DirectSlots(store), SLOT, MINE, "url").seen
    store.change(slots={SLOT: {"urls": [CHANGED[0]]}})
    found = register(DirectSlots(store), SLOT, MINE, "url", once_registered=True, seen=seen)
    assert found.drift == (Drift.URL_CHANGED,)
    assert store.urls(SLOT) == [OURS]


def test_a_slot_that_is_gone_is_not_found_and_not_written() -> None:
    connected = Connected()
    connected.store.change(slots={SLOT: None})
    with pytest.raises(SlotNotFound) as gone:
        connected.revalidate()
    assert gone.value.code == "slot_not_offered"
    assert connected.calls == ["read_slot", "list_slots"]


def test_a_slot_that_is_gone_is_the_same_where_unknown_ids_are_bad_requests() -> None:
    connected = Connected(unknown_slot_status=400)
    connected.store.change(slots={SLOT: None})
    with pytest.raises(PermanentError) as gone:
        connected.revalidate()
    assert gone.value.code == "slot_not_offered"
    assert connected.store.calls.endpoints["write_slot"] == 0


def test_a_url_that_only_the_preview_carries_is_named_and_put_into_production() -> None:
    connected = Connected(PRODUCTION)
    connected.store.change(slots={PRODUCTION: {"urls": []}, PREVIEW: {"urls": [THEIRS, OURS]}})
    assert connected.revalidate().drift == (Drift.PREVIEW_ONLY,)
    assert connected.urls == [OURS]
    assert connected.store.urls(PREVIEW) == [THEIRS, OURS], "another slot is not this one's business"
    second_answer = ["list_slots", "read_slot"]  # an empty slot, where ours was
    assert connected.calls == ["read_slot", *second_answer, "write_slot", "list_slots"], "read and write are neighbours"
    assert connected.revalidate().drift == ()
    assert connected.calls[5:] == ["read_slot"]


def test_a_url_that_the_preview_does_not_carry_either_is_missing() -> None:
    connected = Connected(PRODUCTION)
    connected.store.change(slots={PRODUCTION: {"urls": []}, PREVIEW: {"urls": [THEIRS]}})
    assert connected.revalidate().drift == (Drift.URL_MISSING,)


@pytest.mark.parametrize("fault", [404, 405, 403, 503, "reset", "html_in_200", "broken_json", "hang"])
def test_a_store_without_a_list_is_mended_all_the_same(fault: object) -> None:
    connected = Connected(PRODUCTION)
    connected.store.change(slots={PRODUCTION: {"urls": []}, PREVIEW: {"urls": [OURS]}})
    connected.store.fail("list_slots", fault, fault)
    found = connected.revalidate()
    assert found.wrote
    assert found.drift == (Drift.URL_MISSING,)
    assert connected.urls == [OURS]


def test_a_lost_header_is_told_until_it_is_back_and_never_written() -> None:
    connected = Connected(slots={SLOT: {"headers": {"X-Integration": "acme", "X-Other": "o"}}})
    connected.holds(headers={"X-Other": "o"})
    for _ in range(2):
        found = connected.revalidate()
        assert found.drift == (Drift.SETTINGS_LOST,)
        assert found.lost == ("X-Integration",)
        assert not found.wrote
    connected.holds(headers={"x-integration": "new value", "X-Other": "o"})
    assert connected.revalidate().drift == ()
    assert connected.calls == ["read_slot"] * 3


@pytest.mark.parametrize("emptied", [None, {}, {"u": None}, "absent"])
def test_lost_basic_authentication_is_told_however_the_store_shows_it(emptied: object) -> None:
    connected = Connected(slots={SLOT: {"basicAuthentication": {"u": "p"}}}, masked_credentials=True)
    if emptied == "absent":
        connected.holds(missing=["basicAuthentication"])
    else:
        connected.store.change(masked_credentials=False)
        connected.holds(basicAuthentication=emptied)
    found = connected.revalidate()
    assert found.drift == (Drift.SETTINGS_LOST,)
    assert found.lost == ("basic authentication",)
    assert not found.wrote


def test_an_answer_to_our_write_that_tells_only_urls_does_not_hide_what_was_read() -> None:
    class Brief(SlotInMemory):
        def write_slot(self, slot_id: str, body: object) -> dict[str, object]:
            super().write_slot(slot_id, body)  # type: ignore[arg-type]
            return {"urls": self.urls}

    slot = Brief({"urls": [], "headers": {"X-Integration": "acme"}})
    seen = register(slot, SLOT, MINE, "urls").seen
    assert seen == Seen(headers=("X-Integration",))


@pytest.mark.parametrize("repair", [True, False])
def test_a_slot_that_nobody_may_read_is_still_remembered(repair: bool) -> None:
    connected = Connected(slots={SLOT: {"headers": {"X-Integration": "acme"}}})
    connected.store.change(faults={f"read_slot:{SLOT}": [405], "list_slots": [405]})
    seen = connected.seen
    assert connected.revalidate(repair=repair) == Registration(wrote=False, seen=seen)
    assert connected.revalidate(repair=repair).drift == ()


def test_a_reset_secret_is_told_once_where_it_can_be_seen() -> None:
    connected = Connected(PRODUCTION, shows_secrets=True)
    connected.store.reset_secret(PREVIEW)  # the twin shares it
    found = connected.revalidate()
    assert found.drift == (Drift.SECRET_RESET,)
    assert not found.wrote
    assert connected.revalidate().drift == ()


def test_a_reset_secret_is_not_guessed_where_it_cannot_be_seen() -> None:
    connected = Connected(PRODUCTION, shows_secrets=True)
    connected.store.change(shows_secrets=False)
    connected.store.reset_secret(PRODUCTION)
    assert connected.revalidate().drift == ()
    connected.store.change(shows_secrets=True)
    assert connected.revalidate().drift == (Drift.SECRET_RESET,), "what was known before is not forgotten meanwhile"


def test_everything_that_drifted_is_named_at_once() -> None:
    connected = Connected(slots={SLOT: {"headers": {"X-Integration": "acme"}}}, shows_secrets=True)
    connected.holds(urls=[f"{OURS}/"], headers=None)
    connected.store.reset_secret(SLOT)
    assert connected.revalidate().drift == (Drift.URL_CHANGED, Drift.SETTINGS_LOST, Drift.SECRET_RESET)
    assert connected.revalidate().drift == (Drift.SETTINGS_LOST,)


# --- A contested slot is only looked at ------------------------------------------------------------------------------


@pytest.mark.parametrize("urls", [[], [THEIRS], [f"{OURS}/"], [OURS, OURS]], ids=str)
def test_without_repair_nothing_is_written_and_the_drift_is_told(urls: list[str]) -> None:
    connected = Connected()
    seen = connected.seen
    connected.holds(urls=urls)
    for _ in range(2):
        found = connected.revalidate(repair=False)
        assert not found.wrote
        assert MENDABLE & {*found.drift}
        assert found.seen == seen, "only a slot in order is worth remembering"
    assert connected.urls == urls
    assert connected.calls == ["read_slot"] * 2


def test_without_repair_a_url_that_is_there_again_is_told_by_the_lack_of_drift() -> None:
    connected = Connected()
    connected.holds(urls=[THEIRS, SPELLINGS[1]])
    assert connected.revalidate(repair=False).drift == ()


@pytest.mark.parametrize("repair", [True, False])
def test_the_list_is_not_asked_for_where_our_url_is_there(repair: bool) -> None:
    connected = Connected(PRODUCTION)
    connected.revalidate(repair=repair)
    connected.holds(urls=[OURS, OURS])
    connected.revalidate(repair=repair)
    assert "list_slots" not in connected.calls


def test_without_repair_a_slot_that_cannot_be_read_is_not_written_either() -> None:
    slot = SlotInMemory({"urls": [THEIRS]}, readable=False)
    with pytest.raises(SlotNotFound):
        register(slot, SLOT, MINE, "urls", repair=False)
    assert slot.bodies == []


def test_without_repair_the_preview_is_looked_at_too() -> None:
    connected = Connected(PRODUCTION)
    connected.store.change(slots={PRODUCTION: {"urls": []}, PREVIEW: {"urls": [OURS]}})
    assert connected.revalidate(repair=False).drift == (Drift.PREVIEW_ONLY,)
    assert connected.calls == ["read_slot", "list_slots"]


# --- What is ours, and what is not -----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", NOT_OURS)
def test_a_url_of_another_merchant_slot_or_deployment_is_never_taken_for_ours(url: str) -> None:
    slot = SlotInMemory({"urls": [url]})
    known = Seen(alike=(mark_of(url),))  # since before ours went
    found = register(slot, SLOT, MINE, "urls", once_registered=True, seen=known)
    assert found.drift == (Drift.URL_MISSING,)
    assert slot.urls == [url, OURS]


@pytest.mark.parametrize(
    "url", [f"{OURS}/v2", f"{OURS}/ /", OURS[:-3], "https://user:word@hooks.example.com/occ/m-1/order-submit"]
)
def test_where_ours_was_nothing_is_added_beside_what_has_come_since_and_may_be_what_it_became(url: str) -> None:
    """Each repair of ours might become one more of them."""
    slot = SlotInMemory({"urls": [THEIRS, url]})
    with pytest.raises(PermanentError, match="url_in_doubt"):
        register(slot, SLOT, MINE, "urls", once_registered=True, seen=Seen())
    left = unregister(slot, SLOT, MINE, "urls", once_registered=True, seen=Seen()).left
    assert left is not None
    assert left[0] == "url_in_doubt", "and it is not called removed"
    assert slot.bodies == []


@pytest.mark.parametrize("spelt", LEADS_HERE)
def test_a_spelling_of_ours_that_was_there_is_ours_and_left_as_it_is(spelt: str) -> None:
    connected = Connected(slots={SLOT: {"urls": [spelt]}}, allows_http=True)
    assert connected.urls == [spelt]
    for _ in range(3):
        assert connected.revalidate() == Registration(wrote=False, seen=connected.seen, spelling=connected.spelling)
    assert connected.calls == ["read_slot"] * 3


@pytest.mark.parametrize("spelt", LEADS_HERE)
def test_a_spelling_that_comes_back_after_it_was_put_right_is_the_stores_own(spelt: str) -> None:
    """As where a write is answered with what was sent, and reading shows something else."""
    connected = Connected(allows_http=True)
    writes = 0
    for _ in range(5):
        connected.holds(urls=[spelt])
        writes += connected.revalidate().wrote
    assert writes == 1


@pytest.mark.parametrize("alike", [url for url in CHANGED if "?" in url])
def test_a_url_that_resembled_ours_before_it_went_is_somebody_elses(alike: str) -> None:
    """A deployment beside ours may differ in no more than its query, and does not lose its orders to our repair."""
    connected = Connected(slots={SLOT: {"urls": [alike]}}, allows_http=True)
    connected.holds(urls=[alike])
    assert connected.revalidate().drift == (Drift.URL_MISSING,)
    assert connected.urls == [alike, OURS]


@pytest.mark.parametrize("urls", [[f"{OURS}?b", f"{OURS}?a"], [f"{OURS}?a", OURS], [OURS, f"{OURS}?a"]], ids=str)
def test_a_resemblance_that_leaves_a_doubt_is_left_alone(urls: list[str]) -> None:
    connected = Connected()
    connected.holds(urls=urls)
    if OURS in urls:
        assert Drift.URL_CHANGED not in connected.revalidate().drift
    else:
        with pytest.raises(PermanentError, match="url_in_doubt"):
            connected.revalidate()
    assert connected.urls == urls


def test_of_a_slot_that_nothing_is_remembered_of_no_url_is_replaced() -> None:
    slot = SlotInMemory({"urls": [f"{OURS}?a"]})
    found = register(slot, SLOT, MINE, "urls", once_registered=True)
    assert found.drift == (Drift.URL_MISSING,)
    assert slot.urls == [f"{OURS}?a", OURS]


def test_where_the_query_tells_merchants_apart_another_query_is_another_merchant() -> None:
    first = "https://hooks.example.com/occ?merchant=m-1"
    for other, drift in (("?merchant=m-2", Drift.URL_MISSING), ("/?merchant=m-1", Drift.URL_CHANGED)):
        content: dict[str, object] = {"urls": [f"https://hooks.example.com/occ{other}"]}
        assert drift_of(content, Ours(first), Seen()) == (drift,)


def test_a_first_registration_is_no_drift() -> None:
    slot = SlotInMemory({"urls": [THEIRS]})
    assert register(slot, SLOT, MINE, "urls").drift == ()


@settings(max_examples=examples(300))
@given(contents(), st.lists(st.sampled_from((*FOREIGN, *SPELLINGS, *CHANGED)), max_size=5, unique=True), st.booleans())
def test_a_repair_takes_away_nothing_but_what_was_made_of_ours(
    content: dict[str, object], then: list[str], repair: bool
) -> None:
    slot = SlotInMemory(copy.deepcopy(content))
    seen = register(slot, SLOT, MINE, "urls").seen
    beside = {url for url in slot.urls if url != OURS}
    slot.content["urls"] = list(then)
    there, writes = copy.deepcopy(slot.settings), len(slot.bodies)

    known = drift_of({"urls": then}, MINE, seen)
    if repair and known == (Drift.URL_MISSING,) and any(MINE.may_be(url) and url not in beside for url in then):
        with pytest.raises(PermanentError, match="url_in_doubt"):
            register(slot, SLOT, MINE, "urls", once_registered=True, seen=seen)
        assert (slot.urls, len(slot.bodies)) == (then, writes)
        return
    found = register(slot, SLOT, MINE, "urls", once_registered=True, seen=seen, repair=repair)

    assert slot.settings == there
    lost = [url for url in foreign(then) if url not in slot.urls and url not in LEADS_HERE]
    if Drift.URL_CHANGED in found.drift and repair:
        assert set(lost) <= set(CHANGED)
        assert not lost or not ours(then)
        assert not beside & set(lost)
    else:
        assert lost == []
    assert found.wrote == (repair and bool(MENDABLE & {*found.drift}))
    assert len(slot.bodies) == writes + found.wrote
    if found.wrote:
        assert len([url for url in slot.urls if url in {*SPELLINGS, *LEADS_HERE}]) == 1
        again = register(slot, SLOT, MINE, "urls", once_registered=True, seen=found.seen)
        assert not MENDABLE & {*again.drift}
        assert not again.wrote, "one repair is enough"


# --- What is remembered ----------------------------------------------------------------------------------------------


def test_what_is_cut_off_like_ours_and_came_after_ours_is_not_remembered_as_somebody_elses() -> None:
    cut, shorter = OURS[:-3], OURS.rpartition("/")[0]
    seen = remember({"urls": [shorter, OURS]}, MINE)
    assert seen.alike == (mark_of(shorter),)
    assert remember({"urls": [shorter, cut, OURS]}, MINE, seen).alike == seen.alike


def test_no_value_is_remembered() -> None:
    values = ("Bearer s3cr3t-header", "s3cr3t-user", "s3cr3t-password", "czNjcjN0LWtleQ==", "czNjcjN0LWhhc2g=")
    content: dict[str, object] = {
        "urls": [OURS, f"{OURS}?token=s3cr3t"],
        "headers": {"Authorization": values[0]},
        "basicAuthentication": {values[1]: values[2]},
        "secretKey": values[3],
        "secretKeySHA512": values[4],
    }
    seen = remember(content, MINE)
    assert seen.headers == ("Authorization",)
    assert seen.basic_authentication
    assert seen.secret
    assert seen.alike
    assert not any(value in repr(seen) for value in (*values, "s3cr3t"))


@pytest.mark.parametrize(
    "content",
    [
        {"urls": [OURS]},
        {"urls": [OURS], "id": SLOT, "name": SLOT},
        {"urls": [OURS], "headers": "X-Integration=acme", "basicAuthentication": "u:p"},
        {"urls": [OURS], "headers": {"X-Integration": "acme"}, "basicAuthentication": {"u": "********"}},
    ],
    ids=str,
)
def test_what_a_store_does_not_tell_is_not_called_lost(content: dict[str, object]) -> None:
    """Such as the summary in a list of all slots."""
    seen = Seen(headers=("X-Integration",), basic_authentication=True, secret="secretKey:0123456789ab")
    assert drift_of(content, MINE, seen) == ()
    assert remember(content, MINE, seen) == seen


def test_only_names_that_a_header_can_have_are_remembered() -> None:
    headers = {"X-A": "1", "\ud800": "2", "X\nB": "3", "": "4", "X" * 200: "5", "X-Null": None}
    assert remember({"urls": [OURS], "headers": headers}, MINE).headers == ("X-A",)


@pytest.mark.parametrize("secret", [None, "", "********", 5])
def test_a_secret_that_is_not_shown_is_not_remembered(secret: object) -> None:
    assert remember({"urls": [OURS], "secretKey": secret}, MINE).secret == ""


def test_a_secret_and_its_hash_are_not_compared_with_each_other() -> None:
    seen = remember({"urls": [OURS], "secretKey": "a2V5"}, MINE)
    assert drift_of({"urls": [OURS], "secretKeySHA512": "aGFzaA=="}, MINE, seen) == ()


@settings(max_examples=examples(200))
@given(
    st.dictionaries(st.text(), st.none() | st.text() | st.lists(st.text()), max_size=60),
    st.sampled_from(("headers", "basicAuthentication")),
    st.text() | st.integers() | st.none(),
)
def test_whatever_a_store_answers_what_is_remembered_is_small_and_can_be_stored(
    held: dict[str, object], name: str, secret: object
) -> None:
    content: dict[str, object] = {"urls": [OURS], name: held, "secretKey": secret}
    seen = remember(content, MINE, Seen(headers=("X-A",) * 40))
    assert len(seen.headers) <= 32
    assert len(json.dumps([*seen.headers, seen.secret, *seen.alike]).encode()) < 6000
    if len(held) < 30:
        assert lost_settings(content, remember(content, MINE)) == ()


def test_many_urls_that_resemble_ours_are_too_many_to_know_them_apart() -> None:
    many = [f"{OURS}?copy={number}" for number in range(20)]
    seen = remember({"urls": [OURS, *many]}, MINE)
    assert len(seen.alike) <= 8
    for url in many:
        assert drift_of({"urls": [url]}, MINE, seen) == (Drift.URL_MISSING,)


@pytest.mark.parametrize(
    ("slot_id", "preview"),
    [(PRODUCTION, PREVIEW), (PREVIEW, None), (SLOT, None), ("production", None)],
)
def test_only_a_production_slot_has_a_preview(slot_id: str, preview: str | None) -> None:
    assert preview_of(slot_id) == preview


@pytest.mark.parametrize("content", [{"urls": 5}, {"success": True}], ids=str)
def test_what_cannot_be_read_has_not_drifted_but_is_an_error(content: dict[str, object]) -> None:
    with pytest.raises((PermanentError, TransientError)):
        drift_of(content, MINE, Seen())
