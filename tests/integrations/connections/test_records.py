"""The records on a real server: whatever races there are, every change is applied once, and whole."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from integrations.connections import records as records_module
from integrations.connections.change import Change, Moment, Note, Stop
from integrations.connections.known_request import KnownRequest
from integrations.connections.lifecycle import claims, disconnection, outcomes
from integrations.connections.lifecycle.outcomes import Failed
from integrations.connections.record import Cause, Connection, ConnectionStatus, Slot, Step, Work
from integrations.connections.records import Committed, Records
from integrations.errors import RequestRefused
from occ.local.server import EmbeddedServer
from occ.local.server_binary import find_server_binary
from tests.integrations.oracle_commerce.fakes import SLOTS, VALIDATE, slot
from tests.integrations.oracle_commerce.recorded import (
    at_once,
    begin,
    begin_again,
    change,
    claim,
    committed,
    connected_by,
    derived,
    do,
    due_set,
    finish,
    registering,
)
from tests.usual import PACE
from tests.waiting import wait_until

pytestmark = pytest.mark.server


# --- One connection --------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again_whole(records: Records) -> None:
    written = begin(records)
    read = records.load("m-1")
    assert read.connection == written.after
    assert read.version == written.snapshot.version > 0
    assert read.sealed_key == written.snapshot.sealed_key == "sealed.v1.k.key-1"
    assert "sealed" not in repr(read)


def test_what_a_failover_has_lost_is_begun_again(records: Records, redis_client: redis.Redis) -> None:
    begin(records)
    redis_client.delete("occ:connection:m-1")  # it never reached the server that took over
    begin(records)
    redis_client.delete("occ:connection:m-1")
    again = records.change("m-1", partial(connected_by, "m-1"), known=records.load("m-1"))
    assert isinstance(again, Committed), again
    assert records.load("m-1").connection == again.after


def test_an_unknown_merchant_has_no_connection(records: Records) -> None:
    assert records.load("nobody").connection is None
    assert [snapshot.version for snapshot in records.load_many([])] == []


def test_of_many_changes_at_once_each_is_applied_once(records: Records) -> None:
    begin(records)

    def one_more(connection: Connection | None, now: float) -> Change:
        assert connection is not None
        return Change(replace(connection, run=connection.run + 1), (Note("counted"),))

    at_once(12, lambda _: [committed(records.change("m-1", one_more)) for _ in range(10)])
    read = records.load("m-1")
    assert read.connection is not None
    assert read.connection.run == 1 + 120
    counted = [entry["run"] for entry in records.timeline("m-1") if entry["what"] == "counted"]
    assert counted == list(range(2, 122)), "the history is whole and in order"


def test_of_many_workers_at_once_one_gets_the_claim(records: Records) -> None:
    begin(records)
    results = at_once(16, lambda index: claim(records, VALIDATE, f"worker-{index}"))
    assert Counter(type(result) for result in results) == {Committed: 1, Stop: 15}
    assert {result.reason for result in results if isinstance(result, Stop)} == {"held_by_another"}


def test_four_slots_recording_at_once_lose_nothing(records: Records, client: redis.Redis) -> None:
    registering(records)
    at_once(4, lambda index: do(records, slot(SLOTS[index])))
    connection = records.load("m-1").connection
    assert connection is not None
    assert connection.status is ConnectionStatus.ACTIVE
    assert due_set(client) == derived(connection)
    assert [event["data"]["status"] for _, event in records.events()] == ["onboarding", "active"]


def test_a_stale_copy_of_the_record_is_no_harm(records: Records) -> None:
    stale = begin(records).snapshot
    committed(claim(records, VALIDATE, "first"))

    def decide(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return claims.claim(connection, 1, VALIDATE, "second", Moment(now, PACE))

    assert records.change("m-1", decide, known=stale) == Stop("held_by_another")


def test_nothing_is_written_when_nothing_changes(records: Records, client: redis.Redis) -> None:
    begin(records)
    before = {key: client.dump(key) for key in client.scan_iter()}
    assert records.change("m-1", lambda *_: Stop("unchanged")) == Stop("unchanged")
    assert {key: client.dump(key) for key in client.scan_iter()} == before


class _LosesOneAnswer(redis.Redis):
    """The server restarts after it has applied a script and before it has answered."""

    lost = False

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "EVALSHA" and answer == 1 and not self.lost:
            self.lost = True
            raise redis.ConnectionError("the answer is lost")
        return answer


def test_a_claim_whose_answer_was_lost_is_still_ours(records: Records, redis_url: str) -> None:
    """redis-py repeats the command; the work then lies idle for a lease, and that counts as a death."""
    begin(records)
    retry = Retry(NoBackoff(), 3)
    with _LosesOneAnswer.from_url(
        redis_url, decode_responses=True, retry=retry, retry_on_error=[redis.ConnectionError]
    ) as client:
        claimed = claim(Records(client), VALIDATE, "worker")
        assert client.lost
    assert isinstance(claimed, Committed)


@pytest.mark.parametrize("damaged", ["", "{", '{"merchant_id": "bad"}', '{"step": "a_step_of_a_newer_release"}'])
def test_a_record_that_cannot_be_read_does_not_hide_the_others(
    records: Records, client: redis.Redis, damaged: str
) -> None:
    begin(records, "good")
    begin(records, "bad")
    client.hset("occ:connection:bad", "record", damaged or "\0")
    found = {snapshot.connection.merchant_id for snapshot in records.load_many(["bad", "good"]) if snapshot.connection}
    assert "good" in found


# --- History ---------------------------------------------------------------------------------------------------------


def test_the_timeline_tells_what_happened_and_is_bounded(client: redis.Redis) -> None:
    records = Records(client, timeline_length=50)
    begin(records)
    for number in range(600):
        note = Note("noted", details={"n": number})
        finish(records, VALIDATE, lambda c, *_, note=note: Change(c, (note,)))
    assert client.xlen("occ:timeline:m-1") <= 50 + 100, "the server trims whole blocks of 100"
    told = records.timeline("m-1", count=10)
    assert [entry["n"] for entry in told] == list(range(590, 600)), "oldest first"


def test_a_timeline_entry_names_run_step_slot_attempt_and_cause(records: Records) -> None:
    registering(records)
    committed(claim(records, slot("order-submit")))
    cause = Cause("store_busy", "HTTP 429")
    finish(records, slot("order-submit"), lambda c, target, at: outcomes.record(c, target, Failed(cause, 9), at))
    entry = records.timeline("m-1")[-1]
    assert (
        entry.items()
        >= {
            "run": 1,
            "what": "waits",
            "step": "register_slot",
            "slot": "order-submit",
            "attempt": 1,
            "cause": "store_busy",
            "detail": "HTTP 429",
        }.items()
    )


def test_there_is_one_event_per_change_of_status_with_a_growing_sequence(records: Records) -> None:
    registering(records)
    for name in SLOTS:
        do(records, slot(name))
    begin(records, key="key-2")  # to be proven: no status changes
    change(records, lambda connection, at: disconnection.disconnect(connection, at, forget_now=True))
    events = [event for _, event in records.events()]
    assert [event["type"] for event in events] == [
        "occ.connection.onboarding",
        "occ.connection.active",
        "occ.connection.disconnected",
    ]
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))
    assert len({event["id"] for event in events}) == 3


def test_with_the_application_key_goes_the_access_token_it_has_bought(records: Records, client: redis.Redis) -> None:
    registering(records)
    client.set("occ:token:m-1", "bought")
    begin(records, key="key-2")
    assert client.get("occ:token:m-1") == "bought"
    change(records, lambda connection, at: disconnection.disconnect(connection, at, forget_now=True))
    assert records.load("m-1").sealed_key is None
    assert not client.exists("occ:token:m-1")


def test_events_name_the_environment_they_come_from(client: redis.Redis) -> None:
    records = Records(client, event_source="occ-connect/staging")
    registering(records)
    change(records, lambda connection, at: disconnection.disconnect(connection, at, forget_now=True))
    refused = RequestRefused("store_url", "host_not_allowed", "name another")
    request = KnownRequest("connect", "inbox", request_id="r-1", merchant_id="m-1", digest="")
    records.note_refusal(request.refused(refused), reported=True)
    events = [event for _, event in records.events()]
    assert {"occ.connection.disconnected", "occ.request.refused"} <= {event["type"] for event in events}
    assert {event["source"] for event in events} == {"occ-connect/staging"}
    begin(Records(client), "m-2")
    assert records.events()[-1][1]["source"] == "occ-connect"


def test_events_are_bounded(client: redis.Redis) -> None:
    records = Records(client, events_kept=100)
    for number in range(400):
        begin(records, f"m-{number}")
    assert client.xlen("occ:events") <= 200


def test_events_after_an_id_are_those_that_follow_it(records: Records) -> None:
    for number in range(3):
        begin(records, f"m-{number}")
    ids = [entry_id for entry_id, _ in records.events()]
    assert [entry_id for entry_id, _ in records.events(after=ids[0], count=1)] == [ids[1]]
    assert records.events(after=ids[-1]) == []


def test_refusals_are_kept_newest_first_and_bounded(
    records: Records, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "_REFUSED_KEPT", 100)
    for number in range(400):
        refusal = RequestRefused("store_url", "missing", f"send store_url ({number})")
        records.note_refusal(KnownRequest("connect", "inbox", merchant_id="m-1").refused(refusal))
    kept = records.refusals(count=2)
    assert [refusal["remedy"] for refusal in kept] == ["send store_url (399)", "send store_url (398)"]
    assert kept[0].items() >= {"door": "inbox", "merchant_id": "m-1", "field": "store_url", "code": "missing"}.items()
    assert client.xlen("occ:refused") <= 200


# --- All connections -------------------------------------------------------------------------------------------------


def test_every_connection_is_found_page_by_page_in_order(records: Records) -> None:
    ids = sorted(f"{prefix}{number}" for prefix in ("m-", "M.", "x~") for number in range(7))
    for merchant_id in reversed(ids):
        begin(records, merchant_id)
        begin(records, merchant_id, key="key-2")
    assert [s.connection.merchant_id for s in records.all(page=4) if s.connection] == ids
    assert records.merchant_ids(after=ids[3], count=2) == ids[4:6]


def test_what_is_not_text_of_ours_is_written_and_read_alike(records: Records, client: redis.Redis) -> None:
    """Names of slots come from the settings, evidence from libraries."""
    name = 'ürün "|" \u2028 😀'
    begin(records)

    def decide(connection: Connection | None, now: float) -> Change:
        assert connection is not None
        slots = {name: Slot(work=Work(now, now), cause=Cause("internal_error", "\ud83d lone"))}
        cause = Cause("internal_error", "tab\t\0 line\n")
        return Change(
            replace(connection, step=Step.REGISTER_SLOT, work=None, slots={name: replace(slots[name], cause=cause)}),
            (Note("noted", slot(name), 1, slots[name].cause),),
        )

    written = committed(records.change("m-1", decide))
    assert records.load("m-1").connection == written.after
    assert list(records.take_due(10, 60).work) == [("m-1", name)]
    assert records.timeline("m-1")[-1]["slot"] == name


# --- Durability ------------------------------------------------------------------------------------------------------


@contextmanager
def own_server(folder: Path, *directives: str) -> Iterator[redis.Redis]:
    """A server whose configuration may be spoilt."""
    socket = folder / "s"
    config = "\n".join(["port 0", f"unixsocket {socket}", f"dir {folder}", 'save ""', *directives])
    process = subprocess.Popen([find_server_binary().path, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(config.encode())
    try:
        with redis.Redis(unix_socket_path=str(socket), decode_responses=True) as client:
            wait_until(socket.exists)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def waits_for_disk(client: redis.Redis) -> int:
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return stats.get("cmdstat_waitaof", {}).get("calls", 0)


def test_a_durable_write_is_in_the_append_only_file_when_it_returns(
    server: EmbeddedServer, records: Records, client: redis.Redis
) -> None:
    before = waits_for_disk(client)
    begin(records, "durable-merchant", durably=True)
    assert waits_for_disk(client) == before + 1
    files = [path.read_bytes() for path in server.folder.rglob("*.aof")]
    assert any(b"durable-merchant" in content for content in files)
    begin(records, "hasty-merchant")
    assert waits_for_disk(client) == before + 1, "only what must be durable waits"


@pytest.mark.parametrize("directives", [("appendonly no",), ("appendonly yes", 'rename-command WAITAOF ""')], ids=str)
def test_a_server_that_cannot_confirm_writes_takes_them_all_the_same(
    tmp_path: Path, directives: tuple[str, ...]
) -> None:
    """Without an append-only file, or older than 7.2: as durable as whoever runs it chose."""
    with own_server(tmp_path, *directives) as client:
        written = begin(Records(client), durably=True)
        assert Records(client).load("m-1").connection == written.after
        assert isinstance(begin_again(Records(client)), Stop)


def test_a_durable_change_that_loses_a_race_decides_again(records: Records) -> None:
    results = at_once(8, lambda _: begin_again(records))
    assert Counter(type(result) for result in results) == {Committed: 1, Stop: 7}
    (written,) = (result for result in results if isinstance(result, Committed))
    assert records.load("m-1").version == written.snapshot.version


def test_a_request_told_unchanged_is_as_durable_as_the_one_that_began_it(records: Records, client: redis.Redis) -> None:
    """The first may still wait for the disk, or have failed to get its confirmation; the second acknowledges both."""
    begin_again(records)
    before = waits_for_disk(client)
    assert isinstance(begin_again(records), Stop)
    assert waits_for_disk(client) == before + 1


def test_the_record_holds_nothing_but_the_sealed_key(records: Records, client: redis.Redis) -> None:
    registering(records)
    assert set(client.hkeys("occ:connection:m-1")) == {"version", "record", "sealed_key", "change"}
    record = json.loads(client.hget("occ:connection:m-1", "record") or "")
    assert "sealed" not in json.dumps(record)
