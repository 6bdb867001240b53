"""The example readers: killed again and again, they miss nothing, repeat nothing, and keep each merchant's order."""

import json
import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from integrations.connections.change import Change, Moment
from integrations.connections.drift import Drift
from integrations.connections.record import Cause, Connection, Trouble
from integrations.connections.records import EVENTS, Records
from occ.local.server import EmbeddedServer
from tests.contract.conftest import EXAMPLES
from tests.contract.readers import TOLD, Readers, node_command, python_command
from tests.integrations.oracle_commerce.fakes import started
from tests.ledgers import entries_in
from tests.secrets.test_acl import PASSWORD, documented_users
from tests.usual import PACE
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

Row = tuple[str, str, str, str]
"""Merchant id, sequence, id, type of an event."""

MERCHANTS = 8
SHARE_OF_DRIFT = 0.3


@pytest.fixture(params=["python", "node"])
def readers(
    request: pytest.FixtureRequest, server: EmbeddedServer, client: redis.Redis, tmp_path: Path
) -> Iterator[Readers]:
    """Nobody reads yet."""
    admin: Any = client
    admin.execute_command(
        "ACL", "SETUSER", "occ-events", "reset", "on", f">{PASSWORD}", *documented_users()["occ-events"]
    )
    url = server.url.replace(f":{quote(server.address.password, safe='')}@", f"occ-events:{PASSWORD}@")
    command, folder, repeats = python_command(), EXAMPLES / "python", 0
    if request.param == "node":
        command, folder, repeats = node_command(), request.getfixturevalue("node_project"), 6
    admin.acl_log_reset()
    with Readers(command, folder, tmp_path / "ledger", url, repeats) as readers:
        yield readers
    assert admin.acl_log() == [], "they ask for nothing more"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def written(ledger: Path) -> list[Row]:
    """What the readers made of events, in the order they did."""
    rows, lines = entries_in(ledger, "changes", "merchant_id", "sequence", "id", "type")
    noted = [(event_id, json.loads(row)) for event_id, row in lines]
    return [*rows, *((row["merchant_id"], row["sequence"], event_id, row["type"]) for event_id, row in noted)]


def await_written(ledger: Path, count: int) -> None:
    wait_until(lambda: len(written(ledger)) > count, what="the readers to go on")


def told(client: redis.Redis) -> list[Row]:
    """What the stream holds."""
    entries: Any = client.xrange(EVENTS)
    events = [json.loads(fields["event"]) for _, fields in entries]
    return [(event["subject"], event["sequence"], event["id"], event["type"]) for event in events]


def by_merchant(rows: list[Row]) -> dict[str, list[Row]]:
    """The first row of each event counts."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in dict.fromkeys(rows):
        found[row[0]].append(row)
    return found


def turn(dice: random.Random, merchant: str, connection: Connection | None, now: float) -> Change:
    """A change that other systems hear of, by one event or two."""
    if connection is None:
        return Change(replace(started(Moment(now, PACE)), merchant_id=merchant))
    slots = dict(connection.slots)
    if dice.random() < SHARE_OF_DRIFT:
        drift = () if slots["order-submit"].drift else (Drift.URL_MISSING,)
        slots["order-submit"] = replace(slots["order-submit"], drift=drift)
    trouble = None if connection.trouble else Trouble(Cause("store_timeout"), passing=True)
    return Change(replace(connection, trouble=trouble, slots=slots))


def let_happen(client: redis.Redis, dice: random.Random, times: int) -> None:
    """As many changes of merchants, through the real commit."""
    records = Records(client)
    for _ in range(times):
        merchant = f"m-{dice.randrange(MERCHANTS)}"
        records.change(merchant, partial(turn, dice, merchant))


def test_readers_killed_at_random_miss_nothing_and_keep_the_order(readers: Readers, client: redis.Redis) -> None:
    dice = random.Random(6)  # noqa: S311 - the same each time
    for _ in range(3):
        readers.start()
    for kill in range(6):
        let_happen(client, dice, 60)
        await_written(readers.ledger, 60 * kill + dice.randrange(60))
        readers.kill(dice.choice(sorted(readers.running)))
        readers.start()
    wait_until(lambda: _all_read(client), what="the last event")
    client.xgroup_setid(EVENTS, "example", "0")  # and once more from the beginning
    wait_until(lambda: _all_read(client), what="all of it again")
    everything, rows = told(client), written(readers.ledger)
    assert by_merchant(rows) == by_merchant(everything)
    assert len(rows) - len(everything) <= readers.repeats


def test_a_reader_remembers_only_so_many_events(readers: Readers, client: redis.Redis) -> None:
    readers.settings["REMEMBERED"] = "10"
    let_happen(client, random.Random(6), 30)  # noqa: S311 - the same each time
    readers.start()
    everything = told(client)
    wait_until(lambda: written(readers.ledger) == everything, what="all events")
    client.xgroup_setid(EVENTS, "example", "0")
    wait_until(lambda: written(readers.ledger) == everything * 2, what="those that were forgotten")


def test_a_reader_notices_that_events_were_trimmed_away_unread(readers: Readers, client: redis.Redis) -> None:
    happen = partial(let_happen, client, random.Random(6))  # noqa: S311 - the same each time
    happen(5)
    name = readers.start()
    wait_until(lambda: len(written(readers.ledger)) == len(told(client)), what="the first events")
    assert readers.output(name).count(TOLD) == 1, "whoever starts anew has missed what came before"
    happen(5)
    wait_until(lambda: len(written(readers.ledger)) == len(told(client)), what="the next events")
    client.xtrim(EVENTS, maxlen=1, approximate=False)  # all of them were read
    happen(5)
    wait_until(lambda: _all_read(client), what="events after a trim")
    assert written(readers.ledger)[-1] == told(client)[-1]
    assert readers.output(name).count(TOLD) == 1
    os.kill(readers.running[name].pid, signal.SIGSTOP)
    try:
        happen(10)
        client.xtrim(EVENTS, maxlen=3, approximate=False)
    finally:
        os.kill(readers.running[name].pid, signal.SIGCONT)
    wait_until(lambda: readers.output(name).count(TOLD) >= 2, what="it to be noticed")
    wait_until(lambda: _all_read(client), what="the rest")
    assert written(readers.ledger)[-1] == told(client)[-1]


def _all_read(client: redis.Redis) -> bool:
    (group,) = client.xinfo_groups(EVENTS)
    last: Any = client.xrevrange(EVENTS, count=1)
    return bool(group["pending"] == 0 and group["last-delivered-id"] == last[0][0])
