"""A command line on a real server: run in this process where that is enough, else in one of its own."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey
from occ.cli.command_line import run
from occ.simulator.application_keys import make_application_key
from tests.integrations.oracle_commerce.recorded import Worker

PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Ended:
    """What came of a command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        (line,) = self.stdout.splitlines()
        value: dict[str, Any] = json.loads(line)
        return value

    @property
    def error(self) -> dict[str, Any]:
        """What --json says of a failure."""
        error: dict[str, Any] = self.object["error"]
        return error


Occ = Callable[..., Ended]


@pytest.fixture
def occ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Occ:
    """Runs a command line in this process: `occ("status", "--json", stdin=b"")`."""

    def run_here(*arguments: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        exit_code = run(arguments)
        return Ended(exit_code, *capsys.readouterr())

    return run_here


@pytest.fixture
def occ_process() -> Occ:
    """Runs a command line as the shell does."""

    def run_there(*arguments: str, stdin: bytes = b"") -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "occ.cli", *arguments],
            check=False,
            cwd=PROJECT,
            input=stdin,
            capture_output=True,
            timeout=180,
        )
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    return run_there


@pytest.fixture
def sealing_key(monkeypatch: pytest.MonkeyPatch) -> SealingKey:
    """The only sealing key of this installation."""
    key = SealingKey.generate()
    monkeypatch.setenv("OCC_SEALING_KEYS", key.export())
    return key


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch, redis_url: str, sealing_key: SealingKey) -> None:
    """Settings that name an empty server; stores on loopback are allowed."""
    monkeypatch.setenv("OCC_REDIS_URL", redis_url)
    monkeypatch.setenv("OCC_CALLBACK_URL", "https://hooks.example.com/occ/{merchant_id}/{slot}")
    monkeypatch.setenv("OCC_DEV_STORES", "127.0.0.0/8:*")


@pytest.fixture
def records(redis_url: str) -> Iterator[Records]:
    """The records the command line reads."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Records(client)


@pytest.fixture
def worker(records: Records) -> Worker:
    """Does in the records what workers would have done."""
    return Worker(records)


@pytest.fixture
def application_key() -> str:
    """A key as OCC issues them."""
    return make_application_key()


@pytest.fixture
def key_file(tmp_path: Path, application_key: str) -> Path:
    """The same in a file, the way an editor saves it."""
    path = tmp_path / "application.key"
    path.write_text(f"\ufeff  {application_key}\r\n", encoding="utf-8")
    return path
