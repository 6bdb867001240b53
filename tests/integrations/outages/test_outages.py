"""Outages on a real server: one event for operators, none for merchants, and nothing lost, doubled or out of order."""

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from integrations.clock import Clock
from integrations.connections.causes import OutageKind
from integrations.connections.change import Change, Moment
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.lifecycle.outcomes import record as record_outcome
from integrations.connections.record import Cause, Connection, KeyVerdict, Target, Trouble, Work
from integrations.connections.records import Records, Snapshot
from integrations.errors import CredentialRejected, IntegrationError, PermanentError, TransientError
from integrations.outages import held_events as held_events_module
from integrations.outages import outages as outages_module
from integrations.outages.held_events import HeldEvents, Released
from integrations.outages.outage import Next, Outage
from integrations.outages.outages import Outages
from tests.integrations.connections.test_record import healthy, key
from tests.integrations.oracle_commerce.fakes import SHIPPING, VALIDATE, outcome
from tests.integrations.oracle_commerce.recorded import at_once, begin, claim, committed, finish
from tests.usual import OUTAGE_RULES, PACE
from tests.waiting import wait_until

pytestmark = pytest.mark.server

TWICE = replace(PACE, retry_attempts=2)
"""A connection is unreachable after its second failed attempt."""

UNREACHABLE = TransientError("store_unreachable")
Events = list[dict[str, Any]]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


SOURCE = "occ-connect/staging"


class World:
    """Workers and ticks in one thread: they do with records, outages and held news what tasks do."""

    def __init__(self, client: redis.Redis, *, window: float = 300.0) -> None:
        self.client = client
        self.records = Records(client, event_source=SOURCE)
        self.outages = Outages(self.records, replace(OUTAGE_RULES, window=window))
        self.held = HeldEvents(self.records)

    def connect(self, number: int, **state: object) -> list[str]:
        """Merchants whose connections are active, or in another state, and due."""
        names = [f"m-{index}" for index in range(number)]
        for name in names:
            self.put(name, **state)
        return names

    def put(self, name: str, **state: object) -> None:
        made = healthy(merchant_id=name, **state)
        committed(self.records.change(name, lambda _, now: Change(replace(made, updated_at=now))))

    def connection(self, name: str) -> Connection:
        connection = self.records.load(name).connection
        assert connection is not None
        return connection

    def attempt(self, name: str, error: IntegrationError | None, target: Target = VALIDATE) -> None:
        """One attempt at a store: claimed, done, noted, recorded."""

        def recorded(connection: Connection, target: Target, at: Moment) -> Change:
            if waits:
                return record_outcome(connection, target, Failed(Cause("key_rejected"), verdict_waits=True), at)
            return outcome(error, connection, target, at, wait=0.0)

        claimed = committed(claim(self.records, target, pace=TWICE, merchant_id=name))
        accepted = error is None and target == VALIDATE
        self.outages.note(claimed.after, error.code if error else None, key_accepted=accepted)
        waits = isinstance(error, CredentialRejected) and self.outages.verdict_waits(claimed.after, TWICE)
        finish(self.records, target, recorded, TWICE, merchant_id=name)

    def succeed(self, name: str) -> None:
        """A look that finds the store well, up to its slots."""
        self.attempt(name, None)
        self.attempt(name, None, SHIPPING)

    def fail(self, names: Iterable[str], error: IntegrationError = UNREACHABLE) -> None:
        """All of them fail until the trouble is a verdict: first all once, then, after a tick, all again."""
        names = list(names)
        for _ in range(2):
            for name in names:
                self.attempt(name, error)
            self.outages.review()

    def window_passes(self) -> None:
        for pattern in ("occ:outcomes:*", "occ:keys:*"):
            for name in self.client.scan_iter(pattern):
                self.client.delete(name)

    def end(self) -> None:
        """The window passes, and somebody is asked and answers."""
        self.window_passes()
        self.outages.note(healthy(merchant_id="somebody-else"), None)
        assert self.outages.review() is None

    def release(self) -> Released:
        """Ticks, until all that is held has been seen once more."""
        sums: Counter[str] = Counter()
        self.client.zunionstore("occ:held", {"occ:held": 0})  # the wait between two looks is over
        while any(seen := self._release()):
            sums.update(dict(zip(("reported", "dropped", "revalidated"), seen, strict=True)))
        return Released(**sums)

    def _release(self) -> tuple[int, int, int]:
        released = self.held.release(TWICE)
        return released.reported, released.dropped, released.revalidated

    def events(self, skip: int = 0) -> tuple[Events, Events]:
        """(of operators, of merchants), without the first `skip`."""
        events = [event for _, event in self.records.events(count=100_000)][skip:]
        of_operators = [event for event in events if event["type"].startswith("occ.operator.")]
        return of_operators, [event for event in events if event not in of_operators]

    def held_names(self) -> set[str]:
        return set(self.client.zrange("occ:held", 0, -1))  # type: ignore[arg-type]


