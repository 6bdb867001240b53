"""What a slot carries is read in every spelling, and what we write never names anything but URLs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import PermanentError
from integrations.learnt import Spelling
from integrations.oracle_commerce import look_back
from integrations.oracle_commerce import slot as slots
from integrations.oracle_commerce.look_back import After, LookBack
from integrations.oracle_commerce.slot import Ours, Plan
from integrations.oracle_commerce.spelling import Template, mark_of, same
from tests.examples import examples

OURS = "https://hooks.example.com/occ/m-1/order-submit"
THEIRS = "https://oms.example.net/in?slot=Order"
MINE = Ours(OURS, template="https://hooks.example.com/occ/{merchant_id}/{slot}")
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


def write(urls: list[str], ours: Ours = MINE) -> list[str] | None:
    """What a plan says to write into a slot with these URLs; it refuses nothing."""
    plan = slots.plan({"urls": urls}, ours, "urls")
    assert plan.refused is None
    return None if plan.write is None else [*plan.write]


def came_to(read: list[str], back: list[str], ours: Ours = MINE, *, is_answer: bool = True) -> LookBack:
    """What a write came to: planned for what was read, and shown as that."""
    sent = slots.plan({"urls": read}, ours, "urls").write
    assert sent is not None
    return look_back.look_back({"urls": read}, sent, {"urls": back}, ours, is_answer=is_answer)


@pytest.mark.parametrize("content", UNREADABLE, ids=str)
@pytest.mark.parametrize("style", ["urls", "url"])
def test_contents_that_cannot_be_told_are_never_written(content: dict[str, object], style: slots.BodyStyle) -> None:
    for plan in (slots.plan, slots.plan_removal):
        with pytest.raises(PermanentError) as refused:
            plan(content, MINE, style)
        assert refused.value.code == "slot_unreadable"


# --- What is ours ----------------------------------------------------------------------------------------------------

SPELLINGS = [
    OURS,
    "https://HOOKS.example.COM/occ/m-1/order-submit",
    "HTTPS://hooks.example.com:443/occ/m-1/order-submit",
    f" {OURS} ",
    f"{OURS}/",
    f"{OURS}//",
    "http://hooks.example.com/occ/m-1/order-submit",
    "http://hooks.example.com:80/occ//m-1/order-submit/",
    "https://hooks.example.com./occ/m-1/order-submit",
    "https://hooks.example.com/occ/m%2D1/order%2dsubmit",
    "https://hooks.example.com/occ/m%252D1/order-submit",
    "https://hooks.example.com/occ%2Fm-1%2Forder-submit",
    "https%3A%2F%2Fhooks.example.com%2Focc%2Fm-1%2Forder-submit",
    "https:&#x2F;&#47;hooks.example.com&sol;occ/m-1/order-submit",
    "https:\\/\\/hooks.example.com\\/occ\\/m-1\\/order-submit",
    "https:\\u002f\\u002Fhooks.example.com/occ/m-1/order-submit",
    f"<{OURS}>",
    f'"{OURS}"',
    f"{OURS}?",
    f"{OURS}#orders",
]
OF_OTHERS = [
    "https://hooks.example.com:8443/occ/m-1/order-submit",
    "https://hooks.example.com/occ/m-1/Order-Submit",
    "https://hooks.example.com/occ/M-1/order-submit",
    "https://hooks.example.com/occ/m-1/order-submit?x=1",
    "https://hooks.example.com/occ/m-10/order-submit",
    "https://hooks.example.com/occ/m-1/order-update",
    "https://hooks.example.com/partner/m-1/order-submit",
    "https://hooks.example.com/occ/m-1/order-submit/v2",
    "https://user@hooks.example.com/occ/m-1/order-submit",
    "https://:word@hooks.example.com/occ/m-1/order-submit",
    "https://hooks.example.com.evil.example/occ/m-1/order-submit",
    "https://evil.example/?u=https%3A%2F%2Fhooks.example.com%2Focc%2Fm-1%2Forder-submit",
    "https://hooks.example.com:port/occ/m-1/order-submit",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_our_url_is_recognised_by_where_it_leads(spelling: str) -> None:
    assert write([THEIRS, spelling]) is None
    assert MINE.foreign((THEIRS, spelling)) == (THEIRS,)
    assert slots.plan_removal({"urls": [THEIRS, spelling]}, MINE, "urls") == Plan(write=(THEIRS,))


@pytest.mark.parametrize("url", OF_OTHERS)
def test_a_url_that_only_resembles_ours_is_somebody_elses(url: str) -> None:
    assert write([url]) == [url, OURS]
    assert slots.plan({"url": url}, MINE, "url") == Plan(refused=("slot_occupied", ""))
    assert slots.plan_removal({"urls": [url]}, MINE, "urls") == Plan()


@pytest.mark.parametrize(
    "cut", ["https://hooks.example.com/occ/m-1/order-submi", "https://hooks.example.com/occ/m-1", "https://hooks.ex"]
)
def test_what_may_be_left_of_ours_is_not_called_removed(cut: str) -> None:
    """Also if it did not come with a write that we know of."""
    assert write([cut]) == [cut, OURS], "it may as well be somebody else's"
    in_doubt = Plan(refused=("url_in_doubt", cut)) if "/occ/" in cut else Plan()
    for shown in ([cut], [THEIRS, cut], [cut, cut]):
        assert slots.plan_removal({"urls": shown}, MINE, "urls") == in_doubt
    assert slots.plan_removal({"urls": [cut, OURS]}, MINE, "urls") == Plan(write=(cut,))


@pytest.mark.parametrize(
    ("shown", "is_ours"),
    [
        ("https://hooks.example.com/?slot=s&merchant=m-1", True),
        ("https://hooks.example.com?merchant=m-1&amp;slot=s", True),
        ("https://hooks.example.com/?merchant=m%2d1&slot=s", True),
        ("https://hooks.example.com/?merchant=m-2&slot=s", False),
        ("https://hooks.example.com/?merchant=m-1", False),
        ("https://hooks.example.com/", False),
        ("https://hooks.example.com/?merchant=m-1&slot=s&slot=t", False),
    ],
)
def test_where_the_query_tells_merchants_apart_it_counts(shown: str, is_ours: bool) -> None:
    ours = Ours("https://hooks.example.com?merchant=m-1&slot=s")
    assert ours.is_current(shown) == is_ours


@settings(max_examples=examples(200))
@given(
    merchants=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,20}", fullmatch=True), min_size=2, max_size=6),
    template=st.sampled_from(
        [
            "https://h.example/{merchant_id}/{slot}",
            "https://h.example/{slot}/{merchant_id}",
            "https://h.example/?m={merchant_id}&s={slot}",
            "https://h.example/x?s={slot}&m={merchant_id}",
            "https://h.example/a%2Fb/{merchant_id}.{slot}/",
        ]
    ),
)
def test_no_callback_url_is_taken_for_another_merchants(merchants: list[str], template: str) -> None:
    urls = {merchant: slots.callback_url_for(template, merchant, "order-submit") for merchant in merchants}
    for merchant, url in urls.items():
        others = [it for name, it in urls.items() if name != merchant]
        assert Ours(url, template=template).foreign([url, *others]) == tuple(others)


@pytest.mark.parametrize(
    ("url", "other", "is_same"),
    [
        ("https://b\u00fccher.example/in", "https://xn--bcher-kva.example/in", True),
        ("https://B\u00dcCHER.example/in", "https://b\u00fccher.example/in", True),
        ("https://stra\u00dfe.example/in", "https://strasse.example/in", False),  # another name since IDNA 2008
        (f"https://a.example/{'x' * 9000}", f"https://a.example/{'x' * 9000}y", False),
        (f"https://a.example/{'x' * 9000}", f"https://a.example/{'x' * 9000}", True),
    ],
)
def test_what_other_programs_tell_apart_is_not_the_same_to_us(url: str, other: str, *, is_same: bool) -> None:
    assert same(url, other) == is_same
    assert slots.agree({"urls": [url]}, {"urls": [other]}) == is_same


@pytest.mark.parametrize(
    ("template", "another"),
    [
        ("https://h.example/{slot}-{merchant_id}", "https://h.example/order-submit-m-1-1"),
        ("https://h.example/{slot}-{merchant_id}", "https://h.example/order-submit-1"),
        ("https://h.example/{merchant_id}.{slot}", "https://h.example/m-1.x.order-submit"),
        ("https://h.example/?{slot}={merchant_id}", "https://h.example/?order-submit=m-1-1&via=store"),
        ("https://h.example/occ/{merchant_id}/{slot}", "https://h.example/occ/M-1/order-submit"),
    ],
)
def test_a_url_that_may_be_another_merchants_is_not_taken_for_what_became_of_ours(template: str, another: str) -> None:
    """Also where ids and slots run together, and one may end with another."""
    ours = slots.callback_url_for(template, "m-1", "order-submit")
    assert Template(template).is_anothers(another, ours)
    assert not Template(template).is_anothers(f"{ours}/", ours)
    back = came_to([THEIRS], [THEIRS, another], Ours(ours, template=template))
    assert (back.after, back.put_back) == (After.IN_DOUBT, None)


def test_our_url_twice_becomes_our_url_once() -> None:
    assert write([OURS, THEIRS, OURS.replace("https://hooks", "HTTPS://HOOKS")]) == [THEIRS, OURS]


def test_a_slot_for_one_url_takes_ours_only_when_it_is_empty() -> None:
    assert slots.plan({"url": None}, MINE, "url") == Plan(write=(OURS,))
    assert slots.plan({"url": OURS}, MINE, "url") == Plan()
    assert slots.body_of([OURS], "url") == {"url": OURS}
    assert slots.body_of([], "url") == {"url": None}


@pytest.mark.parametrize("urls", [[], [OURS]])
def test_a_foreign_url_beside_a_list_is_not_overlooked(urls: list[str]) -> None:
    """A store may show both properties; the single URL may be the one that counts."""
    content = {"urls": urls, "url": THEIRS}
    assert THEIRS in slots.urls_in(content)
    assert slots.plan(content, MINE, "url") == Plan(refused=("slot_occupied", ""))


@pytest.mark.parametrize(
    ("content", "style", "plan"),
    [
        ({"urls": [THEIRS, OURS, OTHERS]}, "urls", Plan((THEIRS, OTHERS))),
        ({"urls": f"{OURS}, {THEIRS}"}, "urls", Plan((THEIRS,))),
        ({"urls": [OURS, OURS.replace("hooks", "HOOKS")]}, "urls", Plan(())),
        ({"urls": [THEIRS, f"{OURS}?a=b"]}, "urls", Plan()),
        ({"urls": None}, "urls", Plan()),
        ({"url": OURS}, "url", Plan(())),
        ({"urls": [OURS], "url": OURS}, "url", Plan(())),
        ({"url": THEIRS}, "url", Plan()),
        ({"url": THEIRS, "urls": [OURS]}, "url", Plan(refused=("slot_unreadable", ""))),
        ({"urls": [THEIRS, THEIRS, OURS]}, "urls", Plan(refused=("urls_multiplied", "oms.example.net"))),
    ],
    ids=str,
)
def test_a_removal_names_what_stays(content: dict[str, object], style: slots.BodyStyle, plan: Plan) -> None:
    assert slots.plan_removal(content, MINE, style) == plan


def test_what_is_shown_twice_is_never_sent_back() -> None:
    """A store that shows every URL twice would hold it four times after that."""
    for urls in ([THEIRS, THEIRS], [OTHERS, THEIRS, OTHERS, OURS, OURS]):
        plan = slots.plan({"urls": urls}, MINE, "urls")
        assert plan.write is None
        assert plan.refused is not None
        assert plan.refused[0] == "urls_multiplied"


@pytest.mark.parametrize(
    "shown",
    [
        "https://[::1/occ/m-1/order-submit",
        "//hooks.example.com/occ/m-1/order-submit",
        "ftp://oms.example.net/in",
        "not a url",
        "uggcf://bzf.rknzcyr.arg/va",
        "aHR0cHM6Ly9vbXMuZXhhbXBsZS5uZXQvaW4=",
        "https%3A%2F%2Foms.example.net%2Fin",
        "https://oms.example.net/in?a=1&amp;b=2",
        "https://oms.example.net/in?a=1&amp%3Bb=2",
        "https://oms.example.net/in?a=1&#38%3bb=2",
        "https:\\/\\/oms.example.net\\/in",
        "https://oms.example.net/in?token=******",
        "https://oms.example.net/a/long/pa\u2026",
        "https://oms.example.net/in; https://erp.example.net/in",
        "https://oms.example.net/in https://erp.example.net/in",
        "https://oms.example.net/in,",
    ],
)
def test_what_may_be_an_escaped_url_is_never_sent_back(shown: str) -> None:
    """Sent as it is shown, it may be escaped twice after that, and lead nowhere."""
    for urls in ([shown], [shown, OURS, OURS]):
        plan = slots.plan({"urls": urls}, MINE, "urls")
        assert plan.write is None
        assert plan.refused is not None
        assert plan.refused[0] == "slot_unreadable"
    assert slots.plan({"urls": [shown, OURS]}, MINE, "urls") == Plan()
    assert slots.plan_removal({"urls": [shown, OURS]}, MINE, "urls").write is None


@pytest.mark.parametrize("held", [[None], [THEIRS, None]])
def test_a_list_that_hides_a_url_is_never_sent_back(held: list[object]) -> None:
    """A null in it may stand for a URL that is not for us."""
    refused = Plan(refused=("slot_unreadable", "it does not show all that it holds"))
    assert slots.plan({"urls": held}, MINE, "urls") == refused
    assert slots.plan({"urls": [*held, OURS]}, MINE, "urls") == Plan()
    for urls in (held, [*held, OURS]):
        assert slots.plan_removal({"urls": urls}, MINE, "urls") == refused


# --- What a write came to --------------------------------------------------------------------------------------------


def test_what_came_back_must_show_our_url_once() -> None:
    assert came_to([THEIRS], [THEIRS, OURS]) == LookBack(After.IN_ORDER, (), False, Spelling())
    for back in ([THEIRS], [THEIRS, OURS, OURS]):
        assert came_to([THEIRS], back).after is After.NOT_SHOWN


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_of_the_stores_own_is_in_order_and_remembered(spelling: str) -> None:
    back = came_to([THEIRS], [spelling, THEIRS])
    assert back.after is After.IN_ORDER
    assert set(back.spelling.ours) == {mark_of(spelling)} - {mark_of(OURS)}


@pytest.mark.parametrize(
    "bent",
    [
        "https://hooks.example.com/occ/m-1/order-su",
        "https://hooks.example.com/occ/m-",
        "https://hooks.example.com/occ/m-1/order%",
        "https://hooks.example.com/occ/m-1...",
        "https://safe.example/?u=https%3A%2F%2Fhooks.example.com%2Focc%2Fm-1%2Forder-submit",
        "https://user@hooks.example.com/occ/m-1/order-submit",
    ],
)
def test_what_became_of_ours_and_leads_elsewhere_comes_out_again(bent: str) -> None:
    back = came_to([THEIRS], [THEIRS, bent])
    assert (back.after, back.about, back.put_back) == (After.BENT, (bent,), (THEIRS,))
    known = Ours(OURS, remembered=back.spelling)
    assert slots.plan({"urls": [THEIRS, bent]}, known, "urls").write == (THEIRS,)
    assert slots.plan_removal({"urls": [THEIRS, bent]}, known, "urls") == Plan((THEIRS,))
    assert write([THEIRS, bent]) == [THEIRS, bent, OURS], "without that memory it is somebody else's"


@pytest.mark.parametrize(
    "came",
    [
        "https://rival.example.net/hook",
        "https://hooks.example.com/occ/m-2/order-submit",
        "https://hooks.example.com/occ/M-1/order-submit",
        "uggcf://ubbxf.rknzcyr.pbz/bpp/z-1",
    ],
)
def test_what_came_with_our_write_and_may_be_anybodys_is_left_alone(came: str) -> None:
    back = came_to([THEIRS], [THEIRS, came])
    assert (back.after, back.about, back.put_back) == (After.IN_DOUBT, (came,), None)
    known = Ours(OURS, remembered=back.spelling)
    for plan in (slots.plan({"urls": [came]}, known, "urls"), slots.plan({"urls": [came, THEIRS]}, known, "urls")):
        assert plan == Plan(refused=("url_in_doubt", came))
    assert slots.plan_removal({"urls": [came]}, known, "urls") == Plan(refused=("url_in_doubt", came))
    assert known.in_doubt([came, THEIRS]) == (came,)
    assert slots.plan({"urls": [THEIRS]}, known, "urls").write == (THEIRS, OURS), "once it is gone we may try again"


def test_what_was_in_doubt_is_still_in_doubt_in_another_spelling() -> None:
    """Another merchant's write may have changed it."""
    upper = "https://hooks.example.com/OCC/M-1/ORDER-SUBMIT"
    known = Ours(OURS, template=MINE.template, remembered=came_to([THEIRS], [THEIRS, upper]).spelling)
    for shown in (upper, f"{upper}?VIA=STORE"):
        assert slots.plan({"urls": [THEIRS, shown]}, known, "urls").write is None


