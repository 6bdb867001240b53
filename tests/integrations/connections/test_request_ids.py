"""A request id stands for one request: the same again is not done again, another is refused, and both are found."""

import dataclasses

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.connections.known_request import SCHEDULED, TAKING, KnownRequest, digest_of
from integrations.connections.request_ids import REMEMBERED_FOR, REQUESTS, WRITTEN_AT, RequestIds
from integrations.errors import RequestRefused
from tests.examples import examples

pytestmark = pytest.mark.server

SENT = KnownRequest("connect", "inbox", request_id="r-1", merchant_id="m-1", digest=digest_of("connect", "m-1"))
OTHER = dataclasses.replace(SENT, digest=digest_of("connect", "m-2"))
NO = RequestRefused("store_url", "missing", "send store_url")


def outcome(request: KnownRequest, outcome: str) -> KnownRequest:
    return dataclasses.replace(request, outcome=outcome)


@pytest.fixture
def ids(client: redis.Redis) -> RequestIds:
    return RequestIds(client)


def found(ids: RequestIds, name: str) -> KnownRequest:
    known = ids.find(name)
    assert known is not None
    return known


def test_a_request_is_taken_once(ids: RequestIds) -> None:
    assert ids.claim(SENT) is None
    ids.settle(dataclasses.replace(SENT, outcome="accepted", run=3))
    again = ids.claim(SENT)
    assert again is not None
    assert (again.outcome, again.run) == ("accepted", 3)
    assert found(ids, "r-1").at > 1_700_000_000


@pytest.mark.parametrize("stage", [TAKING, SCHEDULED])
def test_what_was_not_finished_is_taken_again_and_only_that(ids: RequestIds, stage: str) -> None:
    ids.settle(outcome(SENT, stage))
    with pytest.raises(RequestRefused):
        ids.claim(OTHER)
    assert ids.claim(SENT) is None, "a worker may have died over it"


@pytest.mark.parametrize("ended", ["accepted", "unchanged", "under_way", "disconnected"])
def test_another_request_with_the_same_id_is_refused_and_changes_nothing(ids: RequestIds, ended: str) -> None:
    ids.settle(outcome(SENT, ended))
    with pytest.raises(RequestRefused) as refused:
        ids.claim(OTHER)
    assert (refused.value.field, refused.value.code) == ("request_id", "request_id_reused")
    ids.refuse(OTHER.refused(refused.value))
    assert found(ids, "r-1").outcome == ended


def test_a_refused_request_may_be_corrected_under_its_id(ids: RequestIds) -> None:
    ids.refuse(dataclasses.replace(SENT, digest="", reference="17-0").refused(NO))
    assert (found(ids, "r-1").code, found(ids, "17-0").code) == ("missing", "missing")
    assert ids.claim(SENT) is None
    ids.settle(outcome(SENT, "accepted"))
    assert found(ids, "r-1").outcome == "accepted"


@pytest.mark.parametrize("stage", [TAKING, SCHEDULED])
def test_a_request_that_is_refused_after_it_was_claimed_is_known_as_refused(ids: RequestIds, stage: str) -> None:
    ids.settle(outcome(SENT, stage))
    ids.refuse(SENT.refused(NO))
    assert found(ids, "r-1").outcome == "refused"


def test_requests_without_an_id_leave_nothing(ids: RequestIds, client: redis.Redis) -> None:
    without = dataclasses.replace(SENT, request_id="")
    assert ids.claim(without) is None
    ids.settle(without)
    ids.refuse(without)
    assert client.keys("*") == []


@given(name=st.text(min_size=1, max_size=128), other=st.text(min_size=1, max_size=128))
@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_an_id_and_found_only_by_itself(
    ids: RequestIds, client: redis.Redis, name: str, other: str
) -> None:
    client.flushdb()
    ids.settle(dataclasses.replace(SENT, request_id=name, outcome="accepted"))
    assert dataclasses.replace(found(ids, name), at=0.0) == dataclasses.replace(
        SENT, request_id=name, outcome="accepted"
    )
    assert (ids.find(other) is not None) == (other == name)


def test_only_so_many_are_remembered_and_the_newest(client: redis.Redis) -> None:
    ids = RequestIds(client, most=10)
    for number in range(25):
        ids.settle(outcome(dataclasses.replace(SENT, request_id=f"r-{number}"), "accepted"))
    assert (client.hlen(REQUESTS), client.zcard(WRITTEN_AT)) == (10, 10)
    assert ids.find("r-14") is None
    assert found(ids, "r-15").outcome == "accepted"


def test_after_a_week_a_request_is_forgotten_and_its_id_free(ids: RequestIds, client: redis.Redis) -> None:
    ids.settle(outcome(SENT, "accepted"))
    member = str(client.zrange(WRITTEN_AT, 0, 0)[0])
    client.zincrby(WRITTEN_AT, -REMEMBERED_FOR - 1, member)
    assert ids.find("r-1") is None
    assert ids.claim(OTHER) is None
    client.zincrby(WRITTEN_AT, -REMEMBERED_FOR - 1, member)
    ids.settle(outcome(dataclasses.replace(SENT, request_id="r-2"), "accepted"))
    assert client.hlen(REQUESTS) == 1, "the next write takes the old one out"
    for key in (REQUESTS, WRITTEN_AT):
        assert 0 < client.ttl(key) <= REMEMBERED_FOR


def test_what_a_newer_release_has_stored_is_read(ids: RequestIds, client: redis.Redis) -> None:
    ids.settle(outcome(SENT, "accepted"))
    (field,) = client.hkeys(REQUESTS)
    text = str(client.hget(REQUESTS, field))
    client.hset(REQUESTS, field, text.replace("{", '{"new": 1, ', 1))
    assert found(ids, "r-1").outcome == "accepted"