@pytest.fixture
def world(client: redis.Redis) -> World:
    return World(client)


def types(events: Events) -> list[str]:
    return [event["type"].removeprefix("occ.") for event in events]


# --- One event instead of a thousand ----------------------------------------------------------------------------------


def test_our_network_is_cut_and_mended_and_no_merchant_hears_of_it(world: World) -> None:
    names = world.connect(60)
    world.fail(names)
    assert {world.connection(name).status for name in names[::6]} == {"unreachable"}
    assert world.held_names() == set(names)
    told, heard = world.events(skip=60)
    assert heard == []
    assert types(told) == ["operator.outage_started"]
    assert told[0]["data"]["kind"] == "network"
    assert told[0]["data"]["failing"] >= 20

    assert world.release().reported == 0, "while it is on"
    world.end()
    released = world.release()
    assert (released.reported, released.dropped, released.revalidated) == (0, 0, 59 if probed(world) else 60)
    for name in names:
        world.succeed(name)
    assert world.release() == Released()
    told, heard = world.events(skip=60)
    assert heard == []
    assert types(told) == ["operator.outage_started", "operator.outage_ended"]
    assert told[1]["data"]["held"] == 60
    assert {event["source"] for event in told} == {SOURCE}
    assert world.held_names() == set()
    assert not any(world.client.hexists(f"occ:connection:{name}", "heard") for name in names)


def probed(world: World) -> bool:
    """Whether one was looked at while the outage was on."""
    lines = [line for n in range(60) for line in world.records.timeline(f"m-{n}") if line["what"] == "look_asked"]
    return len(lines) == 60


def test_one_percent_failing_is_told_of_each(world: World) -> None:
    names = world.connect(100)
    for name in names[1:]:
        world.attempt(name, None)
    world.fail(names[:1])
    assert world.outages.review() is None
    told, heard = world.events(skip=100)
    assert told == []
    assert {event["subject"] for event in heard} == set(names[:1])
    assert set(types(heard)) == {"connection.unreachable"}
    assert world.held_names() == set()


def test_a_few_merchants_are_never_an_outage_though_all_of_them_fail(world: World) -> None:
    names = world.connect(19)
    world.fail(names)
    assert world.outages.review() is None
    told, heard = world.events(skip=19)
    assert (told, len(heard)) == ([], 19)


def test_failing_in_ways_of_their_own_is_no_outage(world: World) -> None:
    names = world.connect(40)
    for index, name in enumerate(names):
        codes = ["permission_denied", "store_unreachable", "store_error", "edge_refused"]
        world.outages.note(world.connection(name), codes[index % 4])
    assert world.outages.review() is None


def test_one_store_that_is_asked_again_and_again_counts_once(world: World) -> None:
    for _ in range(50):
        world.outages.note(healthy(), "store_timeout")
    assert world.outages.review() is None


def test_stores_known_to_be_dead_are_no_outage_however_often_they_are_asked(world: World) -> None:
    dead = Trouble(Cause("store_unreachable"), passing=True)
    for name in world.connect(50, trouble=dead):
        world.attempt(name, UNREACHABLE)
    world.outages.note(healthy(), None)
    assert world.outages.review() is None