def test_what_two_of_ours_look_alike_in_is_nobodys() -> None:
    """Cut off, the URLs of m-1 and m-10 are one; the one that was there is not ours to take out."""
    cut = "https://hooks.example.com/occ/m-1"
    back = came_to([cut], [cut, cut])
    assert (back.after, back.put_back) == (After.BENT, (cut,))
    known = Ours(OURS, remembered=back.spelling)
    assert known.in_doubt([cut]) == (cut,), "it may be ours from before"
    assert slots.plan_removal({"urls": [cut]}, known, "urls") == Plan(refused=("url_in_doubt", cut))


def test_a_longer_query_that_came_with_our_write_is_ours() -> None:
    longer = f"{OURS}?source=store"
    back = came_to([THEIRS], [THEIRS, longer])
    assert back.after is After.IN_ORDER
    assert write([THEIRS, longer], Ours(OURS, remembered=back.spelling)) is None


def test_what_came_after_a_write_that_nobody_saw_the_end_of_is_known_too() -> None:
    cut = "https://hooks.example.com/occ/m-1/ord"
    sent = Ours(OURS, remembered=look_back.unconfirmed({"urls": [THEIRS]}, MINE))
    assert look_back.recollect({"urls": [THEIRS]}, sent) == sent
    assert look_back.recollect({"urls": [THEIRS, cut]}, sent).is_bent(cut)
    assert not look_back.recollect({"urls": [cut]}, sent).includes(cut), (
        "instead of another: that is no more than before"
    )
    assert look_back.recollect({"urls": [THEIRS, OTHERS]}, sent).in_doubt([OTHERS]) == (OTHERS,)
    assert look_back.recollect({"urls": [THEIRS, OURS, OTHERS]}, sent).in_doubt([OTHERS]) == ()


