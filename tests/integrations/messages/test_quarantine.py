"""What cannot be handled is kept, listed and returned; what may hold a key in the clear is only listed."""

import base64
import gzip
import json
import threading

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import RequestRefused
from integrations.messages.quarantine import (
    LARGEST_KEPT,
    LIMIT,
    QUARANTINE,
    discard,
    holds_clear_key,
    list_quarantine,
    quarantine,
    requeue,
)
from occ.simulator.application_keys import make_application_key

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtLTEifQ.c2lnbmF0dXJlLW9mLXRoZS1rZXk"
SEALED = "sealed.v1.k1." + base64.urlsafe_b64encode(bytes(range(97, 177))).decode().rstrip("=")
NOON = 1_795_435_200.0


def put(client: redis.Redis, message: bytes, reason: str = "not JSON", queue: str = "occ") -> None:
    quarantine(client, queue=queue, reason=reason, message=message, now=NOON)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def connect_request(application_key: str) -> str:
    body = [[], {"merchant_id": "m-1", "store_url": "https://a.example", "application_key": application_key}, {}]
    return json.dumps({"body": in_base64(json.dumps(body)), "headers": {"task": "occ.connect", "id": "1"}})


@pytest.mark.server
def test_a_message_is_kept_as_it_came(redis_client: redis.Redis) -> None:
    put(redis_client, b"{half a messag\xc3\xa9", reason="not JSON")
    [entry] = list_quarantine(redis_client)
    assert (entry.queue, entry.reason, entry.size) == ("occ", "not JSON", 16)
    assert entry.at == "2026-11-23T12:00:00.000+00:00"
    assert entry.content() == b"{half a messag\xc3\xa9"


@pytest.mark.server
def test_bytes_that_are_no_text_are_kept_too(redis_client: redis.Redis) -> None:
    put(redis_client, b"\xff\x00\xfe")
    [entry] = list_quarantine(redis_client)
    assert (entry.encoding, entry.content()) == ("base64", b"\xff\x00\xfe")


@pytest.mark.server
def test_the_newest_comes_first_and_the_oldest_gives_way(redis_client: redis.Redis) -> None:
    for number in range(LIMIT + 5):
        put(redis_client, b"%d" % number)
    entries = list_quarantine(redis_client)
    assert len(entries) == redis_client.llen(QUARANTINE) == LIMIT
    assert (entries[0].content(), entries[-1].content()) == (b"1004", b"5")
    assert [entry.content() for entry in list_quarantine(redis_client, limit=2)] == [b"1004", b"1003"]


@pytest.mark.server
def test_a_returned_message_is_in_its_queue_and_nowhere_else(redis_client: redis.Redis) -> None:
    put(redis_client, b"\xffone", queue="occ.steps")
    put(redis_client, b"two")
    [_, one] = list_quarantine(redis_client)
    assert requeue(redis_client, one.id) == one
    assert redis_client.lrange("occ.steps", 0, -1) == [b"\xffone"]
    assert [entry.content() for entry in list_quarantine(redis_client)] == [b"two"]


@pytest.mark.server
def test_two_operators_return_a_message_once(redis_client: redis.Redis) -> None:
    put(redis_client, b"one")
    [entry] = list_quarantine(redis_client)
    refused = []

    def operator() -> None:
        try:
            requeue(redis_client, entry.id)
        except RequestRefused as error:
            refused.append(error.code)

    operators = [threading.Thread(target=operator) for _ in range(8)]
    for thread in operators:
        thread.start()
    for thread in operators:
        thread.join()
    assert redis_client.llen("occ") == 1
    assert refused == ["not_in_quarantine"] * 7


@pytest.mark.server
def test_a_discarded_message_is_gone(redis_client: redis.Redis) -> None:
    put(redis_client, b"one")
    [entry] = list_quarantine(redis_client)
    discard(redis_client, entry.id)
    assert list_quarantine(redis_client) == []
    with pytest.raises(RequestRefused):
        discard(redis_client, entry.id)
    with pytest.raises(RequestRefused):
        requeue(redis_client, entry.id)


@pytest.mark.server
@pytest.mark.parametrize("message", [connect_request(JWT).encode(), b"x" * (LARGEST_KEPT + 1)])
def test_what_is_withheld_is_listed_and_cannot_be_returned(redis_client: redis.Redis, message: bytes) -> None:
    put(redis_client, message)
    [entry] = list_quarantine(redis_client)
    assert entry.withheld in {"secret", "too_large"}
    with pytest.raises(RequestRefused) as refusal:
        requeue(redis_client, entry.id)
    assert refusal.value.code == "message_withheld"
    assert len(list_quarantine(redis_client)) == 1


@pytest.mark.server
def test_foreign_entries_do_not_hide_ours(redis_client: redis.Redis) -> None:
    put(redis_client, b"ours")
    for foreign in (b"garbage", b"{}", b'{"id": "x"}', b"\xff", b"[]", b"null"):
        redis_client.lpush(QUARANTINE, foreign)
    entries = list_quarantine(redis_client)
    assert len(entries) == 7
    assert entries[-1].content() == b"ours"
    for entry in entries:
        discard(redis_client, entry.id)
    assert redis_client.llen(QUARANTINE) == 0