@pytest.mark.parametrize("number", [2, 12, 60])
def test_a_key_service_that_refuses_everybody_makes_nobody_authorise_again(world: World, number: int) -> None:
    names = world.connect(number)
    for name in names:
        world.attempt(name, CredentialRejected("HTTP 401"))
    world.outages.review()
    minutes_later(world, names)
    for name in names:
        world.attempt(name, CredentialRejected("HTTP 401"))
    assert {world.connection(name).status for name in names} == {"active"}
    assert {world.connection(name).credential.verdict for name in names} == {"doubted"}
    for name in names:
        committed(world.records.change(name, sooner))
        world.attempt(name, None)
    world.end()
    told, heard = world.events(skip=number)
    assert heard == []
    assert [event["data"]["kind"] for event in told] == ["key", "key"]
    assert types(told) == ["operator.outage_started", "operator.outage_ended"]


def minutes_later(world: World, names: Iterable[str]) -> None:
    """The keys were doubted some minutes ago, and are due."""
    for name in names:
        credential = world.connection(name).credential
        assert credential.doubted_since is not None
        world.put(name, credential=replace(credential, doubted_since=credential.doubted_since - 400))


def test_one_key_that_is_refused_has_others_looked_at_and_is_a_verdict_once_theirs_work(world: World) -> None:
    names = world.connect(12)
    future = Work(time.time() + 9000, time.time() + 9000)
    for name in names:
        world.put(name, work=future if name != "m-0" else Work(0, 0))
    world.attempt("m-0", CredentialRejected("HTTP 401"))
    witnesses = looked_at(world)
    assert len(witnesses) == 3
    minutes_later(world, ["m-0"])
    for name in witnesses:
        world.attempt(name, None)
    world.attempt("m-0", CredentialRejected("HTTP 401"))
    assert world.connection("m-0").status == "needs_reauthorisation"
    told, heard = world.events(skip=12)
    assert (told, types(heard)) == ([], ["connection.needs_reauthorisation"])


def test_a_second_refusal_waits_for_what_others_hear(world: World) -> None:
    world.connect(12)
    world.attempt("m-0", CredentialRejected("HTTP 401"))
    minutes_later(world, ["m-0"])
    world.attempt("m-0", CredentialRejected("HTTP 401"))
    assert world.connection("m-0").credential.verdict is KeyVerdict.DOUBTED
    assert world.connection("m-0").due_at is not None


def test_who_is_alone_has_his_verdict_at_the_second_refusal(world: World) -> None:
    world.connect(1)
    world.put("m-other", credential=key(KeyVerdict.REJECTED))
    world.attempt("m-0", CredentialRejected("HTTP 401"))
    minutes_later(world, ["m-0"])
    world.attempt("m-0", CredentialRejected("HTTP 401"))
    assert world.connection("m-0").status == "needs_reauthorisation"


def test_what_is_known_of_keys_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages_module, "MOST", 20)
    for index in range(50):
        world.outages.note(healthy(merchant_id=f"m-{index}"), None, key_accepted=True)
        world.outages.note(healthy(merchant_id=f"n-{index}"), "key_rejected")
    for name in ("occ:keys:accepted", "occ:keys:refused"):
        assert world.client.zcard(name) == 20
        assert 0 < world.client.ttl(name) <= 86400


def looked_at(world: World) -> set[str]:
    """Who is due besides m-0."""
    return {*map(str, world.client.zrangebyscore("occ:due", "-inf", time.time() + 5))} - {"m-0"}


