"""Which message a piece of work becomes, and that work which was sent is left alone for a lease."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import redis

from integrations.connections.change import Moment
from integrations.connections.record import Candidate, Connection, Target
from integrations.connections.records import DUE
from integrations.sealing.keyring import SealingKey, seal
from occ.simulator.application_keys import make_application_key
from tasks.dispatch import Message, message_for
from tests.integrations.oracle_commerce.fakes import (
    NOON,
    SHIPPING,
    VALIDATE,
    claimed,
    removal,
    slot,
    started,
    success,
)
from tests.pipeline import REPOSITORY
from tests.usual import PACE

AT = Moment(NOON, PACE)


def after(connection: Connection, *targets: Target) -> Connection:
    for target in targets:
        connection = success(claimed(connection, target, AT), target, AT).connection
    return connection


def test_the_steps_of_a_run_have_tasks_of_their_own() -> None:
    begun = started(AT)
    assert message_for(begun, VALIDATE) == Message(
        "occ.validate_key", {"merchant_id": "m-1", "run": 1, "attempt": 1}, "occ.steps"
    )
    assert message_for(after(begun, VALIDATE), SHIPPING).task == "occ.check_shipping_methods"
    registering = after(begun, VALIDATE, SHIPPING)
    assert message_for(registering, slot("order-submit")) == Message(
        "occ.register_slot", {"merchant_id": "m-1", "run": 1, "slot": "order-submit", "attempt": 1}, "occ.steps"
    )
    assert message_for(registering, removal("order-submit")).task == "occ.disconnect_slot"


def test_a_key_that_has_worked_is_revalidated_and_a_new_one_validated() -> None:
    active = after(started(AT), VALIDATE, SHIPPING, *map(slot, ("order-submit", "order-update")))
    active = after(active, *map(slot, ("shipment-create", "shipment-update")))
    assert active.is_onboarded
    assert message_for(active, VALIDATE).task == "occ.revalidate_key"
    assert message_for(replace(active, candidate=Candidate("new")), VALIDATE).task == "occ.validate_key"


def test_what_may_be_taking_workers_down_is_sent_where_it_runs_alone() -> None:
    connection, queues = started(AT), []
    for attempt in range(3):
        message = message_for(connection, VALIDATE)
        assert message.arguments["attempt"] == attempt + 1
        queues.append(message.queue)
        if message.queue == "occ.steps":
            later = Moment(NOON + 100 * attempt, PACE)
            connection = claimed(connection, VALIDATE, later)  # and its worker is not heard of again
    assert queues == ["occ.steps", "occ.steps", "occ.quarantine"]


CONNECT_AND_TICK = """
import json, sys
from integrations.oracle_commerce.accept import Door
from tasks import doors, tick
from tasks.wiring import wiring
from tests.usual import PACE
wiring().acceptance.accept(json.load(sys.stdin), Door.INBOX)
wiring().redis.zadd("occ:due", {"m-1": 0})  # its message was lost, and the lease is over
print(json.dumps(tick.run_tick(wiring())))
"""


@pytest.mark.server
def test_work_that_a_tick_has_sent_is_due_again_only_after_a_lease(redis_url: str) -> None:
    key = SealingKey.generate()
    sealed = seal(key.public_key, key.key_id, "m-1", make_application_key())
    store_url = "https://ccadmin-z1a2.oracleoutsourcing.com"
    request = {"merchant_id": "m-1", "store_url": store_url, "application_key": sealed}
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", CONNECT_AND_TICK],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "OCC_REDIS_URL": redis_url,
            "OCC_SEALING_KEYS": key.export(),
            "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
            "OCC_LEASE": "1h",
        },
        input=json.dumps(request),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {"requests": 0, "due": 1}
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        sent = [json.loads(message)["headers"]["task"] for message in client.lrange("occ.steps", 0, -1)]
        assert sent == ["occ.validate_key"]
        ((_, due),) = client.zrange(DUE, 0, -1, withscores=True)
        assert due >= began + 3600
