"""When a tick does its work, and since when none has ended well: whatever the server's clock did meanwhile."""

import pytest
import redis

from integrations.messages.progress import (
    Oldest,
    begin_tick,
    note_oldest,
    oldest_messages,
    seconds_since_a_tick,
    tick_ended_well,
)
from integrations.messages.scheduled import server_time

pytestmark = pytest.mark.server


def test_two_ticks_at_once_are_one(client: redis.Redis) -> None:
    assert begin_tick(client)
    assert not begin_tick(client)


@pytest.mark.parametrize("seconds", [3600, 120, 2])
def test_a_clock_that_was_set_back_holds_up_no_tick(client: redis.Redis, seconds: int) -> None:
    client.set("occ:tick", server_time(client) + seconds)  # as it is once the clock was set back by as much
    assert begin_tick(client)


def test_how_long_no_tick_has_ended_well(client: redis.Redis) -> None:
    assert seconds_since_a_tick(client) is None
    tick_ended_well(client)
    assert (seconds_since_a_tick(client) or 0.0) < 60
    client.set("occ:tick:ended", server_time(client) - 100)
    assert (seconds_since_a_tick(client) or 0.0) >= 100
    client.set("occ:tick:ended", server_time(client) + 100)  # the clock was set back
    assert (seconds_since_a_tick(client) or 0.0) >= 90


def test_a_message_that_stays_the_oldest_of_its_queue_waits_and_one_that_was_taken_does_not(
    client: redis.Redis,
) -> None:
    now = server_time(client)
    note_oldest(client, {"occ": Oldest("a", 3), "occ.steps": Oldest("b", 1)}, now - 100)
    note_oldest(client, {"occ": Oldest("a", 5), "occ.steps": Oldest("c", 1)}, now - 40)
    found = oldest_messages(client)
    rounded = 0.001  # since when, in thousandths of a second
    assert 100 - rounded <= found["occ"].seconds < 160
    assert found["occ"].messages == 5
    assert 40 - rounded <= found["occ.steps"].seconds < 100
    note_oldest(client, {}, now)
    assert oldest_messages(client) == {}


def test_a_tick_holds_up_those_of_an_early_release_no_longer_than_a_second(client: redis.Redis) -> None:
    assert begin_tick(client)
    assert 0 < client.pttl("occ:tick") <= 1000