def test_any_number_of_ticks_tell_of_it_once(world: World) -> None:
    for name in world.connect(30):
        world.client.pfadd(bucket(world, "asked"), name)
        world.client.pfadd(bucket(world, "edge"), name)
    ticks = [Outages(world.records, OUTAGE_RULES) for _ in range(10)]
    found = at_once(10, lambda index: ticks[index].review())
    assert {outage.kind for outage in found if outage} == {OutageKind.EDGE}
    assert len(found) == 10
    assert len({outage.since for outage in found if outage}) == 1
    assert ticks[0].review() == found[0]
    world.window_passes()
    assert at_once(10, lambda index: ticks[index].review()) == [None] * 10
    told, _ = world.events()
    assert types(told) == ["operator.outage_started", "operator.outage_ended"]
    assert [event["sequence"] for event in told] == ["000000000001", "000000000002"]
    assert len({event["id"] for event in told}) == 2


def bucket(world: World, what: str) -> str:
    seconds, _ = world.client.time()
    return f"occ:outcomes:{int(seconds // 60)}:{what}"


def test_a_failing_attempt_notices_without_a_tick(world: World) -> None:
    for index in range(20):
        world.outages._next_review = 0.0
        world.outages.note(healthy(merchant_id=f"m-{index}"), "store_timeout")
    assert world.client.hget("occ:outage", "kind") == "network"


def test_what_was_noted_leaves_the_window_and_the_server_by_itself(client: redis.Redis) -> None:
    World(client).outages.note(healthy(), "store_timeout")
    noted = list(client.scan_iter("occ:outcomes:*"))
    assert noted
    assert all(0 < client.pttl(key) <= 2 * 300_000 for key in noted)
    world = World(client, window=0.5)
    world.window_passes()
    for name in world.connect(25):
        world.attempt(name, UNREACHABLE)
    wait_until(lambda: not list(client.scan_iter("occ:outcomes:*")))
    assert world.outages.review() is None


def test_turned_off_nothing_is_noted_and_what_is_on_ends(world: World) -> None:
    world.fail(world.connect(30))
    assert world.outages.review() is not None
    off = Outages(world.records, replace(OUTAGE_RULES, share=0))
    world.window_passes()
    off.note(healthy(), "store_timeout")
    assert list(world.client.scan_iter("occ:outcomes:*")) == []
    assert off.review() is None
    assert types(world.events()[0]) == ["operator.outage_started", "operator.outage_ended"]


def test_a_server_that_is_away_does_not_stop_an_attempt() -> None:
    with redis.Redis(port=1, decode_responses=True, retry=Retry(NoBackoff(), 0)) as nowhere:
        Outages(Records(nowhere), OUTAGE_RULES).note(healthy(), "store_timeout")


# --- What is held is told or dropped ----------------------------------------------------------------------------------


def test_who_is_still_unreachable_afterwards_is_told_of_once_after_a_look(world: World) -> None:
    names = world.connect(50)
    world.fail(names)
    world.end()
    assert world.release().revalidated >= 49
    assert world.events(skip=50)[1] == [], "nobody has looked yet"
    for name in names[:5]:
        world.attempt(name, UNREACHABLE)
    assert world.release() == Released(), "still being tried"
    for name in names[:5]:
        world.attempt(name, UNREACHABLE)
    for name in names[5:]:
        world.succeed(name)
    assert world.release().reported == 5
    assert world.release() == Released()
    told, heard = world.events(skip=50)
    assert types(told) == ["operator.outage_started", "operator.outage_ended"], "their failing was no news"
    assert {event["subject"]: event["data"]["previous_status"] for event in heard} == dict.fromkeys(names[:5], "active")
    for name in names[:5]:
        committed(world.records.change(name, sooner))
        world.succeed(name)
    assert types(world.events(skip=50)[1]) == ["connection.unreachable"] * 5 + ["connection.recovered"] * 5
    assert all_in_order(world) == set(names)


def sooner(connection: Connection | None, now: float) -> Change:
    assert connection is not None
    return Change(replace(connection, work=Work(now, now)))


