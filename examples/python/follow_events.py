"""Reads occ:events so that no change is missed, repeated or out of order, however often readers are killed.

python follow_events.py NAME LEDGER     # several of them, each under a name of its own, on one ledger

What is made of an event, and that it was, is one transaction in the readers' own database, the ledger. Here all that is
made of it is a row; put what you do in its place.
"""

import json
import os
import sqlite3
import sys
import time
from typing import Any

import redis

STREAM = "occ:events"
GROUP = os.environ.get("GROUP", "example")  # one for each system that reads
TAKE_OVER_AFTER = float(os.environ.get("TAKE_OVER_AFTER", "60"))  # seconds; a page takes less
REMEMBERED = int(os.environ.get("REMEMBERED", "10000"))  # ids; what was not acknowledged: a page for each reader
PAGE = 100

Entry = tuple[str, dict[str, str]]


class Ledger:
    """What was made of the events, and which ones were dealt with."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.database.execute("CREATE TABLE IF NOT EXISTS seen (number INTEGER PRIMARY KEY, id TEXT UNIQUE)")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS changes (merchant_id TEXT, sequence TEXT, id TEXT, type TEXT)"
        )

    def take(self, event: dict[str, Any]) -> None:
        """Deal with an event, once."""
        self.database.execute("BEGIN IMMEDIATE")
        with self.database:
            new = self.database.execute("INSERT OR IGNORE INTO seen (id) VALUES (?)", [event["id"]])
            if new.rowcount:
                self.database.execute("DELETE FROM seen WHERE number <= ?", [(new.lastrowid or 0) - REMEMBERED])
                row = [event["subject"], event["sequence"], event["id"], event["type"]]
                self.database.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", row)

    def read_everything_again(self) -> None:
        """At the first start, and where events were trimmed away unread: read the status of all connections instead."""
        print("events may be missing: look at everything", flush=True)


def next_page(client: redis.Redis, name: str) -> list[Entry]:
    """What is ours and not acknowledged, taken over from the dead or left by ourselves; else what is new."""
    client.xautoclaim(STREAM, GROUP, name, int(TAKE_OVER_AFTER * 1000), count=PAGE)
    return read(client, name, "0") or read(client, name, ">")


def read(client: redis.Redis, name: str, start: str) -> list[Entry]:
    """A page of what is ours ("0"), or of what nobody was given yet (">")."""
    answer: Any = client.xreadgroup(GROUP, name, {STREAM: start}, count=PAGE, block=1000)
    return [(entry_id, fields) for _, entries in answer for entry_id, fields in entries]


def begins_with_the_first(client: redis.Redis, page: list[Entry]) -> bool:
    """Whether nothing in the stream is older than this page: what came before may have been trimmed away unread."""
    first: Any = client.xrange(STREAM, count=1)
    return not first or order(page[0][0]) <= order(first[0][0])


def order(entry_id: str) -> tuple[int, ...]:
    """Compares as the stream's entries follow each other."""
    return tuple(int(part) for part in entry_id.split("-"))


def follow(client: redis.Redis, name: str, ledger: Ledger) -> None:
    """Deal with events, for ever. Whatever goes wrong ends the reader: run it under something that starts it again."""
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    while True:
        page = next_page(client, name)
        if page and begins_with_the_first(client, page):
            ledger.read_everything_again()
        for entry_id, fields in page:
            pending: Any = client.xpending(STREAM, GROUP)
            if pending["min"] != entry_id:  # another reader has an older one: it goes first, or is taken over
                time.sleep(0.05)
                break
            if fields:  # else it was trimmed away meanwhile
                ledger.take(json.loads(fields["event"]))
            client.xack(STREAM, GROUP, entry_id)


if __name__ == "__main__":
    with redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, protocol=2) as connected:
        follow(connected, sys.argv[1], Ledger(sys.argv[2]))