@pytest.mark.parametrize(
    ("like", "is_doubted"),
    [
        ("HTTPS://HOOKS.EXAMPLE.COM/OCC/M-1/ORDER-SUBMIT", True),
        ("https://hooks.example.com/occ/m-", True),
        ("https://hooks.example.com:443/occ%252fm?via=store", True),
        ("https://hooks.example.com/occ/M-1/order-submit?via=store", True),
        ("https://hooks.example.com/occ/m-2/order-submit?via=store", False),
        ("https://hooks.example.com/occ/M-1/order-submit", False),
        ("https://hooks.example.com/occ/m-2/order-submit/", False),
        (THEIRS, False),
    ],
)
def test_after_a_write_that_came_to_nothing_ours_may_have_come_out_as_what_the_store_makes_of_another_alike(
    like: str, *, is_doubted: bool
) -> None:
    """It may have pushed that one out, in the same letters. As another merchant's is made, it is theirs."""
    ours = Ours(OURS, template="https://hooks.example.com/occ/{merchant_id}/{slot}", age=120.0)
    sent = replace(ours, remembered=look_back.unconfirmed({"urls": [OTHERS, like]}, ours))
    assert look_back.recollect({"urls": [OTHERS, like]}, sent).in_doubt([like]) == ((like,) if is_doubted else ())
    assert look_back.recollect({"urls": [like, OTHERS]}, sent, [mark_of(like)]).remembered == Spelling()


