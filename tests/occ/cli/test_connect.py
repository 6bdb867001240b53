"""`occ connect`: what is accepted, what is followed, and what the exit code tells."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from integrations.connections.record import Cause
from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey, seal
from tests.integrations.oracle_commerce.fakes import VALIDATE
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import PROJECT, Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]

STORE = "http://127.0.0.1:8800"


def arguments(source: object, *more: str) -> list[str]:
    return ["connect", "m-1", "--store-url", STORE, "--application-key-file", str(source), *more]


def test_a_request_is_taken_on_and_its_first_step_sent(
    occ_process: Occ, key_file: Path, application_key: str, records: Records, redis_client: redis.Redis
) -> None:
    ended = occ_process(*arguments(key_file))
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "m-1: run 1 accepted\n", "")
    connection = records.load("m-1").connection
    assert connection is not None
    assert connection.store_url == STORE
    (message,) = redis_client.lrange("occ.steps", 0, -1)
    assert json.loads(message)["headers"]["task"] == "occ.validate_key"
    assert application_key.encode() not in everything_in(redis_client)


def test_the_same_request_again_starts_nothing(occ_process: Occ, key_file: Path, redis_client: redis.Redis) -> None:
    occ_process(*arguments(key_file))
    ended = occ_process(*arguments(key_file))
    assert (ended.exit_code, ended.stdout) == (
        0,
        "m-1: run 1 unchanged: this store is connected with this key already\n",
    )
    assert redis_client.llen("occ.steps") == 1


def test_the_result_for_programs_is_the_status_object(occ_process: Occ, key_file: Path) -> None:
    ended = occ_process(*arguments(key_file, "--json"))
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert (ended.object["merchant_id"], ended.object["status"], ended.object["run"]) == ("m-1", "onboarding", 1)
    assert set(ended.object) >= {"store_url", "credential", "shipping_methods", "slots", "findings", "due_at"}


def test_a_key_that_is_sealed_already_is_passed_on(
    occ_process: Occ, sealing_key: SealingKey, application_key: str, records: Records
) -> None:
    sealed = seal(sealing_key.public_key, sealing_key.key_id, "m-1", application_key)
    assert occ_process(*arguments("-"), stdin=sealed.encode()).exit_code == 0
    assert records.load("m-1").sealed_key == sealed


def test_a_broker_that_is_away_costs_no_request(
    occ_process: Occ, key_file: Path, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    """The record is written; the tick sends the message when it can."""
    monkeypatch.setenv("OCC_BROKER_URL", "redis://127.0.0.1:1/0")
    ended = occ_process(*arguments(key_file, "--json"))
    assert (ended.exit_code, ended.object["status"]) == (0, "onboarding")
    assert "message_not_sent" in ended.stderr
    assert records.load("m-1").connection is not None


@pytest.mark.parametrize(
    ("store_url", "key", "refusal"),
    [
        ("https://ccstore-z1a2.oracleoutsourcing.com", None, ("store_url", "storefront_host")),
        ("", None, ("store_url", "missing")),
        ("https://user:pa55word@ccadmin-z1a2.oracleoutsourcing.com", None, ("store_url", "bad_store_url")),
        (STORE, b"not-a-key", ("application_key", "bad_application_key")),
        (STORE, b"sealed.v1.nobody.AAAA", ("application_key", "unknown_key_id")),
        (STORE, b"", ("application_key", "missing")),
    ],
)
def test_a_wrong_request_is_refused_with_field_and_remedy(
    store_url: str, key: bytes | None, refusal: tuple[str, str], occ: Occ, application_key: str
) -> None:
    stdin = application_key.encode() if key is None else key
    command = ["connect", "m-1", "--store-url", store_url, "--application-key-file", "-"]
    ended = occ(*command, "--json", stdin=stdin)
    assert ended.exit_code == 2
    assert (ended.error["field"], ended.error["code"]) == refusal
    assert ended.error["remedy"]
    for_people = occ(*command, stdin=stdin)
    assert (for_people.exit_code, for_people.stdout) == (2, "")
    assert for_people.stderr.startswith(f"Error: {refusal[0]}: ")
    assert "pa55word" not in for_people.stderr + ended.stderr + ended.stdout


def test_refused_requests_are_listed_newest_first(occ: Occ, application_key: str) -> None:
    occ(*arguments("-"), stdin=b"not-a-key")
    occ("connect", "m-2", "--store-url", "nowhere", "--application-key-file", "-", stdin=application_key.encode())
    listed = [json.loads(line) for line in occ("refused", "--json").stdout.splitlines()]
    assert [(entry["merchant_id"], entry["code"], entry["door"]) for entry in listed] == [
        ("m-2", "bad_store_url", "command_line"),
        ("m-1", "bad_application_key", "command_line"),
    ]
    assert listed[0]["at"].endswith("Z")
    lines = occ("refused", "--last", "1").stdout.splitlines()
    assert len(lines) == 1
    assert "m-2  store_url: bad_store_url: " in lines[0]


# --- Following --------------------------------------------------------------------------------------------------------


def test_waiting_ends_well_when_the_connection_is_active(occ_process: Occ, key_file: Path, worker: Worker) -> None:
    with meanwhile(worker.finish, worker):
        ended = occ_process(*arguments(key_file, "--wait", "--json"))
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.object["status"] == "active"


def test_every_change_is_a_line_where_no_terminal_is(occ_process: Occ, key_file: Path, worker: Worker) -> None:
    def work() -> None:
        worker.wait(VALIDATE, Cause("store_error", "HTTP 503"), 0.0)
        worker.finish(failing={"order-update": Cause("slot_refused", "HTTP 400")})

    with meanwhile(work, worker):
        ended = occ_process(*arguments(key_file, "--wait"))
    assert ended.exit_code == 1
    lines = [line.split(" ", 1)[1] for line in ended.stdout.splitlines()[1:]]
    assert "m-1 key: valid" in lines
    assert "m-1 shipping methods: configured, 2 enabled" in lines
    assert "m-1 order-submit: registered" in lines
    assert (
        "m-1 order-update: failed, attempt 1 - slot_refused (HTTP 400): "
        "The store refused our callback URL for this webhook." in lines
    )
    assert lines[-1] == "m-1 is degraded"
    assert ended.stderr.startswith("order-update: The store refused our callback URL")


def test_waiting_for_what_is_there_already_ends_at_once(occ_process: Occ, key_file: Path, worker: Worker) -> None:
    occ_process(*arguments(key_file))
    worker.finish()
    ended = occ_process(*arguments(key_file, "--wait"))
    assert ended.exit_code == 0
    assert "m-1: run 1 unchanged" in ended.stdout


def test_after_the_timeout_it_is_told_that_the_run_goes_on(occ_process: Occ, key_file: Path) -> None:
    ended = occ_process(*arguments(key_file, "--wait", "--timeout", "300ms", "--json"))
    assert (ended.exit_code, ended.object["status"]) == (1, "onboarding")
    assert "occ status m-1 --watch" in ended.stderr


def test_a_doubted_key_is_told_with_what_it_waits_for(occ_process: Occ, key_file: Path, worker: Worker) -> None:
    occ_process(*arguments(key_file))
    worker.refuse_key()
    ended = occ_process(*arguments(key_file, "--wait", "--timeout", "300ms"))
    assert ended.exit_code == 1
    assert "m-1 key: doubted, next at " in ended.stdout
    assert "We ask again in a few minutes" in ended.stdout


def test_ctrl_c_ends_the_following_and_not_the_run(key_file: Path, records: Records) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "occ.cli", *arguments(key_file, "--wait")],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"m-1: run 1 accepted\n"
        following.send_signal(signal.SIGINT)
        _, stderr = following.communicate(timeout=180)
    assert following.returncode == 130
    assert stderr.decode().startswith("Stopped following. The run continues in the background")
    assert b"Traceback" not in stderr
    assert records.load("m-1").connection is not None


@contextmanager
def meanwhile(work: Callable[[], None], worker: Worker) -> Iterator[None]:
    """Workers do their part in the background as soon as there is a run."""
    failed: list[BaseException] = []

    def do() -> None:
        try:
            worker.await_run()
            work()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test
            failed.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    yield
    thread.join()
    if failed:
        raise failed[0]


def everything_in(client: redis.Redis) -> bytes:
    """What somebody finds who steals the database."""
    dumps = [client.dump(key) for key in client.scan_iter()]
    return b"".join(dump for dump in dumps if isinstance(dump, bytes))