def test_good_news_is_told_while_the_outage_is_on(world: World) -> None:
    names = world.connect(30)
    world.fail(names)
    begin(world.records, "m-30")
    for _ in range(2):
        world.attempt("m-30", UNREACHABLE)
    assert "m-30" in world.held_names()
    world.put("m-30")
    assert world.release().reported == 1
    of_it = [event for event in world.events()[1] if event["subject"] == "m-30"]
    assert types(of_it) == ["connection.onboarding", "connection.active"]
    assert of_it[1]["data"]["previous_status"] == "onboarding"
    assert world.outages.review() is not None
    assert all_in_order(world) == {*names, "m-30"}


def test_good_news_does_not_wait_behind_what_is_held(world: World) -> None:
    world.fail(world.connect(30))
    world.put("m-9", slots={}, shipping_methods=type(healthy().shipping_methods)())
    assert world.held.release(TWICE, count=1).reported == 1


def test_trouble_of_another_sort_is_held_too_and_told_as_it_is_in_the_end(world: World) -> None:
    names = world.connect(30)
    world.fail(names)
    world.put("m-0", trouble=Trouble(Cause("permission_denied"), passing=False))
    world.put("m-1", credential=key(KeyVerdict.REJECTED))
    world.end()
    world.release()
    for name in names[1:]:
        world.attempt(name, None)
    world.attempt("m-0", PermanentError("permission_denied"))
    assert world.release().reported == 1
    (event,) = world.events(skip=30)[1]
    assert (event["subject"], event["type"]) == ("m-0", "occ.connection.degraded")
    assert event["data"]["previous_status"] == "active"
    assert [finding["code"] for finding in event["data"]["findings"]] == ["permission_denied"]


def test_silence_is_no_end_and_one_of_those_held_is_looked_at_to_find_out(world: World) -> None:
    names = world.connect(30)
    world.fail(names)
    world.window_passes()
    assert world.outages.review() is not None, "nobody was asked"
    assert world.release().revalidated == 1
    assert world.release().revalidated == 0, "now and then, not at every tick"
    (looked_at,) = map(str, world.client.zrangebyscore("occ:due", "-inf", time.time()))
    world.attempt(looked_at, None)
    assert world.outages.review() is None


def test_one_call_sees_to_so_many_and_the_next_goes_on(world: World) -> None:
    world.fail(world.connect(60))
    world.end()
    looked_at = [world.held.release(TWICE, count=25).revalidated for _ in range(4)]
    assert looked_at == [25, 25, 10, 0]


def test_a_tick_that_dies_in_between_loses_and_doubles_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_events_module, "_AGAIN_AFTERWARDS", 0.2)
    names = world.connect(30)
    world.fail(names)
    world.end()
    world.release()
    world.fail(names)
    with monkeypatch.context() as dying:
        dying.setattr(HeldEvents, "_settle", dies)
        wait_until(lambda: died(world))
    assert world.events(skip=30)[1] == []
    told = 0
    while told < 30:
        told += world.held.release(TWICE).reported
    assert told == 30
    assert Counter(event["subject"] for event in world.events(skip=30)[1]) == Counter(names)
    assert all_in_order(world) == set(names)


def dies(*_: object) -> None:
    raise KeyboardInterrupt


def died(world: World) -> bool:
    try:
        world.held.release(TWICE)
    except KeyboardInterrupt:
        return True
    return False


def test_a_script_sent_again_because_its_answer_was_lost_tells_once(world: World) -> None:
    names = world.connect(30)
    world.fail(names)
    world.put("m-0", slots={}, shipping_methods=type(healthy().shipping_methods)())
    seen: list[tuple[str, Snapshot, str | None, Next]] = [("m-0", world.records.load("m-0"), "active", Next.REPORT)]
    assert world.held._settle(seen) == (1, 0)
    assert world.held._settle(seen) == (0, 0)
    assert [event["subject"] for event in world.events(skip=30)[1]] == ["m-0"]


def test_a_record_that_is_gone_or_of_another_release_keeps_nobody_waiting(world: World) -> None:
    names = world.connect(30)
    world.fail(names)
    world.client.delete("occ:connection:m-0")
    world.client.hset("occ:connection:m-1", "record", '{"of": "another release"}')
    world.end()
    released = world.release()
    assert (released.dropped, released.reported) == (1, 0)
    assert world.held_names() == set(names) - {"m-0"}


