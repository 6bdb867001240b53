"""A server that starts from older files: what other systems heard is corrected, and no event id has two contents."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from integrations.connections.change import Change
from integrations.connections.lost_events import WrittenEvents
from integrations.connections.record import Cause, Connection, Trouble
from integrations.connections.records import EVENTS, Records, StatusEvent
from integrations.outages.held_events import HeldEvents
from occ.local.server_binary import find_server_binary
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.recorded import committed
from tests.usual import PACE
from tests.waiting import wait_until

pytestmark = pytest.mark.server

TROUBLE = Trouble(Cause("permission_denied"), passing=False)


class Server:
    """A server that forgets, on request, what came after its last snapshot. A worker and a reader go on beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()
        self.client = redis.Redis(unix_socket_path=str(folder / "s"), decode_responses=True)
        self.written = WrittenEvents(self.client)
        self.records = Records(self.client, on_status_event=self.written.note)
        self.heard: list[dict[str, Any]] = []
        self._read_up_to = "0-0"

    def start(self) -> None:
        command = [find_server_binary().path, "--port", "0", "--unixsocket", "s", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.folder)
        with redis.Redis(unix_socket_path=str(self.folder / "s")) as client:
            wait_until(lambda: answers(client), what="the server")

    def roll_back(self) -> None:
        """Nobody keeps the writes since `client.save()`."""
        self.read()
        self.process.kill()
        self.process.wait(60)
        self.start()

    def read(self) -> None:
        """What a system that reads the stream hears; it goes on from where it was."""
        for entry_id, event in self.records.events(after=self._read_up_to):
            self._read_up_to = entry_id
            self.heard.append(event)

    def put(self, name: str, **state: object) -> None:
        def decide(_: Connection | None, now: float) -> Change:
            return Change(replace(healthy(merchant_id=name, **state), updated_at=now))

        committed(self.records.change(name, decide))

    def release(self) -> None:
        HeldEvents(self.records).release(PACE)

    def statuses_heard(self) -> dict[str, str]:
        """What the reader takes each merchant's status to be: it drops ids it knows, and lower sequences."""
        latest: dict[str, tuple[str, str]] = {}
        seen = set()
        for event in self.heard:
            if event["id"] not in seen and event["sequence"] >= latest.get(event["subject"], ("", ""))[0]:
                latest[event["subject"]] = event["sequence"], event["data"]["status"]
            seen.add(event["id"])
        return {subject: status for subject, (_, status) in latest.items()}

    def statuses(self) -> dict[str, str]:
        return {it.connection.merchant_id: str(it.connection.status) for it in self.records.all() if it.connection}


@contextmanager
def answering(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(60)
        server.client.close()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with answering(tmp_path) as it:
        yield it


@pytest.mark.parametrize("seen_before", [True, False])
def test_what_others_heard_and_no_record_says_is_corrected(server: Server, seen_before: bool) -> None:
    for name in ("m-1", "m-2", "m-3"):
        server.put(name)
    server.client.save()
    server.put("m-1", trouble=TROUBLE)
    server.put("m-2", trouble=TROUBLE)
    if seen_before:
        assert server.written.look() == 0
    server.put("m-2")
    server.put("m-new")
    server.roll_back()

    assert server.statuses() == dict.fromkeys(["m-1", "m-2", "m-3"], "active")
    server.put("m-3", trouble=TROUBLE)  # work goes on before anybody has noticed
    assert server.written.look() == 2
    assert server.written.look() == 0
    server.release()
    server.read()
    assert server.statuses_heard() == server.statuses() | {"m-new": "active"}
    assert server.statuses()["m-3"] == "degraded"
    contents: dict[str, str] = {}
    for event in server.heard:
        assert contents.setdefault(event["id"], str(event)) == str(event)
    corrections = [event for event in server.heard[-2:] if event["data"]["previous_status"] is None]
    assert {event["subject"] for event in corrections} == {"m-1", "m-2"}


def test_the_same_change_made_again_after_it_was_lost_is_another_event_of_a_higher_sequence(server: Server) -> None:
    server.put("m-1")
    server.client.save()
    server.put("m-1", trouble=TROUBLE)
    server.roll_back()
    server.put("m-1", trouble=TROUBLE)
    server.read()
    lost, again = server.heard[-2:]
    assert lost["type"] == again["type"] == "occ.connection.degraded"
    assert lost["id"] != again["id"]
    assert lost["sequence"] < again["sequence"]


def test_a_restart_that_loses_nothing_reports_nothing(server: Server) -> None:
    for name in ("m-1", "m-2"):
        server.put(name)
    server.client.save()
    server.roll_back()
    assert server.written.look() == 0
    server.release()
    assert len(server.records.events()) == 2


def test_a_look_that_fails_is_made_up_for(server: Server) -> None:
    server.put("m-1")
    server.client.save()
    server.put("m-1", trouble=TROUBLE)
    server.read()
    server.process.kill()
    server.process.wait(60)
    with pytest.raises(redis.RedisError):
        server.written.look()
    server.start()
    assert server.written.look() == 1


def test_what_was_trimmed_from_the_stream_is_not_lost(server: Server) -> None:
    for number in range(5):
        server.put(f"m-{number}")
    server.client.xtrim(EVENTS, maxlen=2, approximate=False)
    assert server.written.look() == 0
    server.client.xtrim(EVENTS, maxlen=1, approximate=False)
    assert server.written.look() == 0


def test_what_is_remembered_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.connections.lost_events._KEPT_FOR", 0.0)
    for number in range(20):
        server.written.note(StatusEvent("m-1", number, f"m-1.{number}", "1-1"))
    time.sleep(0)
    server.written.look()
    server.written.look()
    assert not server.written._seen
    assert not server.written._new
