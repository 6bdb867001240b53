"""The embedded server keeps what it was given, lets nobody in without the password, and never outlives its parent."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import kombu
import pytest
import redis
from flower.utils.broker import Broker as FlowersBroker  # type: ignore[import-untyped]
from redis.backoff import NoBackoff
from redis.retry import Retry

from occ.local.processes import PROJECT
from occ.local.server import AlreadyRunningError, EmbeddedServer
from occ.local.server_binary import ServerBinary, ServerError, find_server_binary
from tests.processes import command_line, is_running
from tests.waiting import wait_until

pytestmark = pytest.mark.server

PARENT = """
import sys, time
from pathlib import Path
from occ.local.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def test_what_was_written_last_is_there_after_a_restart(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data") as server, redis.Redis.from_url(server.url) as client:
        client.set("written", "last")
    assert b"written" in written_to_the_append_only_file(tmp_path / "data")
    assert "fsync() on the AOF" in (tmp_path / "data" / "server.log").read_text(encoding="utf-8")  # an orderly end
    with EmbeddedServer(tmp_path / "data") as server, redis.Redis.from_url(server.url) as client:
        assert client.get("written") == b"last"


def test_a_killed_server_starts_again_at_the_same_address_with_its_data(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("survives", "yes")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.exit_status is not None)
        assert server.exit_status == -signal.SIGKILL
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.get("survives") == b"yes"


def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        redis.Redis(unix_socket_path=str(server.address.socket), retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_the_password_is_in_its_own_private_file_and_nowhere_else(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        password = server.address.password
        assert server.pid is not None
        assert password not in command_line(server.pid)
        assert password not in repr(server.address)
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert holders == [tmp_path / "password"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_the_server_listens_on_no_network_and_forgets_nothing_when_full(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        wanted = {
            "port": "0",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_celery_reaches_the_server_at_its_broker_url(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, kombu.Connection(server.broker_url) as connection:
        queue = connection.SimpleQueue("there")
        queue.put("and back")
        assert queue.get(timeout=5).payload == "and back"
        queue.close()


@pytest.mark.parametrize("name", ["x" * 150, "with a space", "100% caf\u00e9 'quoted' \"twice\" \\ #?&"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with EmbeddedServer(folder) as server:
        with redis.Redis.from_url(server.url) as client, kombu.Connection(server.broker_url) as connection:
            client.set("written", "here")
            connection.ensure_connection(max_retries=1)
        assert asyncio.run(FlowersBroker(server.broker_url).queues(["occ"])) == [{"name": "occ", "messages": 0}]
        assert EmbeddedServer.running_in(folder) == server.address
        socket_folder = server.address.socket.parent
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    assert b"written" in written_to_the_append_only_file(folder)
    assert not server.address.socket.exists()
    assert socket_folder == folder or not socket_folder.exists()
    with EmbeddedServer(folder) as again:
        assert again.url == server.url


def test_a_short_socket_folder_that_somebody_else_took_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 150)
    with EmbeddedServer(folder) as server:
        taken = server.address.socket.parent
    taken.mkdir(mode=0o755)
    try:
        with EmbeddedServer(folder) as server:
            assert server.address.socket.parent != taken
    finally:
        taken.rmdir()


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_is_found(tmp_path: Path) -> None:
    assert EmbeddedServer.running_in(tmp_path) is None
    with EmbeddedServer(tmp_path) as server:
        with pytest.raises(AlreadyRunningError):
            EmbeddedServer(tmp_path).start()
        assert EmbeddedServer.running_in(tmp_path) == server.address
    assert EmbeddedServer.running_in(tmp_path) is None


def test_looking_for_a_server_makes_nothing(tmp_path: Path) -> None:
    assert EmbeddedServer.running_in(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_of_two_parents_starting_at_once_one_wins_and_nothing_is_left(tmp_path: Path) -> None:
    parents = [start_parent(tmp_path) for _ in range(4)]
    try:
        first_words = [parent.stdout.readline() for parent in parents if parent.stdout]
        assert len([words for words in first_words if words.strip()]) == 1
        assert EmbeddedServer.running_in(tmp_path) is not None
    finally:
        for parent in parents:
            parent.kill()
            parent.communicate()
    wait_until(lambda: EmbeddedServer.running_in(tmp_path) is None)


def test_the_server_ends_in_order_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = start_parent(tmp_path)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    address = EmbeddedServer.running_in(tmp_path)
    assert address is not None
    with redis.Redis.from_url(address.url) as client:
        client.set("written", "last")
    parent.kill()
    parent.communicate()
    wait_until(lambda: not is_running(server))
    assert not address.socket.exists()
    assert b"written" in written_to_the_append_only_file(tmp_path)


def test_a_hanging_server_is_stopped_all_the_same(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, stop_within=0.2)
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert server.pid is None
    assert not server.address.socket.exists()


def test_a_cut_off_append_only_file_is_mended(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    with newest_append_only_file(tmp_path).open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def test_a_damaged_append_only_file_is_explained_with_the_last_lines_of_the_log(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    damaged = newest_append_only_file(tmp_path)
    damaged.write_bytes(b"nonsense\r\n" + damaged.read_bytes())
    with pytest.raises(ServerError, match=r"damaged in the middle[\s\S]*Its last lines[\s\S]*AOF"):
        EmbeddedServer(tmp_path).start()
    assert EmbeddedServer.running_in(tmp_path) is None


@pytest.mark.parametrize(
    ("complaint", "remedy"),
    [
        ("Can't open or create append-only dir: No space left on device", "make room"),
        ("Can't open the append-only file: Read-only file system", "set OCC_DATA_DIR to one that can"),
        ("Can't open the append-only file: Permission denied", "another user's"),
    ],
)
def test_what_is_wrong_with_the_disk_is_said_with_a_remedy(tmp_path: Path, complaint: str, remedy: str) -> None:
    failing = program(tmp_path / "failing", f'echo "{complaint}"; exit 1')
    with pytest.raises(ServerError, match=remedy) as raised:
        EmbeddedServer(tmp_path / "data", binary=ServerBinary(str(failing), "Redis", (7, 0, 0))).start()
    assert complaint in str(raised.value)


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"The data folder .*file.* cannot be used"):
        EmbeddedServer(tmp_path / "file").start()


def test_a_program_that_never_answers_is_given_up(tmp_path: Path) -> None:
    mute = program(tmp_path / "mute", "echo thinking; exec sleep 60")
    server = EmbeddedServer(tmp_path / "data", binary=ServerBinary(str(mute), "Redis", (7, 0, 0)), ready_within=0.3)
    with pytest.raises(ServerError, match=r"No answer within 0.3 s[\s\S]*thinking"):
        server.start()
    assert server.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_our_settings_are_not_handed_to_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCC_SEALING_KEYS", "k1:not-for-the-server")
    with EmbeddedServer(tmp_path) as server:
        assert b"not-for-the-server" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_a_server_on_the_path_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64")
    on_path(tmp_path, "valkey-server", "Valkey server v=99.1.3 sha=00000000:0 malloc=jemalloc bits=64")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary().path.startswith(sys.prefix)


def test_a_program_that_is_named_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = on_path(tmp_path, "valkey-server", "Valkey server v=8.1.3 sha=00000000:0 malloc=jemalloc bits=64")
    expected = ServerBinary(str(named), "Valkey", (8, 1, 3))
    assert find_server_binary(str(named)) == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary("valkey-server") == expected
    monkeypatch.setenv("OCC_SERVER_PROGRAM", str(named))
    assert EmbeddedServer(tmp_path / "data").binary == expected


def test_a_program_that_is_named_and_too_old_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    named = on_path(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64")
    with pytest.raises(ServerError, match=r"Redis 7\.0\.15, and 7\.2 or newer is needed"):
        find_server_binary(str(named))


@pytest.mark.parametrize("does", ["echo hello", "exit 1"])
def test_a_program_that_is_named_and_is_no_server_is_refused(tmp_path: Path, does: str) -> None:
    named = program(tmp_path / "mine", does)
    for name in (str(named), str(tmp_path / "nowhere")):
        with pytest.raises(ServerError, match=r"OCC_SERVER_PROGRAM: .* is no program"):
            find_server_binary(name)


def test_a_url_shows_its_password_only_where_urls_have_one(server: EmbeddedServer) -> None:
    parts = urlsplit(server.url)
    assert parts.password == server.address.password
    assert server.address.password not in urlunsplit(parts._replace(netloc=""))


def start_parent(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=PROJECT,
    )


def newest_append_only_file(folder: Path) -> Path:
    return max((folder / "appendonlydir").glob("*.incr.aof"))


def written_to_the_append_only_file(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in (folder / "appendonlydir").iterdir())


def on_path(folder: Path, name: str, version: str) -> Path:
    return program(folder / name, f"echo '{version}'")


def program(path: Path, does: str) -> Path:
    path.write_text(f"#!/bin/sh\n{does}\n", encoding="ascii")
    path.chmod(0o700)
    return path