def test_what_is_as_a_shorter_merchants_is_made_may_be_how_ours_came_out_after_a_write_that_came_to_nothing() -> None:
    template, like = "https://hooks.example.com/{slot}/{merchant_id}", "https://hooks.example.com/order-submit/m"
    ours = Ours(slots.callback_url_for(template, "m-10", "order-submit"), template=template, age=120.0)
    sent = replace(ours, remembered=look_back.unconfirmed({"urls": [THEIRS, like]}, ours))
    assert look_back.recollect({"urls": [THEIRS, like]}, sent).in_doubt([like]) == (like,)


def test_what_comes_long_after_a_write_that_nobody_saw_the_end_of_is_not_taken_for_ours() -> None:
    like_ours = "https://hooks.example.com/occ/m-1/ord"
    sent = Ours(OURS, remembered=look_back.unconfirmed({"urls": [THEIRS]}, MINE))
    late = look_back.recollect({"urls": [THEIRS, like_ours]}, replace(sent, age=2 * 3600.0))
    assert (late.is_bent(like_ours), late.in_doubt([like_ours])) == (False, (like_ours,))
    over = look_back.recollect({"urls": [THEIRS]}, replace(sent, age=120.0))
    assert over.remembered == Spelling(), "it came to nothing, and whatever comes now is somebody else's"
    soon = look_back.recollect({"urls": [THEIRS]}, replace(sent, age=10.0))
    assert soon.remembered == sent.remembered, "it may not show yet"


