"""Merchants of ours who share a store never write to a slot at the same moment."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.clock import Clock
from integrations.errors import TransientError
from integrations.oracle_commerce import registration
from integrations.oracle_commerce.one_writer import OneWriter, Written, lease_key
from integrations.oracle_commerce.settled import Settled
from integrations.oracle_commerce.slot import Ours
from tests.integrations.oracle_commerce.slot_stores import SLOT, THEIRS, OnlyListed, SlotInMemory
from tests.waiting import eventually

pytestmark = pytest.mark.server

STORE = "https://ccadmin-test-z1a2.oracleoutsourcing.com"


@pytest.fixture
def writers(redis_client: redis.Redis) -> OneWriter:
    """Leases that outlive a test."""
    return OneWriter(redis_client, lease=60)


def is_free(writers: OneWriter, store: str = STORE, slot: str = SLOT) -> bool:
    """Whether somebody could write to a slot now."""
    try:
        with writers.of(store, slot):
            return True
    except TransientError as refused:
        if refused.code != "slot_being_written" or refused.retry_after != 0.5:
            raise
        return False


def test_a_slot_is_written_by_one_at_a_time_and_other_slots_and_stores_are_free(writers: OneWriter) -> None:
    with writers.of(STORE, SLOT):
        assert not is_free(writers)
        assert is_free(writers, slot="order-update")
        assert is_free(writers, store="https://ccadmin-test-z1a3.oracleoutsourcing.com")
    assert is_free(writers)


def test_the_lease_of_a_lost_worker_ends_though_the_servers_clock_was_set_back(redis_client: redis.Redis) -> None:
    counted = [0.0]
    clock = Clock(redis_client, count=lambda: counted[0])
    writers = OneWriter(redis_client, lease=60, clock=clock)
    lost = writers.of(STORE, SLOT)
    lost.__enter__()
    redis_client.pexpire(lease_key(STORE, SLOT), 3_600_000)  # as its TTL is once the clock was set back by an hour
    assert not is_free(writers)
    counted[0] = 70.0
    assert is_free(writers)


@pytest.mark.parametrize(
    ("store", "slot"),
    [(STORE.upper(), SLOT), (STORE, "Order-Submit"), (STORE.replace("https", "http"), SLOT)],
)
def test_another_spelling_of_store_and_slot_is_the_same_slot(store: str, slot: str) -> None:
    assert lease_key(store, slot) == lease_key(STORE, SLOT)


def test_ports_tell_stores_apart() -> None:
    assert lease_key("http://127.0.0.1:8001", SLOT) != lease_key("http://127.0.0.1:8002", SLOT)


def test_an_attempt_that_fails_frees_the_slot(writers: OneWriter) -> None:
    with pytest.raises(ZeroDivisionError), writers.of(STORE, SLOT):
        _ = 1 / 0
    assert is_free(writers)


def test_whoever_dies_frees_the_slot_when_the_lease_ends(redis_client: redis.Redis) -> None:
    died = OneWriter(redis_client, lease=0.2).of(STORE, SLOT)
    died.__enter__()
    assert eventually(lambda: is_free(OneWriter(redis_client, lease=60)))


def test_whose_lease_has_ended_takes_nothing_from_the_next(redis_client: redis.Redis, writers: OneWriter) -> None:
    with OneWriter(redis_client, lease=0.05).of(STORE, SLOT):
        assert eventually(lambda: not redis_client.exists(lease_key(STORE, SLOT)))
        following = writers.of(STORE, SLOT)
        following.__enter__()
    assert not is_free(writers)


def test_a_script_that_is_sent_again_after_its_answer_was_lost_says_the_same(
    redis_client: redis.Redis, writers: OneWriter
) -> None:
    key = lease_key(STORE, SLOT)
    keys, back = [key], ["1000", "5 +https://hooks.example.com"]
    one, another = ["take", "3 one", "60000", "2"], ["take", "4 another", "60000", "2"]
    assert [writers._lease(keys=keys, args=one) for _ in range(2)] == [[1, b""], [1, b""]]
    assert writers._lease(keys=keys, args=another) == [0, b""]
    assert writers._lease(keys=keys, args=["give_back", "4 another", *back]) == 0
    assert 0 < redis_client.pttl(key) <= 60_000
    assert [writers._lease(keys=keys, args=["give_back", "3 one", *back]) for _ in range(2)] == [1, 0]
    assert 0 < redis_client.pttl(key) <= 1000
    assert writers._lease(keys=keys, args=another) == [1, b"5 +https://hooks.example.com"]
    assert [writers._lease(keys=keys, args=["give_back", "4 another", "1000", ""]) for _ in range(2)] == [1, 0]
    assert writers._lease(keys=keys, args=one) == [1, b"5 +https://hooks.example.com"], (
        "whoever writes nothing leaves it"
    )


def test_a_server_that_is_gone_at_the_end_costs_nobody_the_outcome(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, OneWriter(client, lease=60).of(STORE, SLOT):
        client.connection_pool = redis.ConnectionPool.from_url("redis://127.0.0.1:1", socket_timeout=1)


# --- A store that shows late ---


def test_a_slot_that_was_just_written_for_another_of_us_is_read_once_that_shows(writers: OneWriter) -> None:
    slot = SlotInMemory({"urls": [THEIRS]})
    with writers.of(STORE, SLOT) as lease:
        registration.register(Settled(slot, lease, SLOT, url_of(1), puts_in=True), SLOT, Ours(url_of(1)), "urls")
    cached = SlotInMemory({"urls": [THEIRS]})
    with writers.of(STORE, SLOT) as lease:
        assert lease.last == Written(url_of(1), is_in=True)
        store = Settled(cached, lease, SLOT, url_of(2), puts_in=True)
        with pytest.raises(TransientError, match="slot_being_written"):
            registration.register(store, SLOT, Ours(url_of(2)), "urls")
        assert cached.bodies == []
    with writers.of(STORE, SLOT) as lease:  # the cache has come to it
        registration.register(Settled(slot, lease, SLOT, url_of(2), puts_in=True), SLOT, Ours(url_of(2)), "urls")
    assert slot.urls == [THEIRS, url_of(1), url_of(2)]
    with writers.of(STORE, SLOT) as lease:
        registration.unregister(Settled(slot, lease, SLOT, url_of(1), puts_in=False), SLOT, Ours(url_of(1)), "urls")
    with writers.of(STORE, SLOT) as lease:
        store = Settled(SlotInMemory({"urls": [url_of(1), url_of(2)]}), lease, SLOT, url_of(2), puts_in=False)
        with pytest.raises(TransientError, match="slot_being_written"):
            registration.unregister(store, SLOT, Ours(url_of(2)), "urls")


def test_a_list_of_slots_is_waited_for_like_a_single_read(writers: OneWriter) -> None:
    with writers.of(STORE, SLOT) as lease:
        lease.written = Written(url_of(1), is_in=True)
    with writers.of(STORE, SLOT) as lease:
        stale = OnlyListed([{"id": "another", "urls": []}, {"id": SLOT.upper(), "urls": [THEIRS]}])
        with pytest.raises(TransientError, match="slot_being_written"):
            registration.register(Settled(stale, lease, SLOT, url_of(2), puts_in=True), SLOT, Ours(url_of(2)), "urls")
        assert stale.written == []


def test_ones_own_write_is_no_reason_to_wait(writers: OneWriter) -> None:
    for _ in range(2):
        slot = SlotInMemory({"urls": [THEIRS]})
        with writers.of(STORE, SLOT) as lease:
            registration.register(Settled(slot, lease, SLOT, url_of(1), puts_in=True), SLOT, Ours(url_of(1)), "urls")
        assert slot.urls == [THEIRS, url_of(1)]


# --- By law -----------------------------------------------------------------------------------------------------------


@dataclass
class SlowSlot(SlotInMemory):
    """A slot whose answers take a moment, in which others come."""

    seen_together: list[int] = field(default_factory=list)
    _inside: int = 0

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """Read, and let others come."""
        self._inside += 1
        self.seen_together.append(self._inside)
        try:
            read = super().read_slot(slot_id)
            time.sleep(0.002)
            return read
        finally:
            self._inside -= 1


def url_of(merchant: int) -> str:
    """A merchant's callback URL."""
    return f"https://hooks.example.com/occ/m-{merchant}/{SLOT}"


