"""Requests that wait in Redis until they are due."""

import json

import pytest
import redis

from integrations.clock import Clock
from integrations.errors import RequestRefused
from integrations.messages import scheduled
from integrations.messages.quarantine import INBOX
from integrations.messages.scheduled import due_time, release_due, schedule, server_time

pytestmark = pytest.mark.server


def inbox(client: redis.Redis) -> list[dict[str, str]]:
    entries = client.xrange(INBOX)
    return [fields for _, fields in entries]  # type: ignore[union-attr, misc]


def test_what_is_due_goes_to_the_inbox_by_its_kind_oldest_first_and_the_rest_waits(client: redis.Redis) -> None:
    now = server_time(client)
    schedule(client, Clock(client), "disconnect", {"merchant_id": "m-2"}, now - 1)
    schedule(client, Clock(client), "connect", {"merchant_id": "m-1", "store_url": "https://x"}, now - 2)
    schedule(client, Clock(client), "revalidate", {"merchant_id": "m-3"}, now + 3600)
    assert release_due(client, Clock(client), 10) == 2
    assert inbox(client) == [
        {"request": json.dumps({"merchant_id": "m-1", "store_url": "https://x"})},
        {"disconnect": json.dumps({"merchant_id": "m-2"})},
    ]
    assert release_due(client, Clock(client), 10) == 0
    assert client.zrange(scheduled.SCHEDULED, 0, -1) == ["revalidate m-3"]
    assert client.hkeys(scheduled.REQUESTS) == ["revalidate m-3"]


def test_the_same_message_again_waits_once_and_a_newer_one_takes_its_place(client: redis.Redis) -> None:
    later = server_time(client) + 60
    for repair in (False, False, True):
        schedule(client, Clock(client), "revalidate", {"merchant_id": "m-1", "repair": repair}, later)
    assert client.hvals(scheduled.REQUESTS) == [json.dumps({"merchant_id": "m-1", "repair": True})]


def test_what_waits_is_bounded_in_time_and_number(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    now = server_time(client)
    with pytest.raises(RequestRefused, match="at most 30 days"):
        schedule(client, Clock(client), "revalidate", {"merchant_id": "m-1"}, now + scheduled.LONGEST_WAIT + 60)
    monkeypatch.setattr(scheduled, "MOST", 1)
    schedule(client, Clock(client), "revalidate", {"merchant_id": "m-1"}, now + 60)
    schedule(client, Clock(client), "revalidate", {"merchant_id": "m-1"}, now + 90)
    with pytest.raises(RequestRefused, match="requests wait already"):
        schedule(client, Clock(client), "revalidate", {"merchant_id": "m-2"}, now + 60)


@pytest.mark.parametrize("eta", [None, 7, "soon", ""])
def test_what_is_no_time_is_no_wait(eta: object) -> None:
    assert due_time(eta) is None