@pytest.mark.parametrize(
    "altered",
    [
        f"{THEIRS[:-1]}",
        THEIRS.partition("?")[0],
        THEIRS.replace("https", "http"),
        THEIRS.lower(),
        THEIRS.replace("/in", "/in/"),
        f"{THEIRS}&a=b",
        THEIRS.replace("=", "%3D"),
    ],
)
def test_a_url_of_somebody_elses_that_is_not_as_it_was_is_noticed(altered: str) -> None:
    """Also where it leads to the same place: whoever made it may compare it letter by letter."""
    back = came_to([THEIRS, OTHERS], [altered, OTHERS, OURS])
    assert (back.after, back.put_back) == (After.ALTERED, None)
    late = look_back.unconfirmed({"urls": [THEIRS, OTHERS]}, MINE).before
    assert look_back.altered_since({"urls": [altered, OTHERS, OURS]}, MINE, late) == (altered,)
    assert came_to([THEIRS, OTHERS], [THEIRS.replace("oms", "OMS"), OTHERS, OURS]).after is After.IN_ORDER


PORTED = "http://partner.example.net:443/orders/incoming"


@pytest.mark.parametrize("made", ["{}?via=store", "{}/", "{}#x"])
def test_what_another_merchants_has_become_is_noticed_late_and_what_they_add_is_not(made: str) -> None:
    anothers, thirds = (f"https://hooks.example.com/occ/{it}/order-submit" for it in ("m-2", "m-3"))
    ours = Ours(OURS, template=MINE.template)
    before = look_back.unconfirmed({"urls": [THEIRS, anothers]}, ours).before
    altered = made.format(anothers)
    assert look_back.altered_since({"urls": [THEIRS, altered, OURS]}, ours, before) == (altered,)
    assert look_back.altered_since({"urls": [anothers, thirds, OURS]}, ours, before) == ()
    assert look_back.altered_since({"urls": [THEIRS, anothers, f"{thirds}/", OURS]}, ours, before) == ()


def test_what_is_there_twice_after_a_write_and_may_be_ours_is_not_called_removed() -> None:
    """The store makes one thing of two callback URLs of ours, and that resembles neither."""
    left = "HTTPS://HOOKS.EXAMPLE.COM/ORDER%/"
    back = came_to([THEIRS, left], [THEIRS, left, left])
    assert (back.after, back.put_back) == (After.MULTIPLIED, None)
    stopped = Ours(OURS, template=MINE.template, remembered=back.spelling)
    for urls in ([THEIRS, left, left], [left]):
        assert slots.plan_removal({"urls": urls}, stopped, "urls").refused is not None
    assert came_to([THEIRS], [THEIRS, THEIRS, OURS, OURS]).spelling.unsure == (), "ours is seen beside it"


@pytest.mark.parametrize(
    ("read", "back", "put_back"),
    [
        ([THEIRS], [OURS], (THEIRS,)),
        ([THEIRS, OTHERS], [OTHERS, OURS], (THEIRS, OTHERS)),
        ([THEIRS, OTHERS], [OTHERS], (THEIRS, OTHERS)),
        ([THEIRS, OTHERS], ["https://new.example/"], ("https://new.example/", THEIRS, OTHERS)),
        ([THEIRS, OTHERS], [f"{THEIRS}&via=store", OURS], (THEIRS, OTHERS)),
        ([THEIRS, PORTED], [PORTED[:-4], OURS], (THEIRS, PORTED)),
    ],
)
def test_a_url_of_somebody_elses_that_went_is_put_back(
    read: list[str], back: list[str], put_back: tuple[str, ...]
) -> None:
    found = came_to(read, back)
    assert (found.after, found.put_back) == (After.PUSHED_OUT, put_back)


CUT = "https://hooks.example.com/occ/m-"
MADE_OF_OURS = "https://hooks.example.com/OCC/M-1/ORDER-SUBMIT"
RIVALS = "https://rival.example.net/hook"


@pytest.mark.parametrize(
    ("read", "back", "is_answer", "put_back"),
    [
        ([THEIRS, OTHERS], [OTHERS, MADE_OF_OURS], True, (THEIRS, OTHERS)),
        ([THEIRS, OTHERS], [OTHERS, MADE_OF_OURS], False, (THEIRS, OTHERS)),
        ([THEIRS], [RIVALS], True, (RIVALS, THEIRS)),
        ([THEIRS], [THEIRS[:30]], True, (THEIRS,)),
        ([THEIRS], [RIVALS], False, None),
        ([THEIRS, OURS, OURS], [RIVALS], True, (THEIRS, OURS)),
    ],
)
def test_a_url_for_which_another_came_is_put_back(
    read: list[str], back: list[str], *, is_answer: bool, put_back: tuple[str, ...] | None
) -> None:
    """What came may be what became of ours, and then it is not sent. Out of a cache, it may be from before."""
    found = came_to(read, back, is_answer=is_answer)
    if put_back == (THEIRS, OURS):
        put_back = (RIVALS, *put_back)
    assert (found.after is After.PUSHED_OUT, found.put_back) == (put_back is not None, put_back)


