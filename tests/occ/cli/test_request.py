"""`occ request` tells what became of a request, wherever it is."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import redis

from integrations.clock import Clock
from integrations.connections.known_request import KnownRequest
from integrations.connections.records import Records
from integrations.errors import RequestRefused
from integrations.messages.quarantine import quarantine
from integrations.messages.scheduled import schedule, server_time
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]

SENT = KnownRequest("connect", "inbox", request_id="signup 4711", reference="17-0", merchant_id="m-1", digest="d")
NO = RequestRefused("store_url", "storefront_host", "give the address of the admin console")


def test_what_was_refused_is_told_with_the_remedy_by_each_of_its_ids(occ: Occ, records: Records) -> None:
    records.note_refusal(SENT.refused(NO), reported=True)
    for name in ("signup 4711", "17-0"):
        told = occ("request", name)
        assert told.exit_code == 1
        first, second, third = told.stdout.splitlines()
        assert re.match(r"The connect request for m-1 was refused \d+ s ago, ", first)
        assert second == "store_url: give the address of the admin console [storefront_host]"
        assert third == "Correct it and send it again; it may keep its request_id."
    told = occ("request", "17-0", "--json")
    expected = {
        "request_id": "signup 4711",
        "outcome": "refused",
        "request": "connect",
        "door": "inbox",
        "reference": "17-0",
        "merchant_id": "m-1",
        "field": "store_url",
        "code": "storefront_host",
        "remedy": "give the address of the admin console",
        "connection": None,
        "waiting_in": None,
    }
    assert told.object.items() >= expected.items()


@pytest.mark.parametrize("outcome", ["accepted", "unchanged", "under_way", "disconnected"])
def test_what_was_accepted_is_told_with_how_the_connection_is(
    occ: Occ, records: Records, worker: Worker, outcome: str
) -> None:
    worker.connect()
    records.request_ids.settle(replace(SENT, outcome=outcome, run=1))
    told = occ("request", "signup 4711")
    assert told.exit_code == 0
    assert "was accepted" in told.stdout
    assert ("changed nothing" in told.stdout) == (outcome != "accepted")
    assert "The connection is active; `occ explain m-1` shows more." in told.stdout
    found = occ("request", "signup 4711", "--json").object
    assert (found["outcome"], found["run"], found["connection"]) == (outcome, 1, "active")


def request(**changes: Any) -> dict[str, Any]:
    return {"merchant_id": "m-1", "request_id": "signup 4711", **changes}


def test_what_waits_is_found_where_it_waits(occ: Occ, redis_client: redis.Redis) -> None:
    entry = redis_client.xadd("occ:inbox", {"request": json.dumps(request())})
    assert isinstance(entry, bytes)
    for name in ("signup 4711", entry.decode()):
        told = occ("request", name)
        assert (told.exit_code, told.stdout) == (0, "It waits in the inbox.\n")
        assert occ("request", name, "--json").object["waiting_in"] == "inbox"
    redis_client.flushdb()
    body = json.dumps([[], request(), {}])
    redis_client.lpush("occ", json.dumps({"body": body, "properties": {}}))
    assert occ("request", "signup 4711").stdout == "It waits in the queue.\n"
    redis_client.flushdb()
    quarantine(redis_client, queue="occ", reason="it has expired", message=json.dumps(request()).encode(), now=1.0)
    told = occ("request", "signup 4711")
    assert (told.exit_code, told.stdout.splitlines()[0]) == (1, "It waits in quarantine.")


def test_what_is_for_later_is_told_with_when(occ: Occ, records: Records) -> None:
    due_at = server_time(records.redis) + 3600
    schedule(records.redis, Clock(records.redis), "connect", request(), due_at)
    records.request_ids.settle(replace(SENT, outcome="scheduled", due_at=due_at))
    told = occ("request", "signup 4711")
    assert told.exit_code == 0
    assert told.stdout.rstrip().endswith("and is due in 60 min.")
    found = occ("request", "signup 4711", "--json").object
    assert (found["outcome"], found["waiting_in"]) == ("scheduled", "scheduled")
    schedule(records.redis, Clock(records.redis), "connect", request(request_id="newer"), due_at)
    assert "a newer request of its kind for the merchant took its place" in occ("request", "signup 4711").stdout


def test_what_a_worker_died_over_is_told_as_it_is(occ: Occ, records: Records) -> None:
    records.request_ids.claim(SENT)
    told = occ("request", "signup 4711")
    assert told.exit_code == 0
    assert "is being taken on since" in told.stdout


@pytest.mark.parametrize("name", ["signup 4712", "1795464352864-0", "", "\x1b[31m", "9" * 500])
def test_what_nobody_knows_is_said_without_repeating_it(occ: Occ, redis_client: redis.Redis, name: str) -> None:
    redis_client.xadd("occ:inbox", {"request": json.dumps(request())})
    told = occ("request", name, "--json")
    assert (told.exit_code, told.error["code"]) == (4, "unknown_request")
    assert not name or name not in told.stdout + told.stderr


def test_somebody_who_was_never_connected_is_told_why(occ: Occ, records: Records) -> None:
    records.note_refusal(replace(SENT, merchant_id="m-2").refused(NO))
    for command in ("explain", "status"):
        told = occ(command, "m-2")
        assert told.exit_code == 4
        problem = "store_url: give the address of the admin console"
        assert re.search(rf"its last request was refused \d+ s ago: {problem}", told.stderr)
        assert "refused" not in occ(command, "m-3").stderr


def test_the_last_request_of_a_connection_is_in_its_status_and_explanation(
    occ: Occ, records: Records, worker: Worker
) -> None:
    worker.begin(request_id="signup 4711\x1b[31m")
    assert "last request signup 4711" in occ("status", "m-1").stdout
    explained = occ("explain", "m-1").stdout
    assert "The last request that changed it was signup 4711" in explained
    assert "\x1b" not in explained
    assert "request_id=signup 4711" in occ("timeline", "m-1").stdout
