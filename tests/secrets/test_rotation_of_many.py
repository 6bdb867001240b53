"""Keys are rotated while stores are connected, and the rotation is killed on the way: nobody notices.

1,000 records; `TEST_RECORDS=10000 ./run test tests/secrets/test_rotation_of_many.py` for more.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import requests
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Connection
from integrations.connections.sealed_keys import Rotation, SealedKeys
from integrations.oracle_commerce.application_key import fingerprint
from integrations.sealing.keyring import Keyring, SealingKey, seal
from occ.simulator.application_keys import make_application_key
from tests.pipeline import REPOSITORY, Pipeline, running
from tests.usual import PACE
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

RECORDS = int(os.environ.get("TEST_RECORDS", "1000"))
CONNECTS = 60


def fill(pipeline: Pipeline, old: SealingKey) -> None:
    """Connections with nothing to do for an hour, under the old key."""
    pace = replace(PACE, lease=3600)
    for number in range(RECORDS):
        merchant_id = f"kept-{number:06}"
        sealed = seal(old.public_key, old.key_id, merchant_id, f"eyJ.{number}.x")
        wanted = Desired(merchant_id, "https://ccadmin-z1.example", sealed, str(number), None, {"order-submit": True})

        def decide(connection: Connection | None, now: float, wanted: Desired = wanted) -> Change | Stop:
            return requests.begin(connection, wanted, Moment(now, pace))

        assert not isinstance(pipeline.records.change(merchant_id, decide), Stop)


def rotate(pipeline: Pipeline, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "occ.cli", "rotate-keys", "--json", *options]
    return subprocess.Popen(command, env=pipeline.environment, cwd=REPOSITORY, stdout=subprocess.PIPE)


def test_a_rotation_during_connects_killed_twice_loses_nothing(tmp_path: Path) -> None:
    old, new = SealingKey.generate(), SealingKey.generate()
    both = {"OCC_SEALING_KEYS": f"{new.export()},{old.export()}"}
    with running(Pipeline(tmp_path, settings=both), workers=1) as pipeline:
        fill(pipeline, old)
        rotation = Rotation(SealedKeys(pipeline.records), Keyring([new, old]))
        assert rotation.needed()[old.key_id] == RECORDS
        stores = pipeline.simulator.add_many(CONNECTS, name="live-{n}")
        connecting = threading.Thread(target=connect_slowly, args=(pipeline, stores, old))
        connecting.start()
        left = RECORDS
        for _ in range(2):  # killed, each time in the midst of it
            process = rotate(pipeline)
            wait_until(partial(fewer_than, left - RECORDS // 5, pipeline, old), what="some progress")
            process.send_signal(signal.SIGKILL)
            process.communicate()
            left = rotation.needed()[old.key_id]
            assert left < RECORDS
        connecting.join()
        # What was sealed to the old key and comes in after a rotation has passed needs the next one.
        wait_until(partial(all_taken_on, pipeline, stores), what="all requests to be taken on")
        refused = rotate(pipeline, "--retire", old.key_id)
        told = json.loads(refused.communicate()[0])
        assert refused.returncode == 2
        assert told["error"]["code"] == "key_in_use"
        began = time.monotonic()
        last = rotate(pipeline)
        report = json.loads(last.communicate()[0])
        print(f"\n{RECORDS} records, last of three rotations: {report}, {time.monotonic() - began:.1f} s")  # noqa: T201
        assert report["needed"] == {new.key_id: RECORDS + CONNECTS}
        pipeline.await_end(*(store.name for store in stores), within=120)
        assert {pipeline.status(store.name)["status"] for store in stores} == {"active"}
        retired = rotate(pipeline, "--retire", old.key_id)
        assert json.loads(retired.communicate()[0])["retired_key_id"] == old.key_id
        assert retired.returncode == 0
        # Without the old key everything still opens, and what has been connected can be connected anew.
        only_new = Keyring([new])
        for page in SealedKeys(pipeline.records).pages():
            for place, sealed in page.items():
                assert only_new.open(sealed, place.merchant_id)


def all_taken_on(pipeline: Pipeline, stores: list) -> bool:  # type: ignore[type-arg]
    """The last request for every store, that with a changed key included, is in the record."""
    connections = {store: pipeline.connection(store.name) for store in stores}
    return all(it and fingerprint(store.application_key) in keys_of(it) for store, it in connections.items())


def keys_of(connection: Connection) -> set[str]:
    """The fingerprints of its key and of one that has yet to prove itself."""
    candidate = {connection.candidate.fingerprint} if connection.candidate else set()
    return {connection.credential.fingerprint, *candidate}


def fewer_than(number: int, pipeline: Pipeline, old: SealingKey) -> bool:
    """Whether so many are left, seen by one of them: counting all would take as long as the rotation."""
    sealed = pipeline.redis.hget(f"occ:connection:kept-{RECORDS - number:06}", "sealed_key")
    return not str(sealed).startswith(f"sealed.v1.{old.key_id}.")


def connect_slowly(pipeline: Pipeline, stores: list, old: SealingKey) -> None:  # type: ignore[type-arg]
    """Through both doors, sealed to the old key by producers who have not heard of the new one; some change theirs."""
    for number, store in enumerate(stores):
        request = pipeline.request(store)
        request["application_key"] = seal(old.public_key, old.key_id, store.name, store.application_key)
        (pipeline.send if number % 2 else pipeline.post)(request)
        if number % 10 == 9:
            again = stores[number - 5]
            again.change(application_key=make_application_key(subject="changed"))
            request = pipeline.request(again)
            request["application_key"] = seal(old.public_key, old.key_id, again.name, again.application_key)
            pipeline.post(request)
        time.sleep(0.05)