def test_what_became_of_somebody_elses_url_is_not_taken_for_ours_because_it_resembles_it() -> None:
    """At the same host and behind the same path, where the query tells merchants apart."""
    template = "https://hooks.example.com/occ?merchant={merchant_id}&slot={slot}"
    ours = Ours(slots.callback_url_for(template, "m-1", "order-submit"), template=template)
    theirs = "http://hooks.example.com/occ/m-2/order-submit?via=store"
    came = [f"{theirs}&via=store", f"{ours.callback_url.upper()}&VIA=STORE"]
    back = came_to([theirs], came, ours)
    assert (back.after, back.put_back) == (After.IN_DOUBT, None)
    late = look_back.recollect(
        {"urls": came}, replace(ours, remembered=look_back.unconfirmed({"urls": [theirs]}, ours))
    )
    for known in (replace(ours, remembered=back.spelling), late):
        assert ([url for url in came if known.is_bent(url)], known.in_doubt(came)) == ([], tuple(came))
    changed = replace(ours, remembered=look_back.unconfirmed({"urls": [theirs]}, ours))
    longer = f"{ours.callback_url}&via=store"
    assert look_back.recollect({"urls": [came[0], longer]}, changed).is_current(longer), "which leads where ours does"


@pytest.mark.parametrize("came", ["occ/partner", "occ?x=y", "occupied", "occ/b?m=m-1&s=order-submit"])
@pytest.mark.parametrize("is_answer", [True, False])
def test_what_begins_like_ours_is_not_taken_out_because_it_came_when_we_wrote(came: str, *, is_answer: bool) -> None:
    """Where the query tells callback URLs apart: somebody else may have added it, and ours not have been kept."""
    template, came = "https://hooks.example.com/occ?m={merchant_id}&s={slot}", f"https://hooks.example.com/{came}"
    ours = Ours(slots.callback_url_for(template, "m-1", "order-submit"), template=template)
    back = look_back.look_back(
        {"urls": [THEIRS]}, [THEIRS, ours.callback_url], {"urls": [THEIRS, came]}, ours, is_answer=is_answer
    )
    assert (back.after, back.put_back) == (After.IN_DOUBT, None)
    sent = replace(ours, remembered=look_back.unconfirmed({"urls": [THEIRS]}, ours))
    assert look_back.recollect({"urls": [THEIRS, came]}, sent).in_doubt([came]) == (came,)


@pytest.mark.parametrize(
    "made",
    [
        "HTTP://HOOKS.EXAMPLE.COM/OCC?S=ORDER-SUBMIT&M=1",
        "https://hooks.example.com/occ",
        "https://hooks.example.com:443/occ?m=1&s=ord#x",
        "https://proxy.example/?u=https%3A%2F%2Fhooks.example.com%2Focc%3Fm%3D1%26s%3Dorder-submit",
    ],
)
def test_what_became_of_ours_with_a_query_comes_out_again(made: str) -> None:
    template = "https://hooks.example.com/occ?m={merchant_id}&s={slot}"
    ours = Ours(slots.callback_url_for(template, "1", "order-submit"), template=template)
    back = came_to([THEIRS], [THEIRS, made], ours)
    assert (back.after, back.put_back) == (After.BENT, (THEIRS,))


@pytest.mark.parametrize("theirs", [f"{OURS}-by-hand", f"{OURS}?x=1"])
def test_what_may_be_left_of_somebody_elses_longer_url_is_not_taken_for_what_is_left_of_ours(theirs: str) -> None:
    """A store cuts it where it would cut ours, and does not show ours; a rival's came meanwhile."""
    left, rivals = OURS[:-3], "https://erp.example.org/new"
    back = came_to([theirs], [left, rivals])
    assert (back.after, back.put_back) == (After.IN_DOUBT, None)
    unseen = replace(MINE, remembered=look_back.unconfirmed({"urls": [theirs]}, MINE))
    for known in (replace(MINE, remembered=back.spelling), look_back.recollect({"urls": [left, rivals]}, unseen)):
        assert not known.is_bent(left)
        assert known.in_doubt([left, rivals]) == (left, rivals)


def test_a_url_of_somebody_elses_that_is_made_the_same_as_ours_is_not_taken_out() -> None:
    theirs = "https://hooks.example.com/occ/m-2/order-submit"
    back = came_to([theirs], [CUT, CUT])
    assert (back.after, back.about, back.put_back) == (After.ALTERED, (theirs,), None)
    late = look_back.recollect(
        {"urls": [CUT, CUT]}, Ours(OURS, remembered=look_back.unconfirmed({"urls": [CUT]}, MINE))
    )
    for known in (Ours(OURS, remembered=back.spelling), late):
        assert (known.is_bent(CUT), known.in_doubt([CUT])) == (False, (CUT,))
    bent = Ours(OURS, remembered=Spelling(bent=(mark_of(CUT),)))
    assert slots.plan_removal({"urls": [CUT, THEIRS]}, bent, "urls") == Plan((THEIRS,))
    for plan in (
        slots.plan({"urls": [CUT, CUT]}, bent, "urls"),
        slots.plan_removal({"urls": [CUT, CUT]}, bent, "urls"),
    ):
        assert plan == Plan(refused=("url_in_doubt", f"{CUT}, {CUT}"))
    assert Ours(OURS, remembered=look_back.without_bent(bent.remembered, is_out=False)).in_doubt([CUT]) == (CUT,)


