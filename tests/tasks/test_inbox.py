"""A request leaves the inbox only when it was handled, and no message keeps another from it."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import pytest
import redis

from integrations.errors import TransientError
from integrations.messages.quarantine import list_quarantine, requeue
from tasks.inbox import STREAM, Inbox
from tasks.wiring import connect
from tests.waiting import wait_until

pytestmark = pytest.mark.server


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def inbox(client: redis.Redis) -> Inbox:
    return Inbox(client, take_over_after=60)


def just(handle: Callable[[Any], object]) -> Callable[[Any, Any], bool]:
    """A handler that does not look at where a request came in; work comes of each, unless it says no."""
    return lambda request, _: handle(request) is not False


def post(client: redis.Redis, *requests: object) -> None:
    for request in requests:
        client.xadd(STREAM, {"request": json.dumps(request)})


def drained(inbox: Inbox, limit: int = 100) -> list[object]:
    handled: list[object] = []
    inbox.drain({"request": just(handled.append)}, limit)
    return handled


def test_requests_are_handled_in_order_and_leave_the_stream(client: redis.Redis, inbox: Inbox) -> None:
    assert inbox.drain({"request": just(print)}, 10) == 0
    post(client, {"n": 1}, {"n": 2}, {"n": 3})
    assert drained(inbox) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert client.xlen(STREAM) == 0
    assert client.xpending(STREAM, "occ")["pending"] == 0
    assert drained(inbox) == []


def test_requests_posted_before_anybody_listened_are_not_lost(client: redis.Redis, inbox: Inbox) -> None:
    post(client, {"n": 1})
    assert drained(inbox) == [{"n": 1}]


def test_no_more_are_taken_than_asked_and_the_rest_comes_next(client: redis.Redis, inbox: Inbox) -> None:
    post(client, *({"n": number} for number in range(5)))
    assert drained(inbox, 3) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert drained(inbox, 3) == [{"n": 3}, {"n": 4}]


@pytest.mark.parametrize(
    "fields",
    [
        {"request": "{"},
        {"request": ""},
        {"request": "[" * 100_000},
        {"request": "9" * 10_000},
        {"request": '"text"'},
        {"other": "{}"},
        {"": ""},
        {"request": "\0"},
    ],
    ids=lambda fields: str(fields)[:20],
)
def test_what_is_no_request_is_handed_on_to_be_refused(
    client: redis.Redis, inbox: Inbox, fields: dict[str, str]
) -> None:
    client.xadd(STREAM, fields)  # type: ignore[arg-type]
    post(client, {"n": 1})
    handled = drained(inbox)
    assert not isinstance(handled[0], dict)
    assert handled[1:] == [{"n": 1}]
    assert client.xlen(STREAM) == 0


@pytest.mark.parametrize("fields", [{b"request": b'{"merchant_id": "\xff"}'}, {b"\xff": b"x"}], ids=str)
def test_bytes_that_are_no_text_keep_nobody_elses_request_back(
    client: redis.Redis, redis_client: redis.Redis, inbox: Inbox, fields: dict[bytes, bytes]
) -> None:
    post(client, {"n": 1})
    redis_client.xadd(STREAM, fields)  # type: ignore[arg-type]
    post(client, {"n": 2})
    handled = drained(inbox)
    assert {"n": 1} in handled
    assert {"n": 2} in handled
    assert client.xlen(STREAM) == 0


@pytest.mark.parametrize("trouble", [redis.ConnectionError("gone"), TransientError("internal_error")])
def test_a_request_the_server_did_not_take_stays(client: redis.Redis, inbox: Inbox, trouble: Exception) -> None:
    post(client, {"n": 1}, {"n": 2})

    def fail(request: object) -> None:
        raise trouble

    with pytest.raises(type(trouble)):
        inbox.drain({"request": just(fail)}, 10)
    assert client.xlen(STREAM) == 2
    assert drained(inbox) == [], "not before its time"
    assert drained(Inbox(client, take_over_after=0)) == [{"n": 1}, {"n": 2}]
    assert client.xlen(STREAM) == 0


def test_a_request_that_stumbles_over_an_error_of_ours_stays_alone(client: redis.Redis, inbox: Inbox) -> None:
    post(client, {"n": 1}, {"n": 2}, {"n": 3})
    handled: list[object] = []

    def stumble(request: object) -> None:
        if request == {"n": 2}:
            raise ZeroDivisionError
        handled.append(request)

    assert inbox.drain({"request": just(stumble)}, 10) == 2
    assert handled == [{"n": 1}, {"n": 3}]
    assert client.xlen(STREAM) == 1
    assert drained(Inbox(client, take_over_after=0)) == [{"n": 2}]


def test_a_request_we_keep_stumbling_over_is_set_aside_and_can_be_returned(client: redis.Redis) -> None:
    post(client, {"n": 1, "application_key": "sealed.v1.k1.AAAA"}, {"n": 2})

    def stumble(request: object) -> None:
        raise ZeroDivisionError(request)

    reported: list[tuple[object, ...]] = []
    impatient = Inbox(client, take_over_after=0, on_set_aside=lambda *about: reported.append(about))
    for _ in range(4):
        assert impatient.drain({"request": just(stumble)}, 10) == 0
    assert (client.xlen(STREAM), list_quarantine(client)) == (2, [])
    assert impatient.drain({"request": just(stumble)}, 10) == 2
    assert client.xlen(STREAM) == 0
    assert client.xpending(STREAM, "occ")["pending"] == 0
    second, first = list_quarantine(client)
    assert {first.queue, second.queue} == {"occ:inbox"}
    assert first.reason == "ZeroDivisionError at each of 5 deliveries"
    (field, request, entry_id, reason), _ = reported
    assert (field, request, reason) == ("request", {"n": 1, "application_key": "sealed.v1.k1.AAAA"}, first.reason)
    assert entry_id
    requeue(client, first.id)
    assert drained(impatient) == [{"n": 1, "application_key": "sealed.v1.k1.AAAA"}]
    assert list_quarantine(client) == [second]


def test_an_outage_sets_nothing_aside(client: redis.Redis) -> None:
    post(client, {"n": 1})

    def fail(request: object) -> None:
        raise redis.exceptions.OutOfMemoryError("full")

    impatient = Inbox(client, take_over_after=0)
    for _ in range(20):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            impatient.drain({"request": just(fail)}, 10)
    assert list_quarantine(client) == []
    assert drained(impatient) == [{"n": 1}]


def test_what_a_worker_took_and_did_not_finish_is_taken_over(client: redis.Redis, inbox: Inbox) -> None:
    post(client, {"n": 1})

    class Killed(BaseException):
        pass

    def die(request: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        inbox.drain({"request": just(die)}, 10)
    assert drained(inbox) == []
    assert drained(Inbox(client, take_over_after=0)) == [{"n": 1}]


class Killed(BaseException):
    """What a worker that is killed does, as the inbox sees it: nothing after."""


def test_a_request_that_ends_its_worker_keeps_nobody_waiting_and_is_set_aside(client: redis.Redis) -> None:
    post(client, {"n": 1}, {"n": "deadly"}, {"n": 3}, {"n": 4})
    handled: list[object] = []

    def die(request: object) -> None:
        if request == {"n": "deadly"}:
            raise Killed
        handled.append(request)

    later = Inbox(client, take_over_after=0)
    for _ in range(5):
        with pytest.raises(Killed):
            later.drain({"request": just(die)}, 10)
        post(client, {"n": "new"})
    assert later.drain({"request": just(die)}, 10) == 8, "that one, two neighbours, and five that came later"
    assert handled[:3] == [{"n": 1}, {"n": 3}, {"n": 4}]
    assert handled.count({"n": "new"}) == 5
    (kept,) = list_quarantine(client)
    assert (kept.queue, kept.reason) == ("occ:inbox", "no worker lived through 5 deliveries")
    assert client.xlen(STREAM) == 0
    assert client.xpending(STREAM, "occ")["pending"] == 0


def test_while_a_deadly_request_rests_the_others_are_handled(client: redis.Redis, inbox: Inbox) -> None:
    post(client, {"n": "deadly"}, {"n": 2})

    def die(request: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        inbox.drain({"request": just(die)}, 10)
    with pytest.raises(Killed):
        Inbox(client, take_over_after=0).drain({"request": just(die)}, 10)
    post(client, {"n": 3})
    assert drained(inbox) == [{"n": 3}], "its own turn comes a lease later"
    assert drained(Inbox(client, take_over_after=0)) == [{"n": "deadly"}, {"n": 2}]


def test_two_ticks_at_once_do_not_take_the_same_request(client: redis.Redis, redis_url: str) -> None:
    post(client, *({"n": number} for number in range(200)))
    handled: list[int] = []
    lock = Lock()

    def note(request: object) -> None:
        assert isinstance(request, dict)
        with lock:
            handled.append(request["n"])

    def drain(_: int) -> int:
        with connect(redis_url) as own:
            return sum(Inbox(own, take_over_after=60).drain({"request": just(note)}, 30) for _ in range(2))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(drain, range(4))) == 200
    assert sorted(handled) == list(range(200))


def test_the_limit_covers_what_was_left_behind_too(client: redis.Redis) -> None:
    post(client, {"n": 1}, {"n": 2})

    def fail(request: object) -> None:
        raise TransientError("internal_error")

    with pytest.raises(TransientError):
        Inbox(client, take_over_after=60).drain({"request": just(fail)}, 2)
    post(client, {"n": 3}, {"n": 4})
    assert len(drained(Inbox(client, take_over_after=0), 2)) == 2


def test_what_is_asked_of_a_connection_goes_to_those_who_handle_it(client: redis.Redis, inbox: Inbox) -> None:
    handled: dict[str, list[object]] = {"request": [], "revalidate": [], "disconnect": []}
    client.xadd(STREAM, {"revalidate": '{"merchant_id": "m-1"}'})
    client.xadd(STREAM, {"disconnect": '{"merchant_id": "m-2"}'})
    client.xadd(STREAM, {"unheard-of": "{}"})
    assert inbox.drain({kind: just(handled[kind].append) for kind in handled}, 10) == 3
    assert handled == {
        "request": [None],
        "revalidate": [{"merchant_id": "m-1"}],
        "disconnect": [{"merchant_id": "m-2"}],
    }
    assert client.xlen(STREAM) == 0


def test_what_is_handled_together_does_not_keep_requests_waiting(client: redis.Redis, inbox: Inbox) -> None:
    for number in range(70):
        client.xadd(STREAM, {"heard": json.dumps({"n": number})})
    post(client, {"n": 1}, {"n": 2})
    alone: list[object] = []
    together: list[Sequence[object]] = []
    assert inbox.drain({"request": just(alone.append)}, 10, together={"heard": just(together.append)}) == 72
    assert alone == [{"n": 1}, {"n": 2}]
    assert [report for batch in together for report in batch] == [{"n": number} for number in range(70)]
    assert len(together) <= 8
    assert client.xlen(STREAM) == 0


def test_there_is_a_limit_to_what_is_handled_together(client: redis.Redis, inbox: Inbox) -> None:
    for number in range(300):
        client.xadd(STREAM, {"heard": json.dumps({"n": number})})
    together: list[object] = []
    assert inbox.drain({"request": just(print)}, 10, together={"heard": just(together.extend)}) <= 110
    assert client.xlen(STREAM) == 300 - len(together)


def test_what_begins_no_work_takes_no_place_of_what_does(client: redis.Redis, inbox: Inbox) -> None:
    post(client, *[{"new": number % 20 == 19} for number in range(200)])
    handled: list[dict[str, bool]] = []

    def handle(request: dict[str, bool]) -> bool:
        handled.append(request)
        return request["new"]

    assert inbox.drain({"request": just(handle)}, 100, room=lambda: 3 - sum(one["new"] for one in handled)) == len(
        handled
    )
    assert sum(request["new"] for request in handled) >= 3
    assert len(handled) < 120


def test_of_what_begins_work_no_more_is_taken_than_there_is_room_for(client: redis.Redis, inbox: Inbox) -> None:
    post(client, *[{"n": number} for number in range(200)])
    assert inbox.drain({"request": just(print)}, 100, room=lambda: 0) == 2, "a few however little room there is"
    rooms = iter([30, 10, 5, 0])
    assert inbox.drain({"request": just(print)}, 100, room=lambda: next(rooms)) == 20 + 10 + 5
    assert client.xlen(STREAM) == 163
    assert client.xpending(STREAM, "occ")["pending"] == 0


def test_what_costs_little_is_not_taken_for_longer_than_a_second(client: redis.Redis) -> None:
    post(client, *[{"n": number} for number in range(50)])
    now = 0.0

    def refuse(_: object) -> bool:
        nonlocal now
        now += 0.1
        return False

    inbox = Inbox(client, take_over_after=60, count=lambda: now)
    assert 10 <= inbox.drain({"request": just(refuse)}, 5) < 50


def test_what_cannot_be_handled_together_is_tried_one_by_one(client: redis.Redis) -> None:
    for number in range(3):
        client.xadd(STREAM, {"heard": json.dumps({"n": number})})
    inbox = Inbox(client, take_over_after=0)

    def stumbles(_: object) -> None:
        raise ZeroDivisionError

    inbox.drain({}, 10, together={"heard": just(stumbles)})
    assert client.xlen(STREAM) == 3
    alone: list[object] = []
    wait_until(lambda: inbox.drain({"heard": just(alone.append)}, 10, together={"heard": just(print)}) == 0, what="all")
    assert alone == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert client.xlen(STREAM) == 0


def test_a_server_that_is_away_leaves_what_is_handled_together(client: redis.Redis, inbox: Inbox) -> None:
    client.xadd(STREAM, {"heard": "{}"})

    def away(_: object) -> None:
        raise redis.ConnectionError

    with pytest.raises(redis.ConnectionError):
        inbox.drain({}, 10, together={"heard": just(away)})
    assert client.xlen(STREAM) == 1


def test_a_handler_is_handed_the_id_of_the_entry(client: redis.Redis, inbox: Inbox) -> None:
    entry_id = client.xadd(STREAM, {"request": "{}"})
    reports = [client.xadd(STREAM, {"heard": "{}"}) for _ in range(2)]
    seen: list[object] = []

    def note(_: object, entry: object) -> bool:
        seen.append(entry)
        return True

    inbox.drain({"request": note}, 10, together={"heard": lambda _, entries: seen.extend(entries)})
    assert seen == [entry_id, *reports]


def test_what_a_lost_tick_had_in_hand_is_taken_over_though_the_servers_clock_was_set_back(
    client: redis.Redis,
) -> None:
    post(client, {"n": 1})
    client.xgroup_create(STREAM, "occ", id="0")
    client.xreadgroup("occ", "tick", {STREAM: ">"})  # by a tick that died
    counted = [0.0]
    ours = Inbox(client, take_over_after=60, count=lambda: counted[0])
    # The server will say for an hour that this was just now.
    (held,) = client.xpending_range(STREAM, "occ", "-", "+", 1)
    seconds: int = client.time()[0]
    entry, hour_ahead = held["message_id"], (seconds + 3600) * 1000
    client.xclaim(STREAM, "occ", "tick", 0, [entry], time=hour_ahead, justid=True)
    assert drained(ours) == []
    counted[0] = 59.0
    assert drained(ours) == []
    counted[0] = 61.0
    assert drained(ours) == [{"n": 1}]