def until_it_was_our_turn(writers: OneWriter, slot: SlowSlot, merchant: int, *, leave: bool) -> None:
    """What a task does, with a wait where the due set has a due time."""

    def done() -> bool:
        try:
            with writers.of(STORE, SLOT):
                work = registration.unregister if leave else registration.register
                work(slot, SLOT, Ours(url_of(merchant)), "urls")
        except TransientError as refused:
            if refused.code != "slot_being_written":
                raise
            return False
        return True

    assert eventually(done)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A thread for each merchant."""
    with ThreadPoolExecutor(6) as pool:
        yield pool


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    leaving=st.lists(st.booleans(), min_size=2, max_size=6),
    theirs=st.lists(
        st.sampled_from([THEIRS, "https://erp.example.org/x", "http://legacy.example.net:8080/h"]), unique=True
    ),
)
def test_all_of_us_get_in_and_out_and_nobody_loses_anything(
    redis_client: redis.Redis, pool: ThreadPoolExecutor, leaving: list[bool], theirs: list[str]
) -> None:
    redis_client.flushdb()
    writers = OneWriter(redis_client, lease=60)
    there = [url_of(merchant) for merchant, leaves in enumerate(leaving) if leaves]
    slot, together = SlowSlot({"urls": [*theirs, *there]}), Barrier(len(leaving))

    def run(merchant: int) -> None:
        together.wait()
        until_it_was_our_turn(writers, slot, merchant, leave=leaving[merchant])

    list(pool.map(run, range(len(leaving))))
    staying = {url_of(merchant) for merchant, leaves in enumerate(leaving) if not leaves}
    assert slot.urls[: len(theirs)] == theirs
    assert {*slot.urls[len(theirs) :]} == staying
    assert len(slot.urls) == len(theirs) + len(staying)
    assert {*slot.seen_together} == {1}