def test_what_a_write_cost_is_noticed_when_it_shows_later() -> None:
    sent = Ours(OURS, remembered=look_back.unconfirmed({"urls": [THEIRS, OTHERS]}, MINE))
    lists = ([OTHERS, OURS], [OTHERS], [THEIRS, OTHERS, OURS], [RIVALS, OTHERS, OURS])
    assert [look_back.pushed_out({"urls": urls}, sent) for urls in lists] == [1, 1, 0, 0]
    known = look_back.recollect({"urls": [OTHERS, MADE_OF_OURS]}, sent)
    assert known.in_doubt([OTHERS, MADE_OF_OURS]) == (MADE_OF_OURS,), "one more write might cost one more"


def test_what_was_in_doubt_is_known_again_with_another_query_behind_its_cut() -> None:
    doubted = Ours(OURS, template=MINE.template, remembered=Spelling(unsure=("0",)))
    for left in ("http://hooks.example.com/occ/m-1/order-?via=store&", "https://hooks.example.com/occ/m-1/order-?a=b"):
        for plan in (slots.plan, slots.plan_removal):
            assert plan({"urls": [THEIRS, left]}, doubted, "urls").refused == ("url_in_doubt", slots.named([left]))
    assert slots.plan({"urls": [f"{THEIRS}&a=b"]}, doubted, "urls").refused is None


def test_what_looks_like_a_shorter_merchants_may_be_ours_cut_off_unless_it_was_there_when_all_was_in_order() -> None:
    made = "https://hooks.example.com/{slot}/{merchant_id}"
    ours = Ours(slots.callback_url_for(made, "M-1", "order-submit"), template=made)
    for left in ("https://hooks.example.com/order-submit/M", "HTTPS://HOOKS.EXAMPLE.COM/ORDER-SUBMIT/M"):
        assert slots.plan_removal({"urls": [THEIRS, left]}, ours, "urls").refused == ("url_in_doubt", left)
        assert slots.plan_removal({"urls": [THEIRS, left]}, ours, "urls", alike=[mark_of(left)]) == Plan()
    others = "https://hooks.example.com/order-submit/N-1"
    assert slots.plan_removal({"urls": [THEIRS, others]}, ours, "urls") == Plan()


@pytest.mark.parametrize(
    ("template", "left", "is_doubted"),
    [
        ("occ?merchant={merchant_id}&slot={slot}", "occ?slot=order%2Dsubmit&merchant=m", True),
        ("occ?merchant={merchant_id}&slot={slot}", "OCC/?SLOT=ORDER-SUBMIT&MERCHANT=M", True),
        ("occ?merchant={merchant_id}&slot={slot}", "occ?slot=order%2Dsubmit&merchant=n", False),
        ("occ?merchant={merchant_id}&slot={slot}", "occ?merchant=m&slot=order-submit", False),
        ("{slot}/{merchant_id}", "order%2Dsubmit/m", True),
        ("{slot}/{merchant_id}", "order-submit/m", False),
        ("occ/{merchant_id}/{slot}", "occ/m/order-submit/", False),
    ],
)
def test_what_looks_like_a_shorter_merchants_and_has_come_since_may_be_ours_if_a_store_has_made_it(
    template: str, left: str, *, is_doubted: bool
) -> None:
    """Another merchant's write may have cut it off. To the letter as theirs is made, it is theirs."""
    made, left = f"https://hooks.example.com/{template}", f"https://hooks.example.com/{left}"
    ours = Ours(slots.callback_url_for(made, "m-10", "order-submit"), template=made)
    refused = ("url_in_doubt", slots.named([left])) if is_doubted else None
    assert slots.plan_removal({"urls": [THEIRS, left]}, ours, "urls", alike=[]).refused == refused
    assert slots.plan({"urls": [left]}, ours, "urls", alike=[], once_registered=True).refused == refused
    assert slots.plan_removal({"urls": [THEIRS, left]}, ours, "urls", alike=[mark_of(left)]) == Plan()


@pytest.mark.parametrize(
    "left", ["occ/m%", "occ/m%#x", "occ/m%%23x", "occ/m%2/", "occ/m&#x2/", "occ\\/m-1\\/", "occ/m-1#x"]
)
def test_what_is_cut_within_an_escape_may_be_ours_whatever_a_store_adds_behind(left: str) -> None:
    left = f"HTTPS://hooks.example.com/{left}"
    assert slots.plan_removal({"urls": [THEIRS, left]}, MINE, "urls").refused == ("url_in_doubt", slots.named([left]))


def test_what_was_there_beside_ours_and_is_there_twice_by_now_may_be_ours() -> None:
    """Another merchant's write may have made the same of it."""
    left = f"{OURS}?via=store"
    for urls in ([left], [THEIRS, left]):
        assert slots.plan_removal({"urls": urls}, MINE, "urls", alike=[mark_of(left)]) == Plan()
    twice = slots.plan_removal({"urls": [THEIRS, left, left]}, MINE, "urls", alike=[mark_of(left)])
    assert twice.refused == ("url_in_doubt", slots.named([left]))