@pytest.mark.server
def test_a_client_that_decodes_answers_works_too(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        put(client, "grüße".encode())
        [entry] = list_quarantine(client)
        requeue(client, entry.id)
        assert client.lrange("occ", 0, -1) == ["grüße"]


@pytest.mark.server
def test_a_key_in_the_clear_does_not_reach_the_server(redis_client: redis.Redis) -> None:
    put(redis_client, connect_request(JWT).encode())
    put(redis_client, connect_request(JWT).encode()[:-30])  # cut off: no JSON, but the body is still there
    stored = str(redis_client.lrange(QUARANTINE, 0, -1))
    assert stored.count("withheld") == 2
    for layer in (JWT, *(in_base64("x" * shift + JWT)[4:-4] for shift in range(3))):
        assert layer not in stored


@pytest.mark.parametrize(
    "message",
    [
        connect_request(JWT),
        connect_request("an-old-style-key"),
        connect_request(JWT)[: len(connect_request(JWT)) // 2 + 40],
        in_base64(connect_request(JWT)),
        json.dumps({"headers": {"kwargsrepr": "{'application_key': 'abc'}"}}),
        json.dumps({"headers": {"argsrepr": f"('m-1', '{JWT}')"}}),
        json.dumps({"application_key": ["abc"]}),
        json.dumps(f"Authorization: Bearer {'x' * 20}"),
        'application_key="abc"',
        "application_key=abc&store_url=x",
        connect_request(JWT).replace("eyJ", "\\u0065yJ"),
        json.dumps({"application_key": JWT}).replace("application", "applic\\u0061tion"),
        base64.urlsafe_b64encode(json.dumps([JWT]).encode()).decode(),
        json.dumps({"body": base64.encodebytes(f"{'a' * 30}application_key: abcdef".encode()).decode()}),
        json.dumps({"body": in_base64("~~~?~~?~~~?~~~? application_key: abcdef")}).replace("/", "\\/"),
    ],
)
def test_a_key_in_the_clear_is_noticed(message: str) -> None:
    assert holds_clear_key(message.encode())


@pytest.mark.parametrize(
    "message",
    [
        f"application_key: {JWT}".encode("utf-16"),
        in_base64("application_key: abc").encode("utf-16-le"),
        base64.b64encode(gzip.compress(JWT.encode(), mtime=0)),
        gzip.compress(JWT.encode(), mtime=0),
        f"\x80\x04\x95application_key\x94\x8c{JWT}\x94".encode("latin-1"),
    ],
)
def test_a_key_in_another_encoding_is_noticed(message: bytes) -> None:
    assert holds_clear_key(message)


@pytest.mark.parametrize(
    "message",
    [
        connect_request(SEALED),
        connect_request(SEALED)[:-20],
        json.dumps({"headers": {"kwargsrepr": f"{{'application_key': '{SEALED}'}}"}}),
        json.dumps({"application_key": None}),
        json.dumps({"application_key": ""}),
        "",
        "not JSON",
        json.dumps({"store_url": "https://ccadmin-prod-zb12c.oracleoutsourcing.com/occs-admin"}),
        "6f1b0c1e-0000-4000-8000-000000000001",
    ],
)
def test_a_sealed_key_is_kept(message: str) -> None:
    assert not holds_clear_key(message.encode())


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_can_be_judged(message: bytes) -> None:
    holds_clear_key(message)


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_around_a_key_hides_it(before: bytes, after: bytes) -> None:
    assert holds_clear_key(before + b'"' + JWT.encode() + b'"' + after)
    assert holds_clear_key(before + b'"' + base64.b64encode(JWT.encode()) + b'"' + after)


@pytest.mark.parametrize("length", range(6))
def test_an_application_key_as_oracle_pads_it_is_recognised(length: int) -> None:
    key = make_application_key(subject="x" * length, signature=bytes(range(220, 251)))
    assert holds_clear_key(json.dumps({"body": key}).encode())


@pytest.mark.server
def test_no_source_pushes_out_what_others_have_set_aside(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.messages.quarantine.LIMIT", 20)
    for number in range(5):
        put(redis_client, f"a request {number}".encode(), reason="it has expired")
    for number in range(100):
        put(redis_client, f"rubbish {number}".encode())
    for number in range(3):
        put(redis_client, f"of the inbox {number}".encode(), queue="occ:inbox", reason="KeyError")
    kept = [str(entry.message) for entry in list_quarantine(redis_client)]
    assert len(kept) == 20
    assert [text for text in kept if text.startswith("a request")] == [f"a request {n}" for n in (4, 3, 2, 1, 0)]
    assert len([text for text in kept if text.startswith("of the inbox")]) == 3
    assert [text for text in kept if text.startswith("rubbish")] == [f"rubbish {n}" for n in range(99, 87, -1)]


@pytest.mark.server
def test_what_was_taken_out_by_hand_or_by_an_older_release_keeps_nobody_from_being_set_aside(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.messages.quarantine.LIMIT", 3)
    for number in range(3):
        put(redis_client, f"old {number}".encode(), reason="one")
    redis_client.delete("occ:quarantine")
    for number in range(9):
        put(redis_client, f"new {number}".encode(), reason="another")
    assert [entry.message for entry in list_quarantine(redis_client)] == ["new 8", "new 7", "new 6"]
    redis_client.delete("occ:quarantine:sources")
    put(redis_client, b"newest", reason="a third")
    assert [entry.message for entry in list_quarantine(redis_client)] == ["newest", "new 8", "new 7"]
    for entry in list_quarantine(redis_client):
        discard(redis_client, entry.id)
    assert redis_client.exists("occ:quarantine", "occ:quarantine:sources") == 0
