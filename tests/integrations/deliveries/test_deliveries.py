"""Deliveries over HTTP to a receiver that may do anything, on a real server, with a clock of our own."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
import redis

from integrations.connections.records import DUE, EVENTS
from integrations.deliveries.deliveries import (
    OPERATORS,
    RECEIVER,
    REFUSED_REQUESTS,
    UNDELIVERED,
    WORK,
    Deliveries,
    receiver_state,
    undelivered,
)
from integrations.deliveries.delivering import deliver_waiting
from integrations.deliveries.outbox import DeliveryPace
from integrations.deliveries.receiver import Answered, Receiver, Verdict
from integrations.egress.addresses import DevStore
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.observer import CallOutcome
from integrations.sealing.signing import SigningSecret
from tests.receiving import SECRET, ReceiverServer

pytestmark = pytest.mark.server

NOON = 1_800_000_000.0
HOUR = 3600.0
PACE = DeliveryPace(lease=60, first_wait=2, patience=3 * 24 * HOUR)


class Stage:
    """Ticks and workers by hand: what they do to deliveries, second by second, on a clock of our own."""

    def __init__(self, client: redis.Redis, pace: DeliveryPace = PACE) -> None:
        self.client, self.pace = client, pace
        self.now = NOON
        self.attempts: Counter[CallOutcome] = Counter()
        self.written: dict[str, list[str]] = {}
        self.outcomes: list[dict[str, object]] = []
        self.deliveries = Deliveries(client, pace, clock=lambda: self.now, dice=random.Random(7).random)  # noqa: S311
        self.deliveries.move()  # the first time only notes where the stream ends
        self.server = ReceiverServer(clock=lambda: self.now)
        self._session = GuardedSession(dev_stores=(DevStore(ip_network("127.0.0.0/8"), None),), connect_timeout=1)
        self.receiver = Receiver(self._session, self.server.url, [SigningSecret.parse(SECRET)])

    def close(self) -> None:
        self.server.close()
        self._session.close()

    def happens(self, merchant: str, what: str = "active", **changes: object) -> str:
        """An event is written."""
        number = len(self.written.setdefault(merchant, [])) + 1
        event = {
            "id": f"{merchant}.{number}",
            "type": f"occ.connection.{what}",
            "subject": merchant,
            "data": {},
            **changes,
        }
        self.client.xadd(EVENTS, {"event": json.dumps({"specversion": "1.0", **event})})
        self.written[merchant].append(str(event["id"]))
        return str(event["id"])

    def tick(self) -> None:
        """As a tick and workers with nothing else to do."""
        self.deliveries.move()
        due = [str(member) for member in self.client.zrange(DUE, "-inf", self.now, byscore=True)]
        for outbox in self.deliveries.startable([member.removesuffix(f"|{WORK}") for member in due]):
            self.work(outbox)

    def work(self, outbox: str) -> dict[str, object]:
        """As a worker that gets a message."""
        summary = deliver_waiting(
            self.deliveries,
            self.receiver.deliver,
            outbox,
            lease=self.pace.lease,
            count=lambda outcome: self.attempts.update([outcome]),
        )
        self.outcomes.append(summary)
        return summary

    def go_on(self, seconds: float, *, step: float = 1.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.tick()
            self.now += step

    def nothing_is_left(self) -> bool:
        outboxes = [*self.client.scan_iter("occ:deliver*")]
        state: dict[str, str] = self.client.hgetall(RECEIVER)  # type: ignore[assignment]
        assert {state.get("waiting", "0"), state.get("held_back", "0")} == {"0"}, state
        return not outboxes and not self.client.zcard(DUE)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def stage(client: redis.Redis) -> Iterator[Stage]:
    """The receiver is there from `with stage.server` on."""
    stage = Stage(client)
    yield stage
    stage.close()


def test_events_arrive_signed_as_they_were_written_and_in_order(stage: Stage) -> None:
    with stage.server as receiver:
        for merchant in ("m-1", "m-2", "m-1", "m-1", "m-2"):
            stage.happens(merchant)
        stage.tick()
        assert receiver.processed() == stage.written
        assert {delivery.headers["content-type"] for delivery in receiver.taken} == {"application/cloudevents+json"}
        entries: Any = stage.client.xrange(EVENTS)
        written = {fields["event"] for _, fields in entries}
        assert {delivery.body.decode() for delivery in receiver.taken} == written
        assert all(delivery.headers["webhook-id"] == delivery.event["id"] for delivery in receiver.taken)
    assert stage.nothing_is_left()


def test_what_was_written_before_the_first_start_is_not_delivered(client: redis.Redis) -> None:
    client.xadd(EVENTS, {"event": '{"id": "old.1", "type": "occ.connection.active", "subject": "old"}'})
    stage = Stage(client)
    with stage.server as receiver:
        stage.happens("m-1")
        stage.tick()
        assert receiver.processed() == {"m-1": ["m-1.1"]}
    stage.close()


def test_a_receiver_that_is_down_for_an_hour_gets_everything_afterwards(stage: Stage) -> None:
    dice = random.Random(6)  # noqa: S311 - the same each time
    merchants = [f"m-{number}" for number in range(300)]
    stage.server.close()
    for _ in range(60):
        for _ in range(20):
            stage.happens(dice.choice(merchants))
        stage.go_on(60, step=5)
    tries = sum(stage.attempts.values())
    assert stage.attempts[CallOutcome.UNREACHABLE] == tries
    assert 10 <= tries <= 30, f"{tries} attempts in an hour"
    assert stage.client.hget(RECEIVER, "failing_since") is not None
    waiting: str = stage.client.hget(RECEIVER, "waiting")  # type: ignore[assignment]
    assert int(waiting) <= 20, "the rest waits in the stream"

    with ReceiverServer(clock=lambda: stage.now) as receiver:
        stage.receiver = Receiver(stage._session, receiver.url, [SigningSecret.parse(SECRET)])
        stage.go_on(600)
        assert receiver.processed() == stage.written
        assert receiver.unsigned == 0
        assert len(receiver.taken) == 1200, "none of them twice"
    assert stage.nothing_is_left()
    assert stage.client.hget(RECEIVER, "failing_since") is None


def test_an_event_that_is_refused_holds_up_nobody_else_and_is_set_aside_in_the_end(stage: Stage) -> None:
    with stage.server as receiver:
        receiver.answer = lambda event: 422 if event["id"] == "bad.1" else 204
        for merchant in ("bad", "good", "bad"):
            stage.happens(merchant)
        stage.go_on(60)
        assert receiver.processed() == {"good": ["good.1"]}
        assert stage.client.hget(RECEIVER, "held_back") == "2"
        stage.happens("bad")
        stage.happens("good")
        stage.go_on(3 * 24 * HOUR + 2 * HOUR, step=120)
        assert receiver.processed() == {"good": ["good.1", "good.2"], "bad": ["bad.2", "bad.3"]}
        assert len(receiver.turned_down) <= 130, "tried once an hour at last"
    ((_, aside),) = undelivered(stage.client)
    assert (aside["lane"], aside["reason"], json.loads(aside["event"])["id"]) == ("bad", "HTTP 422", "bad.1")
    assert stage.nothing_is_left()


def test_a_receiver_that_refuses_an_event_after_an_outage_is_back(stage: Stage) -> None:
    with stage.server as receiver:
        receiver.answer = lambda _: 503
        stage.happens("bad")
        stage.tick()
        assert stage.client.hget(RECEIVER, "failing_since") is not None
        receiver.answer = lambda event: 400 if event["subject"] == "bad" else 204
        stage.go_on(20)
        assert stage.client.hget(RECEIVER, "failing_since") is None
        stage.happens("good")
        stage.tick()
        assert receiver.processed() == {"good": ["good.1"]}, "at once"


def test_a_receiver_that_refuses_everybody_is_paused_like_one_that_is_down(stage: Stage) -> None:
    with stage.server as receiver:
        receiver.answer = lambda _: 400
        for number in range(200):
            stage.happens(f"m-{number}")
        stage.go_on(HOUR, step=5)
        tries = len(receiver.turned_down)
        assert tries <= 250
        assert stage.client.hget(RECEIVER, "failing_since") is not None
        receiver.answer = lambda _: 200
        stage.go_on(2 * HOUR, step=5)
        assert receiver.processed() == stage.written
    assert stage.nothing_is_left()
    assert stage.client.xlen(UNDELIVERED) == 0


@pytest.mark.parametrize("status", [500, 503, 429, 408, 401, 403, 404, 410, 302])
def test_trouble_that_is_not_about_the_event_pauses_all(stage: Stage, status: int) -> None:
    with stage.server as receiver:
        receiver.answer = lambda _: (status, {"Location": "https://elsewhere.example.com/"})
        for merchant in ("m-1", "m-2", "m-3"):
            stage.happens(merchant)
        stage.tick()
        tried = [delivery.event["id"] for delivery in receiver.turned_down]
        assert tried == ["m-1.1"], "one outbox is enough to know"
        assert receiver_state(stage.client).reason.startswith("3xx" if status == 302 else f"HTTP {status}")
        stage.happens("m-4")
        stage.now += 0.5
        stage.tick()
        assert stage.client.exists("occ:deliveries:m-4") == 0, "nothing more comes into outboxes"
        assert len(receiver.turned_down) == 1
        receiver.answer = lambda _: 202
        stage.go_on(30)
        assert receiver.processed() == stage.written
    assert stage.nothing_is_left()
    assert stage.client.xlen(UNDELIVERED) == 0


def test_one_outbox_finds_out_and_the_others_wait_for_it(stage: Stage) -> None:
    with stage.server as receiver:
        receiver.answer = lambda _: 503
        for number in range(50):
            stage.happens(f"m-{number}")
        stage.tick()
        stage.now += 10
        outboxes = [f"m-{number}" for number in range(50)]
        assert len(stage.deliveries.startable(outboxes)) == 1
        assert stage.deliveries.startable(outboxes) == []
        assert stage.work("m-7") == {"outcome": "nothing_to_do", "reason": "paused"}, "its message came late"
        assert stage.deliveries.take("m-0", "worker").event, "the one that was chosen"


def test_who_was_overtaken_neither_takes_an_event_out_nor_goes_on(stage: Stage) -> None:
    stage.happens("m-1")
    stage.happens("m-1")
    stage.deliveries.move()
    slow = stage.deliveries.take("m-1", "slow")
    assert stage.deliveries.take("m-1", "early").why == "taken"
    stage.now += stage.pace.lease + 1
    quick = stage.deliveries.take("m-1", "quick")
    assert slow.event == quick.event
    for claim in (
        stage.deliveries.delivered(slow, go_on=True),
        stage.deliveries.refused(slow, "HTTP 400", None, go_on=True),
        stage.deliveries.failed(slow, "HTTP 503", None),
    ):
        assert (claim.why, claim.event, claim.set_aside) == ("overtaken", "", False)
    assert stage.client.llen("occ:deliveries:m-1") == 2
    assert stage.client.hget(RECEIVER, "failing_since") is None
    assert stage.deliveries.delivered(quick, go_on=True).event_id == "m-1.2"


def test_outboxes_do_not_wait_for_each_other_and_no_more_are_under_way_than_may_be(stage: Stage) -> None:
    for number in range(20):
        stage.happens(f"m-{number}")
    stage.deliveries.move()
    taken = [stage.deliveries.take(f"m-{number}", "worker") for number in range(20)]
    assert [bool(claim.event) for claim in taken] == [True] * 16 + [False] * 4
    assert {claim.why for claim in taken[16:]} == {"busy"}
    assert stage.deliveries.startable(["m-17", "m-18"]) == []
    stage.deliveries.delivered(taken[5], go_on=True)
    assert stage.deliveries.take("m-17", "worker").event


def test_only_so_many_events_wait_in_outboxes_and_those_held_back_do_not_count(client: redis.Redis) -> None:
    stage = Stage(client, replace(PACE, waiting=10))
    with stage.server as receiver:
        receiver.answer = lambda event: 400 if event["subject"] == "bad" else 204
        for _ in range(15):
            stage.happens("bad")
        stage.tick()
        stage.happens("good")
        stage.go_on(10)
        assert receiver.processed() == {"good": ["good.1"]}
        assert client.hget(RECEIVER, "held_back") == "15"
    stage.close()


def test_events_that_were_trimmed_away_are_counted(stage: Stage) -> None:
    with stage.server as receiver:
        for _ in range(3):
            stage.happens("m-1")
        stage.tick()
        for _ in range(10):
            stage.happens("m-1")
        stage.client.xtrim(EVENTS, maxlen=4, approximate=False)
        assert stage.deliveries.move().missed == 6
        stage.go_on(3)
        assert receiver.processed()["m-1"] == [*stage.written["m-1"][:3], *stage.written["m-1"][-4:]]
        stage.happens("m-1")
        stage.client.xtrim(EVENTS, maxlen=1, approximate=False)
        assert stage.deliveries.move().missed == 0, "those were delivered"
        stage.happens("m-1")
        stage.client.xtrim(EVENTS, maxlen=0, approximate=False)
        assert stage.deliveries.move().missed == 1, "also where nothing is left"


def test_what_is_no_event_is_set_aside_at_once(stage: Stage) -> None:
    for text in ("{", "[]", '{"id": "x"}', '{"id": "a\\nb", "type": "t", "subject": "m"}'):
        stage.client.xadd(EVENTS, {"event": text})
    stage.client.xadd(EVENTS, {"event": '{"id": "x", "type": "t", "subject": "../m"}'})
    stage.client.xadd(EVENTS, {"something": "else"})
    with stage.server as receiver:
        stage.happens("m-1")
        assert stage.deliveries.move().set_aside == 6
        stage.tick()
        assert receiver.processed() == stage.written
    assert {fields["reason"] for _, fields in undelivered(stage.client)} == {"unreadable"}
    assert stage.client.xlen(UNDELIVERED) == 6


def test_operators_have_a_outbox_that_no_merchant_can_have(stage: Stage) -> None:
    with stage.server as receiver:
        stage.happens("operator")
        stage.happens("operator", type="occ.operator.outage_started", id="operator:1.1")
        stage.deliveries.move()
        assert stage.client.zcard(DUE) == 2
        assert stage.work(OPERATORS)["outcome"] == "delivered"
        assert [delivery.event["id"] for delivery in receiver.taken] == ["operator:1.1"]


def test_refusals_have_an_outbox_that_waits_for_no_merchant(stage: Stage) -> None:
    with stage.server as receiver:
        receiver.answer = lambda event: 400 if event["type"] == "occ.connection.active" else 204
        stage.happens("request")  # a merchant may be called so
        stage.happens("request", type="occ.request.refused", id="request:6f0a")
        stage.deliveries.move()
        assert stage.client.zcard(DUE) == 2
        stage.work("request")
        assert stage.work(REFUSED_REQUESTS)["outcome"] == "delivered"
        assert [delivery.event["id"] for delivery in receiver.taken][-1] == "request:6f0a"


def test_without_a_receiver_what_waits_is_kept_and_is_nobodys_trouble(stage: Stage) -> None:
    with stage.server as receiver:
        receiver.answer = lambda _: 503
        stage.happens("m-1")
        stage.tick()
        stage.deliveries.shelve(["m-1"])
        assert receiver_state(stage.client).failing_since is None
        receiver.answer = lambda _: 204
        stage.go_on(HOUR + 5, step=5)
        assert receiver.processed() == stage.written


@pytest.mark.parametrize("seed", range(3))
def test_workers_that_die_anywhere_lose_nothing_and_mix_up_nothing(client: redis.Redis, seed: int) -> None:
    """A worker dies before it posts, or after it and before it says so; the receiver has its moods."""
    dice = random.Random(seed)  # noqa: S311 - the same each time
    stage = Stage(client, replace(PACE, first_wait=1, longest_pause=20, longest_wait=20, waiting=30))
    with stage.server as receiver:
        receiver.answer = lambda _: dice.choices([204, 503, 400, 429], [8, 1, 1, 1])[0]
        for _ in range(150):
            for _ in range(dice.randrange(3)):
                stage.happens(f"m-{dice.randrange(6)}")
            stage.tick()
            stage.now += dice.choice([0.2, 1, 5])
            outbox = f"m-{dice.randrange(6)}"
            if (
                dice.random() < 0.3
                and (claim := stage.deliveries.take(outbox, f"dies-{stage.now}")).event
                and dice.random() < 0.5
            ):
                stage.receiver.deliver(claim.event_id, claim.event, int(claim.now), Deadline.after(5))
        receiver.answer = lambda _: 204
        stage.go_on(300)
        assert receiver.processed() == stage.written
    assert stage.nothing_is_left()
    stage.close()


def test_a_outbox_is_left_after_a_hundred_events_or_half_a_lease_and_no_delivery_outlasts_one(stage: Stage) -> None:
    left: list[float] = []

    def deliver(_: str, __: str, ___: int, deadline: Deadline) -> Answered:
        left.append(deadline.remaining())
        return Answered(Verdict.DELIVERED, CallOutcome.of_status(204))

    def events(lease: float) -> object:
        return deliver_waiting(stage.deliveries, deliver, "m-1", lease=lease, count=lambda _: None)["events"]

    for _ in range(150):
        stage.happens("m-1")
    stage.deliveries.move()
    assert events(lease=600) == 100
    assert max(left) < 599, "the outcome has to be recorded while the event is ours"
    assert events(lease=0) == 1


def test_what_happens_between_reading_and_writing_is_decided_upon_anew(stage: Stage) -> None:
    """An event is moved in just as the last one arrives: the outbox must stay in the due set."""
    stage.happens("m-1")
    stage.deliveries.move()
    claim = stage.deliveries.take("m-1", "worker")
    meanwhile = iter([lambda: stage.happens("m-1") and stage.deliveries.move()])

    def clock() -> float:
        next(meanwhile, lambda: None)()
        return stage.now

    racing = Deliveries(stage.client, stage.pace, clock=clock)
    assert racing.delivered(claim, go_on=False).why == "done"
    assert stage.client.zscore(DUE, f"m-1|{WORK}") is not None
    assert stage.client.hget(RECEIVER, "waiting") == "1"
    assert stage.deliveries.take("m-1", "worker").event_id == "m-1.2"


def test_two_who_see_the_last_free_place_do_not_both_take_it(client: redis.Redis) -> None:
    stage = Stage(client, replace(PACE, at_once=1))
    for merchant in ("m-1", "m-2"):
        stage.happens(merchant)
    stage.deliveries.move()
    meanwhile = iter([lambda: stage.deliveries.take("m-2", "quick")])

    def clock() -> float:
        next(meanwhile, lambda: None)()
        return stage.now

    assert Deliveries(client, stage.pace, clock=clock).take("m-1", "slow").why == "busy"
    stage.close()