def test_where_ours_was_it_is_not_added_beside_what_may_be_left_of_it() -> None:
    """Another merchant's write may have changed it."""
    for left in (CUT, OURS[:-1]):
        plan = slots.plan({"urls": [THEIRS, left]}, MINE, "urls", once_registered=True)
        assert plan == Plan(refused=("url_in_doubt", left))
    others = "https://hooks.example.com/occ/m-2/order-submit"
    assert slots.plan({"urls": [others]}, MINE, "urls", once_registered=True).write == (others, OURS)


def test_after_a_write_that_came_to_no_good_end_whatever_is_like_ours_is_not_called_removed() -> None:
    longer = f"{OURS}?via=store"
    stopped = Ours(OURS, template=MINE.template, remembered=Spelling(stopped="urls_multiplied"))
    assert slots.plan_removal({"urls": [longer, longer]}, stopped, "urls").refused == (
        "url_in_doubt",
        "https://hooks.example.com/occ/m-1/order-submit?...",
    )
    assert slots.plan_removal({"urls": [longer]}, MINE, "urls") == Plan()


def test_an_older_answer_out_of_a_cache_puts_nothing_back() -> None:
    assert came_to([THEIRS, OTHERS], [OTHERS], is_answer=False).after is After.NOT_SHOWN


def test_a_store_that_holds_what_it_is_sent_twice_is_sent_nothing_more() -> None:
    back = came_to([THEIRS], [THEIRS, THEIRS, OURS, OURS])
    assert (back.after, back.about, back.put_back) == (After.MULTIPLIED, (THEIRS,), None)


@pytest.mark.parametrize(
    ("read", "came_back"),
    [
        ({"urls": [THEIRS]}, {"urls": [THEIRS, OURS]}),
        ({"urls": [THEIRS], "resendDelaySeconds": 3600}, {"urls": [THEIRS, OURS], "resendDelaySeconds": "3600"}),
        ({"urls": None, "headers": None}, {"urls": [OURS], "headers": {}}),
        ({"urls": [], "includeChangesOnly": False}, {"urls": [OURS], "includeChangesOnly": "false"}),
        ({"urls": [], "headers": {"a": "b"}}, {"urls": [OURS]}),
        ({"urls": [], "secretKey": None}, {"urls": [OURS], "secretKey": "x"}),
        ({"urls": [THEIRS, OTHERS]}, {"urls": [OURS, OTHERS, THEIRS]}),
        ({"urls": [THEIRS, OTHERS]}, {"urls": [THEIRS.replace("oms", "OMS"), OTHERS, f"{OURS}/"]}),
    ],
)
def test_the_stores_own_spelling_is_no_change(read: dict[str, object], came_back: dict[str, object]) -> None:
    assert not _is_changed(read, came_back)


@pytest.mark.parametrize(
    ("read", "came_back"),
    [
        ({"urls": [THEIRS]}, {"urls": [THEIRS, OURS, OTHERS]}),
        ({"urls": [THEIRS]}, {"urls": [OTHERS, OURS]}),
        ({"urls": [], "headers": {"a": "b"}}, {"urls": [OURS], "headers": {"a": "c"}}),
        ({"urls": [], "maxNumberOfResendAttempts": "5"}, {"urls": [OURS], "maxNumberOfResendAttempts": 4}),
        ({"urls": [], "basicAuthentication": {"u": "p"}}, {"urls": [OURS], "basicAuthentication": None}),
    ],
)
def test_what_somebody_else_changed_meanwhile_is_seen(read: dict[str, object], came_back: dict[str, object]) -> None:
    assert _is_changed(read, came_back)


def _is_changed(read: dict[str, object], came_back: dict[str, object]) -> bool:
    sent = slots.plan(read, MINE, "urls").write
    assert sent is not None
    back = look_back.look_back(read, sent, came_back, MINE, is_answer=True)
    assert back.after is After.IN_ORDER
    assert look_back.others_changed(read, sent, came_back, MINE) == back.others_changed
    return back.others_changed


def test_a_callback_url_without_a_path_is_recognised_with_the_slash_the_store_adds() -> None:
    """Not recognised, every pass would write it once more, beside the one that is there."""
    ours = Ours("https://hooks.example.com?merchant=m-1")
    assert slots.plan({"urls": ["https://hooks.example.com/?merchant=m-1"]}, ours, "urls") == Plan()


@settings(max_examples=examples(100))
@given(merchant=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", fullmatch=True), name=st.text(min_size=1))
def test_every_merchant_and_slot_has_a_callback_url_of_its_own(merchant: str, name: str) -> None:
    url = slots.callback_url_for("https://h.example/{merchant_id}/{slot}", merchant, name)
    assert url.count("/") == 4
    assert url.isascii()
    assert url != slots.callback_url_for("https://h.example/{merchant_id}/{slot}", f"{merchant}0", name)
    assert slots.plan({"urls": [url]}, Ours(url), "urls") == Plan()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://user:secret@a.example/x?token=secret#secret", "https://***@a.example/x?..."),
        ("https://a.example/x", "https://a.example/x"),
        ("https:&#x2F;&#x2F;a.example&#x2F;x&#x3F;token=secret", "https://a.example/x?..."),
        ("https%3A%2F%2Fuser%3Asecret%40a.example%2Fx%3Ftoken%3Dsecret", "https://***@a.example/x?..."),
        ("no url\n at all", "no url_ at all"),
        ("https://a.example/" + "x" * 500, "https://a.example/" + "x" * 182 + "..."),
    ],
)
def test_what_people_are_shown_of_a_url_is_short_and_no_secret(url: str, text: str) -> None:
    assert slots.named([url]) == text
