"""Asks for a merchant's store to be connected, through the inbox, and waits for what becomes of it.

python connect_and_wait.py MERCHANT STORE_URL < application-key.txt     # ends with 0 if the store is connected

REDIS_URL is that of the user occ-inbox, EVENTS_URL that of the user occ-events; both are on one server.
"""

import json
import os
import sys
import time
import uuid
from typing import Any

import redis
from seal import seal

merchant_id, store_url = sys.argv[1:]
key = (os.environ["SEALING_PUBLIC_KEY"], os.environ["SEALING_KEY_ID"])
request = {
    "merchant_id": merchant_id,
    "store_url": store_url,
    "application_key": seal(*key, merchant_id, sys.stdin.read().strip()),
    "request_id": f"signup-{uuid.uuid4()}",
}


def answer(event: dict[str, Any]) -> str | None:
    """What became of our request, if this event tells."""
    data = event["data"]
    if data.get("request_id") != request["request_id"] or event["type"] == "occ.connection.onboarding":
        return None
    if event["type"] == "occ.request.refused":
        return f"refused: {data['field']}: {data['remedy']} [{data['code']}]"
    return data.get("status")


with redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as inbox:
    entry_id = inbox.xadd("occ:inbox", {"request": json.dumps(request)})

with redis.Redis.from_url(os.environ["EVENTS_URL"], decode_responses=True) as client:
    after, found = entry_id, None  # what becomes of it comes later, by the same clock
    while not found:
        time.sleep(0.5)
        events: Any = client.xrange("occ:events", min=f"({after}", count=100)
        for event_id, fields in events:
            after, found = event_id, found or answer(json.loads(fields["event"]))

print(found)
sys.exit(0 if found == "active" else 1)