def test_with_workers_and_ticks_at_once_every_merchant_has_one_story(world: World) -> None:
    """Statuses change in many threads, outages come and go, and several ticks let news go all the while."""
    names = world.connect(6)
    states: list[dict[str, object]] = [
        {},
        {"trouble": Trouble(Cause("store_timeout"), passing=True), "work": Work(9e9, 9e9)},
        {"trouble": Trouble(Cause("redirected"), passing=False), "work": Work(9e9, 9e9)},
        {"credential": key(KeyVerdict.REJECTED), "work": Work(9e9, 9e9)},
        {"slots": {}, "shipping_methods": type(healthy().shipping_methods)()},
    ]

    def work(index: int) -> None:
        dice = random.Random(index)  # noqa: S311
        for _ in range(150):
            if index == 0:
                turn(world, on=dice.random() < 0.5)
            elif index < 4:
                world.release()
            else:
                world.put(dice.choice(names), **dice.choice(states))

    at_once(8, work)
    turn(world, on=False)
    world.client.hset("occ:outage", "ended_at", 1.0)
    world.release()
    assert world.held_names() == set()
    assert all_in_order(world) == set(names)
    assert len(world.events()[1]) > 50


def turn(world: World, *, on: bool) -> None:
    if on:
        world.client.hset("occ:outage", "kind", "network")
    else:
        world.client.hdel("occ:outage", "kind")
        world.client.hset("occ:outage", "ended_at", 1.0)


def all_in_order(world: World) -> set[str]:
    """The merchants told of: each event goes on where the one before ended, and the last says what is recorded."""
    _, events = world.events()
    assert len({event["id"] for event in events}) == len(events)
    stories: dict[str, Events] = {}
    for event in events:
        stories.setdefault(event["subject"], []).append(event)
    for name, story in stories.items():
        for before, after in pairwise(story):
            assert after["data"]["previous_status"] == before["data"]["status"]
            assert after["sequence"] > before["sequence"]
        if name not in world.held_names():
            assert story[-1]["data"]["status"] == world.connection(name).status
    return set(stories)


def test_an_outage_is_read_again_as_it_was_declared(world: World) -> None:
    world.fail(world.connect(20))
    begun = world.outages.review()
    assert isinstance(begun, Outage)
    assert Outages(world.records, OUTAGE_RULES).review() == begun


class Behind:
    """The clock of a process that was held up: in the part of the window before this one."""

    def __init__(self, clock: Clock, part: float) -> None:
        self.clock, self.part = clock, part

    def now(self) -> float:
        now = self.clock.now()
        return now - now % self.part - 0.5


def test_a_process_whose_time_is_behind_sees_what_the_others_have_noted(client: redis.Redis) -> None:
    world = World(client)
    names = world.connect(40)
    for name in names:
        world.attempt(name, UNREACHABLE)
    assert world.outages.review() is not None
    behind = Outages(world.records, OUTAGE_RULES)
    behind._clock = Behind(world.records.clock, OUTAGE_RULES.window / 5)  # type: ignore[assignment]
    assert behind.review() is not None, "it would end the outage"


def test_a_process_whose_time_is_behind_does_not_begin_what_has_just_ended(client: redis.Redis) -> None:
    world = World(client)
    behind = Outages(world.records, OUTAGE_RULES)
    behind._clock = Behind(world.records.clock, OUTAGE_RULES.window / 5)  # type: ignore[assignment]
    old = int(world.records.clock.now() // 60) - 6  # has left the window, but not as the other sees it
    for name in range(40):
        client.pfadd(f"occ:outcomes:{old}:asked", name)
        client.pfadd(f"occ:outcomes:{old}:{OutageKind.NETWORK.value}", name)
    client.hset("occ:outage", "ended_at", str(world.records.clock.now()))
    assert behind.review() is None
    client.delete("occ:outage")
    assert behind.review() is not None, "else this shows nothing"
