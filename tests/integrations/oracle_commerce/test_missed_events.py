"""What a store gave up delivering to us is counted and asked for once; nobody else's messages are touched."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.egress.deadline import Deadline
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, TransientError
from integrations.oracle_commerce.client import FailedMessages
from integrations.oracle_commerce.missed_events import Missed, Replayed, missed, replay
from integrations.oracle_commerce.slot import Ours
from occ.simulator import SimulatedStore, StoppedClock
from occ.simulator.direct import DirectCommerceCloud

SLOT = "order-submit"
OURS = "https://hooks.example.com/occ/m-1/order-submit"
MINE = Ours(OURS)
THEIRS = "https://oms.example.net/in"
NOON = 1_800_000_000.0
HOUR = 3600.0


class Log:
    """The failed-message log of a simulated store, read with our real client."""

    def __init__(self, store: SimulatedStore) -> None:
        self._cloud = DirectCommerceCloud(store)
        self._deadline = Deadline.after(60)
        self._token = self._cloud.login(store.application_key, self._deadline).access_token

    def failed_messages(self, *, limit: int, offset: int) -> FailedMessages:
        return self._cloud.failed_messages(self._token, self._deadline, limit=limit, offset=offset)

    def resend_failed_message(self, message_id: str) -> None:
        self._cloud.resend_failed_message(self._token, message_id, self._deadline)

    def queued(self) -> set[object]:
        return {message["id"] for message in self.failed_messages(limit=9999, offset=0).items if message["resend"]}


@dataclass
class Listed:
    """A log in memory: what it lists, how it pages, and which resends it refuses."""

    items: list[dict[str, object]]
    largest_page: int = 250
    has_total: bool = True
    pages: bool = True
    too_large_from: int = 10_000
    unreadable: IntegrationError | None = None
    refuses: dict[str, IntegrationError] = field(default_factory=dict)
    calls: list[tuple[int, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def failed_messages(self, *, limit: int, offset: int) -> FailedMessages:
        self.calls.append((limit, offset))
        if self.unreadable is not None:
            raise self.unreadable
        if limit >= self.too_large_from:
            raise TransientError("answer_too_large")
        start = offset if self.pages else 0
        shown = self.items[start : start + min(limit, self.largest_page)]
        return FailedMessages(shown, len(self.items) if self.has_total else None)

    def resend_failed_message(self, message_id: str) -> None:
        self.asked.append(message_id)
        if error := self.refuses.get(message_id):
            raise error


def message(number: int, *targets: str, **fields: object) -> dict[str, object]:
    return {"id": str(number), "remainingTargetUrls": list(targets or (OURS,)), "resend": False, **fields}


def saved(value: object) -> list[dict[str, object]]:
    return [message(1, savedTime=value)]


def count(items: list[dict[str, object]], *, url: str = OURS, since: float = 0.0) -> Missed:
    found = missed(Listed(items), Ours(url), since)
    assert found is not None
    return found


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(NOON)


@pytest.fixture
def store(clock: StoppedClock) -> SimulatedStore:
    return SimulatedStore("s", clocks=clock.clocks, slots={SLOT: {"urls": [THEIRS, OURS]}})


def give_up(store: SimulatedStore, number: int, *urls: str) -> list[str]:
    return [store.give_up_delivery(SLOT, list(urls)) for _ in range(number)]


# An outage of ours


def test_all_37_deliveries_of_an_outage_are_asked_for_once_and_foreign_ones_stay_untouched(
    store: SimulatedStore, clock: StoppedClock
) -> None:
    earlier = give_up(store, 3, OURS)
    clock.advance(HOUR)
    broken_at = clock.clocks.wall()
    outage = []
    for _ in range(37):
        outage += give_up(store, 1, OURS)
        give_up(store, 1, THEIRS)
        clock.advance(60)
    shared = give_up(store, 5, THEIRS, OURS)
    log = Log(store)

    assert missed(log, MINE, broken_at) == Missed(42, tuple(outage), for_others_too=5)
    assert replay(log, MINE, broken_at) == Replayed(asked=37, left_to_others=5)
    assert log.queued() == set(outage)
    assert not log.queued() & {*earlier, *shared}
    assert store.calls.endpoints["resend"] == store.summary()["messages_resent"] == 37

    assert replay(log, MINE, broken_at) == Replayed(asked=0, left_to_others=5)
    assert store.calls.endpoints["resend"] == 37, "what is queued is not asked for again"
    assert missed(log, MINE, broken_at) == Missed(42, (), for_others_too=5, queued=37)


def test_nothing_was_missed(store: SimulatedStore) -> None:
    give_up(store, 2, THEIRS)
    assert missed(Log(store), MINE, 0.0) == Missed(0, ())
    assert replay(Log(store), MINE, 0.0) == Replayed(0, 0)
    assert "resend" not in store.calls.endpoints


def test_a_break_within_the_second_a_message_was_saved_in_counts_it(store: SimulatedStore, clock: StoppedClock) -> None:
    clock.advance(0.7)
    give_up(store, 1, OURS)
    assert missed(Log(store), MINE, NOON + 0.6) == Missed(1, ("200001",))


def test_the_answer_does_not_carry_the_orders(store: SimulatedStore) -> None:
    give_up(store, 1, OURS)
    (shown,) = Log(store).failed_messages(limit=250, offset=0).items
    assert shown.keys() == {"id", "remainingTargetUrls", "savedTime", "resend", "lastErrorMessage"}


# Stores that do not tell


@pytest.mark.parametrize(
    "fault", [403, 404, 405, 400, 401, "html_in_200", "error_in_200", "broken_json", "empty", "no_content", "redirect"]
)
def test_a_store_without_the_log_does_not_tell(store: SimulatedStore, fault: object) -> None:
    log = Log(store)
    store.fail("failed_messages", {"fault": fault, "times": "always"})
    assert missed(log, MINE, 0.0) is None
    if fault != "error_in_200":  # says nothing about the log: the store had an error of its own
        assert replay(log, MINE, 0.0) is None


@pytest.mark.parametrize("fault", [503, 429, "reset", "hang", "guard_60012", "forbidden_page"])
def test_a_log_that_cannot_be_read_now_spoils_no_repair_but_is_told_to_who_asks_for_a_replay(
    store: SimulatedStore, fault: object
) -> None:
    log = Log(store)
    give_up(store, 1, OURS)
    store.fail("failed_messages", {"fault": fault, "times": 2})
    assert missed(log, MINE, 0.0) is None
    with pytest.raises(TransientError):
        replay(log, MINE, 0.0)
    assert replay(log, MINE, 0.0) == Replayed(1, 0)


def test_a_key_rejected_meanwhile_spoils_no_repair_but_ends_a_replay() -> None:
    log = Listed([], unreadable=CredentialRejected("HTTP 401"))
    assert missed(log, MINE, 0.0) is None
    with pytest.raises(CredentialRejected):
        replay(log, MINE, 0.0)


def test_messages_that_name_no_targets_at_all_tell_nothing() -> None:
    log = Listed([{"id": "1", "savedTime": "2026-01-01T00:00:00Z"}])
    assert missed(log, MINE, 0.0) is None
    assert replay(log, MINE, 0.0) is None


# A resend that fails


def test_a_resend_that_fails_does_not_stop_the_others(store: SimulatedStore) -> None:
    give_up(store, 4, OURS)
    store.fail("resend", "healthy", 500, 404)
    log = Log(store)
    assert replay(log, MINE, 0.0) == Replayed(asked=2, left_to_others=0, left_over=2)
    assert log.queued() == {"200001", "200004"}
    assert replay(log, MINE, 0.0) == Replayed(asked=2, left_to_others=0)
    assert log.queued() == {"200001", "200002", "200003", "200004"}


def test_a_resend_whose_answer_is_lost_is_not_asked_for_twice(store: SimulatedStore) -> None:
    give_up(store, 2, OURS)
    store.fail("resend", {"fault": "reset", "processed": True})
    log = Log(store)
    assert replay(log, MINE, 0.0) == Replayed(asked=1, left_to_others=0, left_over=1)
    assert replay(log, MINE, 0.0) == Replayed(asked=0, left_to_others=0)
    assert store.calls.endpoints["resend"] == store.summary()["messages_resent"] == 2


@pytest.mark.parametrize(
    "error",
    [
        CredentialRejected("HTTP 401"),
        PermanentError("permission_denied", "HTTP 403"),
        TransientError("store_busy", "HTTP 429"),
        TransientError("store_error", "HTTP 503", retry_after=9.0),
    ],
)
def test_a_store_that_says_no_to_all_or_asks_for_rest_is_not_pressed(error: IntegrationError) -> None:
    log = Listed([message(number) for number in range(5)], refuses={"2": error})
    assert replay(log, MINE, 0.0) == Replayed(asked=2, left_to_others=0, left_over=3)
    assert log.asked == ["0", "1", "2"]


# Whose messages


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([OURS], Missed(1, ("1",))),
        (["HTTPS://Hooks.Example.com:443/occ/m-1/order-submit"], Missed(1, ("1",))),
        ([OURS, OURS], Missed(1, ("1",))),
        (OURS, Missed(1, ("1",))),
        ([OURS, None, ""], Missed(1, ("1",))),
        ([OURS, THEIRS], Missed(1, (), for_others_too=1)),
        (f"{THEIRS}, {OURS}", Missed(1, (), for_others_too=1)),
        ([OURS.replace("m-1", "m-2")], Missed(0, ())),
        ([OURS + "?x"], Missed(0, ())),
        ([], Missed(0, ())),
        (None, Missed(0, ())),
        ([OURS, {"url": THEIRS}], Missed(0, ())),
        ({"url": OURS}, Missed(0, ())),
    ],
)
def test_a_message_is_ours_when_our_callback_url_has_not_received_it(targets: object, expected: Missed) -> None:
    assert count([{**message(1), "remainingTargetUrls": targets}]) == expected


@pytest.mark.parametrize("queued", [True, "true"])
def test_a_message_that_is_queued_counts_and_is_not_asked_for(queued: object) -> None:
    assert count([message(1, resend=queued), message(2, OURS, THEIRS, resend=queued)]) == Missed(2, (), queued=2)


@pytest.mark.parametrize("id_", [None, "", True, {}, [1], 1.5])
def test_a_message_without_an_id_counts_and_is_left_over(id_: object) -> None:
    log = Listed([{**message(1), "id": id_}, message(2)])
    assert missed(log, MINE, 0.0) == Missed(2, ("2",))
    assert replay(log, MINE, 0.0) == Replayed(asked=1, left_to_others=0, left_over=1)
    assert log.asked == ["2"]


def test_an_id_may_be_a_number() -> None:
    assert count([{**message(1), "id": 200_001}]).for_us_alone == ("200001",)


# Since when


@pytest.mark.parametrize(
    "value",
    [
        "2016-11-14T18:37:27.000Z",
        "2016-11-14T18:37:27Z",
        "2016-11-14T18:37:27.000+0000",
        "2016-11-14T20:37:27+02:00",
        " 2016-11-14 18:37:27 ",
        "2016-11-14T18:37:27",
        1479148647,
        1479148647000,
        1479148647000.0,
        "1479148647000",
    ],
)
def test_the_time_a_message_was_saved_is_read_in_any_form(value: object) -> None:
    assert count(saved(value), since=1479148647.0).total == 1
    assert count(saved(value), since=1479148648.0).total == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "yesterday",
        "14/11/2016",
        "2016-13-45T00:00:00Z",
        True,
        {},
        [],
        10**400,
        -5,
        1e300,
        float("inf"),
        float("nan"),
        "9" * 5000,
    ],
)
def test_a_message_saved_at_an_unreadable_time_counts(value: object) -> None:
    assert count(saved(value), since=4e9).for_us_alone == ("1",)


def test_a_time_without_a_zone_is_gmt_wherever_we_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    try:
        assert count(saved("2016-11-14 18:37:27"), since=1479148647.0).total == 1
        assert count(saved("2016-11-14 18:37:27"), since=1479148648.0).total == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_message_without_a_saved_time_counts() -> None:
    assert count([message(1)], since=4e9).total == 1


# Page by page


def test_the_log_is_read_page_by_page(store: SimulatedStore) -> None:
    ids = give_up(store, 501, OURS)
    assert missed(Log(store), MINE, 0.0) == Missed(501, tuple(ids))
    assert store.calls.endpoints["failed_messages"] == 3


def test_of_a_log_that_is_too_long_the_newest_are_read_and_that_is_said(
    store: SimulatedStore, clock: StoppedClock
) -> None:
    give_up(store, 6000, THEIRS)
    clock.advance(HOUR)
    ids = give_up(store, 37, OURS)
    log = Log(store)
    assert missed(log, MINE, NOON + 1) == Missed(37, tuple(ids), truncated=True)
    assert store.calls.endpoints["failed_messages"] == 20
    assert replay(log, MINE, NOON + 1) == Replayed(37, 0, truncated=True)


@pytest.mark.parametrize("has_total", [True, False])
@pytest.mark.parametrize("number", [0, 1, 249, 250, 251, 500])
def test_no_message_is_lost_between_pages(number: int, *, has_total: bool) -> None:
    log = Listed([message(n) for n in range(number)], has_total=has_total)
    assert missed(log, MINE, 0.0) == Missed(number, tuple(str(n) for n in range(number)))


def test_a_store_may_give_smaller_pages_than_asked_for() -> None:
    log = Listed([message(n) for n in range(130)], largest_page=50)
    assert missed(log, MINE, 0.0) == Missed(130, tuple(str(n) for n in range(130)))
    assert [offset for _, offset in log.calls] == [0, 50, 100]


def test_a_store_that_cannot_turn_the_page_ends_it_and_each_message_counts_once() -> None:
    for has_total in (True, False):
        log = Listed([message(n) for n in range(600)], pages=False, has_total=has_total)
        found = missed(log, MINE, 0.0)
        assert found is not None
        assert (found.total, found.truncated) == (250, True)
        assert len(log.calls) == 2


def test_a_long_log_without_a_total_is_read_up_to_the_bound() -> None:
    log = Listed([message(n) for n in range(5001)], has_total=False)
    found = missed(log, MINE, 0.0)
    assert found is not None
    assert (found.total, found.truncated, len(log.calls)) == (5000, True, 20)


def test_pages_that_are_too_large_are_asked_for_in_smaller_ones() -> None:
    log = Listed([message(n) for n in range(60)], too_large_from=250)
    assert missed(log, MINE, 0.0) == Missed(60, tuple(str(n) for n in range(60)))
    assert log.calls == [(250, 0), (25, 0), (25, 25), (25, 50)]
    hopeless = Listed([message(1)], too_large_from=1)
    assert missed(hopeless, MINE, 0.0) is None
    assert replay(hopeless, MINE, 0.0) is None
    assert len(hopeless.calls) == 4


# Laws

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
targets = st.lists(st.sampled_from([OURS, THEIRS, OURS.upper(), "", "https://[", "x"]) | values, max_size=3) | values
messages = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(1, 5).map(str) | values,
        "remainingTargetUrls": targets,
        "savedTime": st.datetimes().map(str) | values,
        "resend": st.booleans() | values,
    },
)


@given(st.lists(messages, max_size=8), st.floats(0, 4e9), st.booleans())
@settings(deadline=None)
def test_whatever_the_log_says_only_what_remains_for_us_alone_is_asked_for_and_once(
    items: list[dict[str, object]], since: float, has_total: bool
) -> None:
    log = Listed(items, has_total=has_total)
    found = missed(log, MINE, since)
    result = replay(log, MINE, since)
    assert (found is None) == (result is None)
    if found is None or result is None:
        assert log.asked == []
        return
    assert len(log.asked) == len(set(log.asked)) == result.asked
    assert tuple(log.asked) == found.for_us_alone
    assert found.total == result.asked + result.left_to_others + result.left_over + found.queued
    for message_id in log.asked:
        first = next(item for item in items if _id_of(item) == message_id)
        assert set(_texts(first.get("remainingTargetUrls"))) == {OURS}
        assert first.get("resend") is not True


def _id_of(item: dict[str, object]) -> str | None:
    value = item.get("id")
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _texts(value: object) -> Iterator[str]:
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and text.strip():
            yield text.strip()
