from typing import Any

import pytest

from occ.simulator.application_keys import make_application_key
from occ.simulator.caller import Caller, shown
from occ.simulator.clocks import StoppedClock
from occ.simulator.store import SimulatedStore


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def caller_of(clock: StoppedClock, **changes: Any) -> Caller:
    return Caller(SimulatedStore("m-1", url="https://store.example", clocks=clock.clocks, **changes))


def alive(caller: Caller) -> bool:
    return caller.ask("POST", "/ccadmin/v1/verify").status == 200


def test_a_login_is_answered_as_documented(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    reply = caller.exchange()
    body = shown(reply)
    assert reply.status == 200
    token = body.pop("access_token")
    assert body == {
        "token_type": "bearer",
        "expires_in": 300,
        "links": [{"rel": "self", "href": "https://store.example/ccadmin/v1/login"}],
    }
    assert [bool(segment) for segment in token.split(".")] == [True, True, True]
    assert 2_000 < len(token) < 2_500
    assert token.endswith("=")


def test_the_grant_type_may_come_in_the_query(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    key = caller.store.application_key
    reply = caller.ask("POST", "/ccadmin/v1/login?grant_type=client_credentials", b"", bearer=key)
    assert reply.status == 200


@pytest.mark.parametrize("body", [b"", b"grant_type=password", b'{"grant_type": "client_credentials"}', b"\xff\xfe"])
def test_another_grant_type_is_refused(clock: StoppedClock, body: bytes) -> None:
    caller = caller_of(clock)
    reply = caller.ask("POST", "/ccadmin/v1/login", body, bearer=caller.store.application_key)
    assert reply.status == 400
    assert shown(reply)["status"] == "400"


@pytest.mark.parametrize("key", ["", "a.b.c", "nonsense"])
def test_a_key_it_does_not_know_is_refused(clock: StoppedClock, key: str) -> None:
    reply = caller_of(clock).exchange(key)
    assert reply.status == 401
    assert shown(reply) == {"message": "The application key is not valid.", "status": "401", "errorCode": "10401"}


@pytest.mark.parametrize(
    ("shape", "content_type", "has"),
    [
        ("errorCode", "application/json", b'"errorCode"'),
        ("plain", "application/json", b'"status": "401"'),
        ("error", "application/json", b'{"error": "invalid_client"}'),
        ("html", "text/html", b"<html>"),
        ("empty", "", b""),
    ],
)
def test_a_refusal_comes_in_every_shape(clock: StoppedClock, shape: str, content_type: str, has: bytes) -> None:
    reply = caller_of(clock, login_rejection=shape).exchange("other.key.x")
    assert reply.status == 401
    assert has in reply.body
    assert bool(reply.body) == bool(has)
    assert reply.headers.get("Content-Type", "").startswith(content_type)


def test_a_revoked_key_no_longer_logs_in_but_its_token_lives_on(clock: StoppedClock) -> None:
    caller = caller_of(clock).login()
    caller.store.change(revoke_keys=[caller.store.application_key])
    assert caller.exchange().status == 401
    assert alive(caller)


def test_several_keys_can_be_accepted(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    old, new = caller.store.application_key, make_application_key()
    assert caller.exchange(new).status == 401
    caller.store.change(accept_keys=[new])
    assert caller.exchange(new).status == caller.exchange(old).status == 200
    caller.store.change(revoke_keys=True)
    assert caller.exchange(new).status == caller.exchange(old).status == 401


def test_a_key_past_its_expiry_is_refused_unless_the_release_does_not_care(clock: StoppedClock) -> None:
    key = make_application_key(expires_at=clock.clocks.wall() + 10)
    caller = caller_of(clock, application_key=key)
    assert caller.exchange(key).status == 200
    clock.advance(10)
    assert caller.exchange(key).status == 401
    caller.store.change(enforce_key_expiry=False)
    assert caller.exchange(key).status == 200


@pytest.mark.parametrize(("shape", "expected"), [("number", 300), ("string", "300"), ("missing", None)])
def test_the_lifetime_is_told_in_every_shape(clock: StoppedClock, shape: str, expected: object) -> None:
    assert shown(caller_of(clock, expires_in=shape).exchange()).get("expires_in") == expected


def test_a_token_dies_when_announced(clock: StoppedClock) -> None:
    caller = caller_of(clock, token_lifetime=60).login()
    clock.advance(59.9)
    assert alive(caller)
    clock.advance(0.2)
    assert not alive(caller)


def test_a_token_can_die_earlier_than_announced(clock: StoppedClock) -> None:
    caller = caller_of(clock, token_dies_after=2)
    assert shown(caller.exchange())["expires_in"] == 300
    clock.advance(2)
    assert not alive(caller)


def test_a_token_can_die_between_every_pair_of_calls(clock: StoppedClock) -> None:
    caller = caller_of(clock, token_uses=1)
    for _ in range(3):
        caller.login()
        assert alive(caller)
        assert not alive(caller)


def test_all_tokens_can_be_killed_at_once(clock: StoppedClock) -> None:
    caller = caller_of(clock).login()
    caller.store.kill_tokens()
    assert not alive(caller)
    assert alive(caller.login())


def test_older_tokens_stay_good_after_another_login(clock: StoppedClock) -> None:
    first = caller_of(clock).login()
    second = Caller(first.store).login()
    assert first.token != second.token
    assert alive(first)
    assert first.store.summary()["tokens_living"] == 2


def test_a_refused_token_is_answered_with_the_status_as_a_string(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    reply = caller.ask("GET", "/ccadmin/v1/shippingMethods")
    assert reply.status == 401
    assert shown(reply).keys() == {"message", "status"}
    assert shown(reply)["status"] == "401"


def test_a_token_can_be_verified_refreshed_and_given_back(clock: StoppedClock) -> None:
    caller = caller_of(clock).login()
    assert shown(caller.ask("POST", "/ccadmin/v1/verify")) == {"success": True}
    fresh = shown(caller.ask("POST", "/ccadmin/v1/refresh"))
    assert fresh["token_type"] == "bearer"
    assert fresh["access_token"] != caller.token
    assert shown(caller.ask("POST", "/ccadmin/v1/logout")) == {"result": True}
    assert not alive(caller)
    assert caller.ask("POST", "/ccadmin/v1/refresh").status == 401


def test_the_registry_needs_no_token_and_tells_the_release(clock: StoppedClock) -> None:
    reply = caller_of(clock).ask("GET", "/ccadmin/v1/registry", bearer="")
    assert reply.status == 200
    assert reply.headers["OracleCommerceCloud-Version"] == "24.2.1"
    assert {"id": "login", "method": "POST", "url": "/ccadmin/v1/login", "authRequired": False} in shown(reply)["items"]


def test_unknown_paths_and_methods_are_told_apart(clock: StoppedClock) -> None:
    caller = caller_of(clock)
    assert caller.ask("GET", "/ccstore/v1/products").status == 404
    assert caller.ask("GET", "/ccadmin/v1/login").status == 405
    assert caller.ask("DELETE", "/ccadmin/v1/webhooks/order-submit").status == 405
