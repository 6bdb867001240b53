"""`occ rotate-keys` on a real server."""

import json
import os

import pytest
import redis
from celery import Celery

from integrations.clock import Clock
from integrations.connections.records import Records
from integrations.messages import quarantine
from integrations.messages.scheduled import schedule, server_time
from integrations.sealing.keyring import SealingKey, seal
from integrations.settings import load_keyless_settings
from occ.simulator.application_keys import make_application_key
from tests.integrations.connections.test_rotation import connect
from tests.occ.cli.conftest import Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]

OLD = SealingKey.generate()


@pytest.fixture
def both_keys(monkeypatch: pytest.MonkeyPatch, sealing_key: SealingKey) -> SealingKey:
    """The newest of two."""
    monkeypatch.setenv("OCC_SEALING_KEYS", f"{sealing_key.export()},{OLD.export()}")
    return sealing_key


def test_rotating_tells_how_many_were_sealed_anew(occ: Occ, records: Records, both_keys: SealingKey) -> None:
    for number in range(3):
        connect(records, f"m-{number}", key=OLD)
    ended = occ("rotate-keys", "--json")
    assert ended.exit_code == 0
    assert ended.object == {
        "newest_key_id": both_keys.key_id,
        "looked_at": 3,
        "resealed": 3,
        "unreadable": 0,
        "needed": {both_keys.key_id: 3},
    }
    again = occ("rotate-keys")
    assert again.stdout == f"0 re-sealed; 3 of 3 records sealed with the newest key {both_keys.key_id}.\n"


def test_a_key_is_not_retired_while_records_need_it(occ: Occ, records: Records, both_keys: SealingKey) -> None:
    for number in range(3):
        connect(records, f"m-{number}", key=OLD)
    refused = occ("rotate-keys", "--retire", OLD.key_id, "--json")
    assert (refused.exit_code, refused.error["code"]) == (2, "key_in_use")
    assert refused.error["remedy"].startswith("3 of 3 records still sealed with this key")
    occ("rotate-keys")
    retired = occ("rotate-keys", "--retire", OLD.key_id, "--json")
    assert retired.exit_code == 0
    assert retired.object == {"retired_key_id": OLD.key_id, "needed": {both_keys.key_id: 3}}


def request(key: SealingKey) -> dict[str, str]:
    sealed = seal(key.public_key, key.key_id, "m-1", make_application_key())
    return {"merchant_id": "m-1", "store_url": "https://ccadmin-z1a2.oracleoutsourcing.com", "application_key": sealed}


def send(place: str, key: SealingKey, client: redis.Redis) -> None:
    if place == "inbox":
        client.xadd("occ:inbox", {"request": json.dumps(request(key))})
    elif place == "inbox, escaped":
        text = json.dumps(request(key)).replace("sealed.v1", "\\u0073ealed.v1")
        client.xadd("occ:inbox", {"request": text})
    elif place == "quarantine":
        message = json.dumps(request(key)).encode()
        quarantine.quarantine(client, queue="occ:inbox", reason="stumbled", message=message, now=1.0)
    elif place == "scheduled":
        schedule(client, Clock(client), "connect", request(key), server_time(client) + 3600)
    else:
        queue, priority = QUEUED.get(place, ("occ", 0))
        broker = load_keyless_settings(os.environ).broker_url.celery_settings()["broker_url"]
        with Celery("producer", broker=broker, set_as_current=False) as producer:
            producer.send_task("occ.connect", kwargs=request(key), queue=queue, priority=priority)
    if place == "a worker's hands":
        taken = client.lpop("occ")
        assert isinstance(taken, bytes)
        client.hset("unacked", key.key_id, json.dumps([json.loads(taken), "", "occ"]))


QUEUED = {
    "queue": ("occ", 0),
    "the list of a priority": ("occ", 6),
    "Celery's own queue": ("celery", 0),
    "Celery's own queue with a priority": ("celery", 9),
}
PLACES = {
    **dict.fromkeys([*QUEUED, "a worker's hands"], "queue"),
    "inbox": "inbox",
    "inbox, escaped": "inbox",
    "quarantine": "quarantine",
    "scheduled": "scheduled",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_key_is_not_retired_while_a_waiting_request_needs_it(
    occ: Occ, both_keys: SealingKey, redis_client: redis.Redis, place: str
) -> None:
    send(place, both_keys, redis_client)
    assert occ("rotate-keys", "--retire", OLD.key_id).exit_code == 0  # that one needs the newest
    send(place, OLD, redis_client)
    if place != "scheduled":  # there, the newer of a merchant takes the place of the former
        send(place, both_keys, redis_client)
    refused = occ("rotate-keys", "--retire", OLD.key_id, "--json")
    assert (refused.exit_code, refused.error["code"]) == (2, "key_in_use")
    assert refused.error["remedy"].startswith(f"1 waiting request needs this key ({PLACES[place]} 1)")


@pytest.mark.parametrize(("which", "code"), [("newest", "newest_key"), ("private", "unknown_key_id")])
def test_what_cannot_be_retired_is_refused_and_not_repeated(
    occ: Occ, both_keys: SealingKey, which: str, code: str
) -> None:
    typed = both_keys.key_id if which == "newest" else both_keys.export()
    refused = occ("rotate-keys", "--retire", typed, "--json")
    assert (refused.exit_code, refused.error["code"]) == (2, code)
    assert both_keys.export() not in refused.stdout + refused.stderr


def test_keys_nobody_can_open_need_attention(occ: Occ, records: Records, both_keys: SealingKey) -> None:
    connect(records, "m-1", key=SealingKey.generate())
    ended = occ("rotate-keys")
    assert ended.exit_code == 1
    assert ended.stderr == "1 cannot be opened by any active sealing key: m-1\n"
