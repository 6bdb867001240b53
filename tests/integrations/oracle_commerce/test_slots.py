"""What a slot carries is read in every spelling, and what we write never names anything but URLs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import PermanentError, TransientError
from integrations.oracle_commerce import slot as slots
from tests.examples import examples

OURS = "https://hooks.example.com/occ/m-1/order-submit"
THEIRS = "https://oms.example.net/in?slot=Order"
OTHERS = "https://erp.example.org:8443/a,b"

UNREADABLE = [
    {"urls": 5},
    {"urls": True},
    {"urls": {"0": THEIRS}},
    {"urls": [5]},
    {"urls": [[THEIRS]]},
    {"urls": [{"url": THEIRS}]},
    {"urls": [THEIRS, 0]},
    {"url": 5},
    {"url": {"href": THEIRS}},
]


@pytest.mark.parametrize(
    ("content", "urls"),
    [
        ({}, ()),
        ({"urls": None}, ()),
        ({"urls": []}, ()),
        ({"urls": ""}, ()),
        ({"url": None}, ()),
        ({"urls": [THEIRS]}, (THEIRS,)),
        ({"urls": [THEIRS, None, "", " "]}, (THEIRS,)),
        ({"urls": None, "url": THEIRS}, (THEIRS,)),
        ({"url": THEIRS}, (THEIRS,)),
        ({"url": [THEIRS, OTHERS]}, (THEIRS, OTHERS)),
        ({"urls": THEIRS}, (THEIRS,)),
        ({"urls": f"{THEIRS},{OTHERS}"}, (THEIRS, OTHERS)),
        ({"urls": f"{OTHERS},\n {THEIRS}"}, (OTHERS, THEIRS)),
    ],
)
def test_urls_are_read_however_the_store_writes_them(content: dict[str, object], urls: tuple[str, ...]) -> None:
    assert slots.urls_in(content) == urls


@pytest.mark.parametrize("text", [f"{THEIRS}, HTTPS://ERP.example.org/x", f"{THEIRS} , https://erp.example.org/x"])
def test_two_urls_in_one_text_are_two_urls_in_any_case_and_spacing(text: str) -> None:
    assert [url.lower() for url in slots.urls_in({"urls": text})] == [THEIRS.lower(), "https://erp.example.org/x"]


@pytest.mark.parametrize("content", UNREADABLE, ids=str)
@pytest.mark.parametrize("style", ["urls", "url"])
def test_contents_that_cannot_be_told_are_never_written(content: dict[str, object], style: slots.BodyStyle) -> None:
    with pytest.raises(PermanentError) as refused:
        slots.registration_body(content, OURS, style)
    assert refused.value.code == "slot_unreadable"


@pytest.mark.parametrize(
    "spelling",
    [
        OURS,
        "https://HOOKS.example.COM/occ/m-1/order-submit",
        "HTTPS://hooks.example.com:443/occ/m-1/order-submit",
        f" {OURS} ",
    ],
)
def test_our_url_is_recognised_as_the_store_spells_it(spelling: str) -> None:
    assert slots.registration_body({"urls": [THEIRS, spelling]}, OURS, "urls") is None
    assert slots.foreign((THEIRS, spelling), OURS) == (THEIRS,)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/occ/m-1/order-submit",
        "https://hooks.example.com:8443/occ/m-1/order-submit",
        "https://hooks.example.com/occ/m-1/order-submit/",
        "https://hooks.example.com/occ/m-1/Order-Submit",
        "https://hooks.example.com/occ/m-1/order-submit?x=1",
        "https://hooks.example.com/occ/m-10/order-submit",
        "https://hooks.example.com/occ/m-1/order-update",
        "https://user@hooks.example.com/occ/m-1/order-submit",
        "https://:word@hooks.example.com/occ/m-1/order-submit",
        "https://hooks.example.com.evil.example/occ/m-1/order-submit",
        "https://hooks.example.com:port/occ/m-1/order-submit",
        "https://[::1/occ/m-1/order-submit",
        "//hooks.example.com/occ/m-1/order-submit",
        "not a url",
    ],
)
def test_a_url_that_only_resembles_ours_is_somebody_elses(url: str) -> None:
    assert slots.registration_body({"urls": [url]}, OURS, "urls") == {"urls": [url, OURS]}
    with pytest.raises(PermanentError) as occupied:
        slots.registration_body({"url": url}, OURS, "url")
    assert occupied.value.code == "slot_occupied"


def test_our_url_twice_becomes_our_url_once() -> None:
    content = {"urls": [OURS, THEIRS, OURS.upper().replace("/OCC/M-1/ORDER-SUBMIT", "/occ/m-1/order-submit")]}
    assert slots.registration_body(content, OURS, "urls") == {"urls": [THEIRS, OURS]}


def test_a_slot_for_one_url_takes_ours_only_when_it_is_empty() -> None:
    assert slots.registration_body({"url": None}, OURS, "url") == {"url": OURS}
    assert slots.registration_body({"url": OURS}, OURS, "url") is None


@pytest.mark.parametrize("urls", [[], [OURS]])
def test_a_foreign_url_beside_a_list_is_not_overlooked(urls: list[str]) -> None:
    """A store may show both properties; the single URL may be the one that counts."""
    content = {"urls": urls, "url": THEIRS}
    assert THEIRS in slots.urls_in(content)
    with pytest.raises(PermanentError) as occupied:
        slots.registration_body(content, OURS, "url")
    assert occupied.value.code == "slot_occupied"


@pytest.mark.parametrize(
    ("content", "style", "body"),
    [
        ({"urls": [THEIRS, OURS, OTHERS]}, "urls", {"urls": [THEIRS, OTHERS]}),
        ({"urls": f"{OURS}, {THEIRS}"}, "urls", {"urls": [THEIRS]}),
        ({"urls": [OURS, OURS.replace("hooks", "HOOKS")]}, "urls", {"urls": []}),
        ({"urls": [THEIRS, f"{OURS}/"]}, "urls", None),
        ({"urls": None}, "urls", None),
        ({"url": OURS}, "url", {"url": None}),
        ({"urls": [OURS], "url": OURS}, "url", {"url": None}),
        ({"url": THEIRS}, "url", None),
    ],
    ids=str,
)
def test_a_removal_names_what_stays(content: dict[str, object], style: slots.BodyStyle, body: object) -> None:
    assert slots.removal_body(content, OURS, style) == body


def test_what_came_back_must_not_show_our_url() -> None:
    slots.check_removed({"urls": [THEIRS]}, OURS)
    with pytest.raises(TransientError) as kept:
        slots.check_removed({"urls": [THEIRS, OURS]}, OURS)
    assert kept.value.code == "removal_not_kept"


def test_only_what_we_replaced_ourselves_is_no_change_of_somebody_elses() -> None:
    stale = f"{OURS}/"
    read, came_back = {"urls": [THEIRS, stale]}, {"urls": [THEIRS, OURS]}
    assert not slots.changed_meanwhile(read, came_back, OURS, stale=[stale])
    assert slots.changed_meanwhile(read, came_back, OURS)
    assert slots.changed_meanwhile(read, {"urls": [THEIRS, OURS, stale]}, OURS, stale=[stale])


def test_what_came_back_must_show_our_url_once() -> None:
    slots.check_registered({"urls": [THEIRS, OURS]}, OURS)
    for urls in ([], [THEIRS], [OURS, OURS]):
        with pytest.raises(TransientError) as lost:
            slots.check_registered({"urls": urls}, OURS)
        assert lost.value.code == "registration_not_kept"


@pytest.mark.parametrize(
    ("read", "came_back"),
    [
        ({"urls": [THEIRS]}, {"urls": [THEIRS, OURS]}),
        ({"urls": [THEIRS], "resendDelaySeconds": 3600}, {"urls": [THEIRS, OURS], "resendDelaySeconds": "3600"}),
        ({"urls": None, "headers": None}, {"urls": [OURS], "headers": {}}),
        ({"urls": [], "includeChangesOnly": False}, {"urls": [OURS], "includeChangesOnly": "false"}),
        ({"urls": [], "headers": {"a": "b"}}, {"urls": [OURS]}),
        ({"urls": [], "secretKey": None}, {"urls": [OURS], "secretKey": "x"}),
    ],
)
def test_the_stores_own_spelling_is_no_change(read: dict[str, object], came_back: dict[str, object]) -> None:
    assert not slots.changed_meanwhile(read, came_back, OURS)


@pytest.mark.parametrize(
    ("read", "came_back"),
    [
        ({"urls": [THEIRS]}, {"urls": [OURS]}),
        ({"urls": [THEIRS]}, {"urls": [THEIRS, OURS, OTHERS]}),
        ({"urls": [], "headers": {"a": "b"}}, {"urls": [OURS], "headers": {"a": "c"}}),
        ({"urls": [], "maxNumberOfResendAttempts": "5"}, {"urls": [OURS], "maxNumberOfResendAttempts": 4}),
        ({"urls": [], "basicAuthentication": {"u": "p"}}, {"urls": [OURS], "basicAuthentication": None}),
    ],
)
def test_what_somebody_else_changed_meanwhile_is_seen(read: dict[str, object], came_back: dict[str, object]) -> None:
    assert slots.changed_meanwhile(read, came_back, OURS)


@pytest.mark.parametrize("came_back", [[OURS, OTHERS, THEIRS], [THEIRS.replace("oms", "OMS"), OTHERS, OURS]])
def test_a_store_that_sorts_or_respells_urls_is_no_rival(came_back: list[str]) -> None:
    assert not slots.changed_meanwhile({"urls": [THEIRS, OTHERS]}, {"urls": came_back}, OURS)


def test_a_callback_url_without_a_path_is_recognised_with_the_slash_the_store_adds() -> None:
    """Not recognised, every pass would write it once more, beside the one that is there."""
    ours = "https://hooks.example.com?merchant=m-1"
    assert slots.registration_body({"urls": ["https://hooks.example.com/?merchant=m-1"]}, ours, "urls") is None


@settings(max_examples=examples(100))
@given(merchant=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", fullmatch=True), name=st.text(min_size=1))
def test_every_merchant_and_slot_has_a_callback_url_of_its_own(merchant: str, name: str) -> None:
    url = slots.callback_url_for("https://h.example/{merchant_id}/{slot}", merchant, name)
    assert url.count("/") == 4
    assert url.isascii()
    assert url != slots.callback_url_for("https://h.example/{merchant_id}/{slot}", f"{merchant}0", name)
    assert slots.registration_body({"urls": [url]}, url, "urls") is None
