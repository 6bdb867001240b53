"""`occ health` and `occ quarantine`: what an operator looks at first."""

import json
import time
from typing import Any

import pytest
import redis

from integrations.messages import quarantine
from integrations.messages.progress import Oldest, note_oldest
from tasks.queues import mark_of
from tests.occ.cli.conftest import Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]


def test_an_idle_installation_is_healthy(occ: Occ, redis_client: redis.Redis) -> None:
    told = occ("health", "--no-workers", "--json")
    assert told.exit_code == 0
    facts = json.loads(told.stdout)
    assert facts["healthy"] is True
    assert (facts["overdue"], facts["oldest_overdue_seconds"]) == (0, 0.0)


def test_work_that_nobody_takes_is_not_healthy_whatever_is_up(occ: Occ, redis_client: redis.Redis) -> None:
    redis_client.zadd("occ:due", {"m-1": time.time() - 1000, "m-2": time.time() - 5, "m-3": time.time() + 100})
    told = occ("health", "--no-workers", "--json")
    assert told.exit_code == 1
    facts = json.loads(told.stdout)
    assert facts["overdue"] == 2
    assert facts["oldest_overdue_seconds"] >= 1000
    assert occ("health", "--no-workers").stdout.split()[-2:] == ["healthy", "no"]


def test_a_server_that_may_forget_accepted_work_is_not_healthy_unless_that_is_allowed(
    occ: Occ, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ended = occ("health", "--no-workers")
        assert ended.exit_code == 1
        assert "maxmemory-policy is allkeys-lru" in ended.stdout
        monkeypatch.setenv("OCC_ALLOW_UNSAFE_SERVER", "yes")
        assert occ("health", "--no-workers").exit_code == 0
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")


def test_a_tick_that_does_not_end_well_is_not_healthy_and_again_is_once_one_did(
    occ: Occ, redis_client: redis.Redis
) -> None:
    redis_client.set("occ:tick:ended", time.time() - 20)
    ended = occ("health", "--no-workers")
    assert ended.exit_code == 1
    assert "No tick has succeeded for 20 s" in ended.stdout
    redis_client.set("occ:tick:ended", time.time())
    assert occ("health", "--no-workers").exit_code == 0


def test_a_request_that_nobody_takes_from_the_inbox_is_not_healthy_and_a_long_inbox_is(
    occ: Occ, redis_client: redis.Redis
) -> None:
    entry: dict[str, str] = {"request": "{}"}
    oldest = f"{int((time.time() - 500) * 1000)}-0"
    redis_client.xadd("occ:inbox", entry, id=oldest)  # type: ignore[arg-type]
    with redis.Redis(connection_pool=redis_client.connection_pool) as client:
        note_oldest(client, {"occ:inbox": Oldest(oldest, 2)}, time.time() - 200)
    redis_client.xadd("occ:inbox", entry)  # type: ignore[arg-type]
    ended = occ("health", "--no-workers")
    assert ended.exit_code == 1
    assert "No tick has taken anything from the inbox for 20" in ended.stdout
    redis_client.xdel("occ:inbox", oldest)
    assert occ("health", "--no-workers").exit_code == 0


def test_a_message_that_nobody_takes_from_its_queue_is_not_healthy_until_somebody_does(
    occ: Occ, redis_client: redis.Redis
) -> None:
    redis_client.lpush("occ", "the oldest", "another")
    with redis.Redis(connection_pool=redis_client.connection_pool) as client:
        note_oldest(client, {"occ": Oldest(mark_of(b"the oldest"), 2)}, time.time() - 200)
    ended = occ("health", "--no-workers")
    assert ended.exit_code == 1
    assert "No worker has taken anything from the queue occ for 20" in ended.stdout
    redis_client.rpop("occ")
    assert occ("health", "--no-workers").exit_code == 0


@pytest.mark.parametrize("lies_in", ["occ\x06\x163", "occ:9", "occ.steps\x06\x169", "celery", "celery:1"])
def test_a_message_for_us_where_no_worker_reads_is_not_healthy_while_no_tick_brings_it_in(
    occ: Occ, redis_client: redis.Redis, lies_in: str
) -> None:
    redis_client.lpush(lies_in, json.dumps({"headers": {"task": "occ.connect"}}))
    redis_client.set("occ:tick:ended", time.time() - 12)
    ended = occ("health", "--no-workers")
    assert ended.exit_code == 1
    assert "1 messages for us were sent with a priority, or without the queue's name" in ended.stdout
    redis_client.delete(lies_in)
    redis_client.set("occ:tick:ended", time.time())
    assert occ("health", "--no-workers").exit_code == 0


def test_work_that_waits_where_no_tick_has_ever_succeeded_is_not_healthy(occ: Occ, redis_client: redis.Redis) -> None:
    redis_client.zadd("occ:due", {"m-1": time.time() - 12})
    ended = occ("health", "--no-workers")
    assert ended.exit_code == 1
    assert "No tick has ever succeeded, and work waits" in ended.stdout


def test_a_server_that_takes_no_writes_is_not_healthy_and_the_sentence_says_why(
    occ: Occ, redis_client: redis.Redis
) -> None:
    redis_client.replicaof("127.0.0.1", "1")
    try:
        ended = occ("health", "--no-workers")
    finally:
        redis_client.replicaof("NO", "ONE")
    assert ended.exit_code == 3  # the address leads to a wrong server: as if there were none
    assert "is a replica, which cannot be written to" in ended.stderr
    redis_client.config_set("min-replicas-to-write", 1)
    try:
        ended = occ("health", "--no-workers")
    finally:
        redis_client.config_set("min-replicas-to-write", 0)
    assert ended.exit_code == 1
    assert "fewer replicas follow it than min-replicas-to-write asks for" in ended.stdout
    redis_client.config_set("maxmemory", 1)
    try:
        ended = occ("health", "--no-workers")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert ended.exit_code == 1
    assert "its memory is full" in ended.stdout
    assert occ("health", "--no-workers").exit_code == 0


def test_messages_of_other_programs_in_celerys_default_queue_are_shown(occ: Occ, redis_client: redis.Redis) -> None:
    redis_client.lpush("celery", "theirs")
    facts = json.loads(occ("health", "--no-workers", "--json").stdout)
    assert facts["messages_of_others"] == {"celery": 1}
    assert facts["healthy"] is True


def test_a_receiver_that_fails_is_told_of_and_is_nothing_we_could_mend(occ: Occ, redis_client: redis.Redis) -> None:
    redis_client.hset("occ:receiver", mapping={"failing_since": time.time() - 500, "reason": "HTTP 503", "failures": 9})
    told = occ("health", "--no-workers", "--json")
    assert told.exit_code == 0
    facts = json.loads(told.stdout)
    assert facts["receiver_failing_seconds"] >= 500
    assert facts["receiver_fails_with"] == "HTTP 503"


def test_names_and_figures_stand_apart_and_no_error_is_none(occ: Occ, redis_client: redis.Redis) -> None:
    rows = dict(line.split("  ", 1) for line in occ("health", "--no-workers").stdout.splitlines())
    assert rows["receiver error"].strip() == "none"
    assert rows["receiver failing for (seconds)"].strip() == "0.0"
    assert rows["workers"].strip() == "not checked"


def test_events_that_were_set_aside_are_listed(occ: Occ, redis_client: redis.Redis) -> None:
    assert "All events were delivered." in occ("undelivered").stderr
    entry: dict[str, str] = {"event": '{"id": "m-1.7"}', "reason": "HTTP 422", "lane": "m-1"}
    redis_client.xadd("occ:undelivered", entry)  # type: ignore[arg-type]
    (line,) = occ("undelivered", "--json").stdout.splitlines()
    told = json.loads(line)
    assert {name: told[name] for name in entry} == entry
    assert "m-1  HTTP 422" in occ("undelivered").stdout
    assert json.loads(occ("health", "--no-workers", "--json").stdout)["events_undelivered"] == 1


def test_nobody_answers_when_no_worker_runs(occ_process: Occ, redis_client: redis.Redis) -> None:
    assert json.loads(occ_process("health", "--json").stdout)["workers"] == 0


def test_a_request_of_the_inbox_that_was_set_aside_is_listed_once_without_its_key_and_returned(
    occ: Occ, redis_client: redis.Redis
) -> None:
    request = b'{"merchant_id": "m-1", "application_key": "sealed.v1.k1.AAAAAAAAAAAAAAAA"}'
    quarantine.quarantine(redis_client, queue="occ:inbox", reason="KeyError", message=request, now=time.time())
    (listed,) = occ("quarantine", "--json").stdout.splitlines()
    assert "AAAA" not in listed
    assert "m-1" in listed
    assert occ("quarantine", "--requeue", json.loads(listed)["id"]).exit_code == 0
    entries: Any = redis_client.xrange("occ:inbox")
    assert [fields for _, fields in entries] == [{b"request": request}]


def test_a_message_that_was_set_aside_is_listed_returned_and_discarded(occ: Occ, redis_client: redis.Redis) -> None:
    for message in (b"not json", b"{}"):
        quarantine.quarantine(redis_client, queue="occ", reason="not JSON", message=message, now=time.time())
    listed = [json.loads(line) for line in occ("quarantine", "--json").stdout.splitlines()]
    assert [entry["reason"] for entry in listed] == ["not JSON", "not JSON"]
    assert occ("quarantine", "--requeue", listed[0]["id"]).exit_code == 0
    assert redis_client.lrange("occ", 0, -1) == [b"{}"]
    assert occ("quarantine", "--discard", listed[1]["id"]).exit_code == 0
    assert "The quarantine is empty." in occ("quarantine").stderr
    assert occ("quarantine", "--discard", listed[1]["id"]).exit_code == 2
