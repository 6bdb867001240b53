"""The pipeline's clock goes on whatever is done to the server's."""

from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from integrations import clock as module
from integrations.clock import Clock, Seen, ahead_by, ours_at, seen_in, steadied
from integrations.connections.records import DUE, Records
from integrations.messages.scheduled import release_due, schedule
from tests.moved_clock import ClockedServer, clocked_server

NOON = 1_800_000_000.0
STEPS = st.sampled_from([-86400.0, -3600.0, -60.0, 60.0, 3600.0, 86400.0, 40 * 365 * 86400.0])


@given(off_by=st.floats(-1e6, 1e6), passed=st.floats(0, 20), step=STEPS)
def test_who_remembers_goes_on_as_if_the_clock_had_not_been_set(off_by: float, passed: float, step: float) -> None:
    seen = Seen(NOON, NOON + off_by)
    server = NOON + passed + step
    assert server + ahead_by(server, seen, passed, seen) == pytest.approx(NOON + off_by + passed, abs=0.001)


@given(off_by=st.floats(-1e6, 1e6), passed=st.floats(0, 1e5), step=STEPS)
def test_what_another_has_put_right_is_not_put_right_again(off_by: float, passed: float, step: float) -> None:
    server = NOON + passed + step
    put_right = Seen(server - 1, NOON + off_by + passed - 1)
    assert server + ahead_by(server, Seen(NOON, NOON + off_by), passed, put_right) == pytest.approx(
        NOON + off_by + passed, abs=0.001
    )


@given(paused=st.floats(10, 1e6), since=st.floats(0, 29))
def test_a_machine_that_was_paused_takes_the_time_from_those_that_were_not(paused: float, since: float) -> None:
    server = NOON + paused
    watched = Seen(server - since, server - since + 7)
    assert ahead_by(server, Seen(NOON, NOON + 7), 1.0, watched) == pytest.approx(7, abs=0.001)


@given(off_by=st.floats(-1e6, 1e6), back=st.floats(5.1, 1e9))
def test_who_remembers_nothing_never_goes_back_behind_what_a_tick_saw(off_by: float, back: float) -> None:
    stored = Seen(NOON, NOON + off_by)
    assert NOON - back + ahead_by(NOON - back, None, 0.0, stored) >= stored.ours - 0.001


def test_time_that_passed_while_all_was_stopped_is_time_that_passed() -> None:
    assert ahead_by(NOON + 7200, None, 0.0, Seen(NOON, NOON)) == 0.0
    assert ahead_by(NOON + 7200, None, 0.0, Seen(NOON, NOON - 60)) == -60
    # A clock that was set back, and is right again: there is nothing left to be ahead of.
    assert ahead_by(NOON + 3700, None, 0.0, Seen(NOON, NOON + 3600)) == 0.0
    assert ahead_by(NOON + 60, None, 0.0, Seen(NOON, NOON + 3600)) == 3540.0


@given(ahead=st.floats(-1e6, 1e6), passed=st.floats(0, 60))
def test_it_comes_back_to_the_servers_slowly_and_never_goes_beyond(ahead: float, passed: float) -> None:
    after = steadied(ahead, passed)
    assert abs(after) <= abs(ahead)
    assert after * ahead >= 0
    assert -0.1 * passed - 0.001 <= after - ahead <= 0.02 * passed + 0.001


def test_what_is_no_time_in_the_place_of_one_is_ignored() -> None:
    for text in (None, "", "12", "a b", b"\xff", "nan nan", "inf 1", "1 2 3"):
        assert seen_in(text) is None
        assert ours_at(NOON, text) == NOON
    assert seen_in(b"1.5 2.5") == seen_in(Seen(1.5, 2.5).text()) == Seen(1.5, 2.5)


@pytest.fixture(scope="module")
def clocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClockedServer]:
    with clocked_server(tmp_path_factory.mktemp("clocked") / "server") as server:
        yield server


@pytest.fixture
def client(clocked: ClockedServer) -> Iterator[redis.Redis]:
    clocked.set_clock(0)
    with redis.Redis.from_url(clocked.url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.mark.server
def test_a_time_that_waited_for_its_reader_puts_no_clock_back(redis_client: redis.Redis) -> None:
    counted = [0.0]
    ours = Clock(redis_client, count=lambda: counted[0])
    began = ours.now()
    for _ in range(3):
        counted[0] += 2
        ours.ours(began + counted[0] - 1.5)  # a busy machine: it was read a second and a half ago
        assert ours.now() == pytest.approx(began + counted[0], abs=0.001)
    ours.ours(began + counted[0] + 0.5)  # what was read sooner than the first tells more
    assert ours.now() == pytest.approx(began + counted[0] + 0.5, abs=0.001)


@pytest.mark.server
@pytest.mark.parametrize("off_by", [-3600, 3600, -7 * 86400])
def test_the_servers_clock_is_set_and_ours_goes_on(clocked: ClockedServer, client: redis.Redis, off_by: int) -> None:
    ours = Clock(client)
    counted, began = module.elapsed(), ours.keep().ours
    clocked.set_clock(off_by)
    seconds, microseconds = client.time()
    for now in (ours.ours(float(seconds) + float(microseconds) / 1e6), ours.keep().ours, ours.now()):
        assert now - began == pytest.approx(module.elapsed() - counted, abs=10)
    # Whoever comes later, and remembers nothing, reads it.
    assert Clock(client).now() - began == pytest.approx(module.elapsed() - counted, abs=10)
    clocked.set_clock(0)  # and it is right again
    assert ours.keep().ours - began == pytest.approx(module.elapsed() - counted, abs=10)
    assert Clock(client).now() - began == pytest.approx(module.elapsed() - counted, abs=10)


@pytest.mark.server
def test_a_clock_that_was_set_back_while_nothing_ran_stops_nothing(clocked: ClockedServer, client: redis.Redis) -> None:
    before = Clock(client).keep().ours
    clocked.set_clock(-3600)
    assert Clock(client).now() >= before


@pytest.mark.server
@pytest.mark.parametrize("off_by", [-3600, 3600])
def test_what_waits_waits_as_long_as_it_was_to_whatever_the_servers_clock_is_set_to(
    clocked: ClockedServer, client: redis.Redis, off_by: int
) -> None:
    counted = [0.0]
    records = Records(client)
    records.clock = Clock(client, count=lambda: module.elapsed() + counted[0])
    now = records.clock.keep().ours
    client.zadd(DUE, {"soon": now + 600, "later": now + 2400})
    schedule(client, records.clock, "revalidate", {"merchant_id": "m-1"}, now + 600)
    clocked.set_clock(off_by)
    assert records.take_due(10, 60).work == ()
    assert release_due(client, records.clock, 10) == 0
    counted[0] = 700.0  # ten minutes later; the server's clock has been set once more, if you like
    assert records.take_due(10, 60).work == (("soon", None),)
    assert records.overdue().count == 0
    assert release_due(client, records.clock, 10) == 1
