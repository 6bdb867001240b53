"""Every wrong server and URL gets a sentence of its own, the same from worker, beat, Flower and the command line.

Each wrong server is looked at through the command line, and through what worker, beat and Flower ask before they start;
for some of them the programs themselves are started.
"""

import datetime
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis
import trustme

from integrations.sealing.keyring import SealingKey
from integrations.settings import load_keyless_settings
from occ.local.commands import beat_command, flower_command, worker_command
from occ.local.processes import PROJECT
from occ.local.server_binary import find_server_binary
from occ.local.tether import tethered
from tasks.start_up import await_safe_server
from tests.occ.cli.conftest import Occ
from tests.ports import free_port
from tests.tls_relay import TlsRelay
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

PASSWORD = "pa55w0rd-canary"
SAFE = ["--appendonly", "yes"]


class Servers:
    """Servers of all kinds, each started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.until_the_end = ExitStack()
        self._ports: dict[str, int] = {}
        self._authority = trustme.CA()
        self.authority = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.authority))
        self.stranger = folder / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(str(self.stranger))

    def started(self, kind: str, *options: str, program: str | None = None) -> int:
        """The port of a server with these options. One whose port was taken meanwhile is started at another."""
        while kind not in self._ports:
            port, data = free_port(), Path(tempfile.mkdtemp(dir=self.folder))
            command = [program or find_server_binary().path, "--port", str(port), "--bind", "127.0.0.1"]
            if "--cluster-enabled" in options:  # its own choice of a second port may be one that a caller has
                command += ["--cluster-port", str(free_port())]
            line, _ = tethered([*command, "--dir", str(data), "--save", "", *options], on_parent_death=9)  # type: ignore[arg-type]
            with (data / "log").open("wb") as log:
                process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.until_the_end.callback(process.wait)
            self.until_the_end.callback(process.kill)
            wait_until(lambda: process.poll() is not None or _answers(port), what=kind)  # noqa: B023 - called at once
            said = (data / "log").read_text()
            if process.poll() is None:
                self._ports[kind] = port
            else:
                assert "Address already in use" in said, said
        return self._ports[kind]

    def usual(self) -> int:
        """One that is right, but for its users."""
        port = self.started("usual", *SAFE)
        with redis.Redis(port=port) as admin:
            for name, rules in {
                "blind": "~* &* +@all -info",
                "elsewhere": "~other:* &* +@all",
            }.items():
                admin.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rules.split())
        return port

    def cluster(self) -> int:
        """One that runs as a cluster."""
        return self.started("cluster", *SAFE, "--cluster-enabled", "yes")

    def locked(self) -> int:
        """One with a password."""
        return self.started("locked", *SAFE, "--requirepass", PASSWORD)

    def tls(self, kind: str = "tls", name: str = "127.0.0.1", *, asks: bool = False, over: bool = False) -> int:
        """The right one behind TLS."""
        if kind not in self._ports:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            if asks:
                context.load_verify_locations(self.stranger)
                context.verify_mode = ssl.CERT_REQUIRED
            year = datetime.timedelta(days=365)
            ended = datetime.datetime.now(datetime.UTC) - year if over else None
            self._authority.issue_cert(name, not_before=ended and ended - year, not_after=ended).configure_cert(context)
            relay = TlsRelay(context, ("127.0.0.1", self.usual()))
            self.until_the_end.callback(relay.close)
            self._ports[kind] = relay.port
        return self._ports[kind]

    def answering(self, kind: str, answer: bytes) -> int:
        """Somebody who says this, whatever he hears."""
        if kind not in self._ports:
            listener = socket.create_server(("127.0.0.1", 0))
            self._ports[kind] = listener.getsockname()[1]
            thread = threading.Thread(target=_say, args=(listener, answer), daemon=True)
            thread.start()
            self.until_the_end.callback(thread.join, 5)
            self.until_the_end.callback(listener.close)
            self.until_the_end.callback(listener.shutdown, socket.SHUT_RDWR)
        return self._ports[kind]


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"PING\r\n")
        return client.recv(1) in {b"+", b"-"}
    return False


def _say(listener: socket.socket, answer: bytes) -> None:
    with suppress(OSError), ExitStack() as held:
        while True:
            client = held.enter_context(listener.accept()[0])
            client.settimeout(10)
            with suppress(OSError):
                client.recv(4096)
                client.sendall(answer)
                if answer:
                    client.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"))
    with servers.until_the_end:
        yield servers


def old_redis() -> str:
    """Debian's, of bookworm: `apt-get download redis-server redis-tools liblzf1 libjemalloc2`, unpacked."""
    program = os.environ.get("OLD_REDIS") or shutil.which("redis-server") or ""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout if program else ""
    if not re.search(r"v=[1-6]\.|v=7\.[01]\.", said):
        pytest.skip("no Redis older than 7.2 here: name one in OLD_REDIS")
    return program


HOST = "127.0.0.1"
WEB = b"HTTP/1.1 400 Bad Request\r\n\r\n"
PROTECTED = b"-DENIED Redis is running in protected mode\r\n"
LOADING = b"-LOADING Redis is loading\r\n"
WRONG: dict[str, tuple[Callable[[Servers], str], str]] = {
    "a certificate nobody vouches for": (
        lambda servers: f"rediss://:{PASSWORD}@{HOST}:{servers.tls()}",
        "is not trusted: no authority that this machine knows has signed it; name the file with its authority's",
    ),
    "a certificate of another authority": (
        lambda servers: f"rediss://{HOST}:{servers.tls()}?ssl_ca_certs={servers.stranger}",
        "is not trusted",
    ),
    "a certificate for another name": (
        lambda servers: f"rediss://{HOST}:{servers.tls('named', 'redis.example')}?ssl_ca_certs={servers.authority}",
        "is for another name",
    ),
    "a certificate that is over": (
        lambda servers: f"rediss://{HOST}:{servers.tls('over', over=True)}?ssl_ca_certs={servers.authority}",
        "has expired",
    ),
    "a server that asks for a certificate": (
        lambda servers: f"rediss://{HOST}:{servers.tls('asks', asks=True)}?ssl_ca_certs={servers.authority}",
        "name it with ssl_certfile and ssl_keyfile",
    ),
    "TLS at a plain port": (
        lambda servers: f"rediss://:{PASSWORD}@{HOST}:{servers.usual()}",
        "speaks no TLS on this port",
    ),
    "no TLS at a TLS port": (
        lambda servers: f"redis://:{PASSWORD}@{HOST}:{servers.tls()}",
        "expects TLS on this port; write rediss:// instead of redis://",
    ),
    "a wrong password": (
        lambda servers: f"redis://:{PASSWORD}x@{HOST}:{servers.locked()}",
        "rejects the login; check user and password in OCC_REDIS_URL",
    ),
    "a user nobody knows": (
        lambda servers: f"redis://nobody:{PASSWORD}@{HOST}:{servers.usual()}",
        "rejects the login",
    ),
    "no password where one is asked for": (lambda servers: f"redis://{HOST}:{servers.locked()}", "asks for a login"),
    "a user without the command": (
        lambda servers: f"redis://blind:{PASSWORD}@{HOST}:{servers.usual()}",
        "does not permit this user the command INFO; docs/security.md lists what it needs",
    ),
    "a user without our keys": (
        lambda servers: f"redis://elsewhere:{PASSWORD}@{HOST}:{servers.usual()}",
        "does not permit this user the keys of a command",
    ),
    "a replica": (
        lambda servers: (
            f"redis://{HOST}:{servers.started('replica', *SAFE, '--replicaof', HOST, str(servers.usual()))}"
        ),
        "is a replica, which cannot be written to; name the primary in OCC_REDIS_URL",
    ),
    "a Cluster": (
        lambda servers: f"redis://{HOST}:{servers.cluster()}",
        "is a Redis Cluster, which cannot be used",
    ),
    "a database it does not have": (lambda servers: f"redis://{HOST}:{servers.usual()}/99", "has no database 99"),
    "a web server": (
        lambda servers: f"redis://{HOST}:{servers.answering('web', WEB)}",
        "is no Redis or Valkey; check host and port in OCC_REDIS_URL",
    ),
    "protected mode": (
        lambda servers: f"redis://{HOST}:{servers.answering('kept', PROTECTED)}",
        "is in protected mode",
    ),
}
UNSAFE: dict[str, tuple[Callable[[Servers], str], str]] = {
    "not persistent": (
        lambda servers: f"redis://{HOST}:{servers.started('forgetful')}",
        "the append-only file is off: a restart would forget everything; set appendonly to yes",
    ),
    "evicting": (
        lambda servers: f"redis://{HOST}:{servers.started('evicting', *SAFE, '--maxmemory-policy', 'allkeys-lru')}",
        "maxmemory-policy is allkeys-lru: a full server would drop records; set it to noeviction",
    ),
    "too old": (
        lambda servers: f"redis://{HOST}:{servers.started('old', *SAFE, program=old_redis())}",
        "and 7.2 or newer is needed",
    ),
}
AWAY: dict[str, tuple[Callable[[Servers], str], str]] = {
    "nobody": (lambda _: f"redis://:{PASSWORD}@{HOST}:{free_port()}", "check that it runs"),
    "nobody at a socket": (lambda servers: f"unix://:{PASSWORD}@{servers.folder}/none.sock", "check that it runs"),
    "no such host": (lambda _: f"redis://:{PASSWORD}@nowhere.invalid", "there is no such host"),
    "one that says nothing": (
        lambda servers: f"redis://:{PASSWORD}@{HOST}:{servers.answering('silent', b'')}",
        "check that it runs",
    ),
    "one that is loading": (
        lambda servers: f"redis://{HOST}:{servers.answering('loading', LOADING)}",
        "is still loading its data",
    ),
}
BAD_URLS = {
    "amqp://guest:pa55w0rd-canary@mq": "only Redis or Valkey can be used",
    f"rediss://:{PASSWORD}@r?ssl_ca_certs=/nowhere/ca.pem": "ssl_ca_certs names a file that cannot be read",
    f"redis://:{PASSWORD}@r?socket_tiemout=5": "there is no option socket_tiemout",
}


def said_at_start(url: str) -> str:
    """What worker, beat and Flower print before they end."""
    with pytest.raises(SystemExit) as ended:
        await_safe_server(load_keyless_settings({"OCC_REDIS_URL": url}))
    return str(ended.value.code)


def see_that_it_is_plain(text: str) -> None:
    assert "Traceback" not in text
    assert PASSWORD not in text


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_server_is_told_in_the_same_sentence_by_all(
    kind: str,
    servers: Servers,
    occ: Occ,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url_of, sentence = WRONG[kind]
    url = url_of(servers)
    monkeypatch.setenv("OCC_REDIS_URL", url)
    for command in (["status"], ["health", "--no-workers"]):
        ended = occ(*command)
        assert sentence in ended.stderr
        assert (ended.exit_code, ended.stdout) == (3, "")
        see_that_it_is_plain(ended.stderr)
    said = said_at_start(url)
    assert ended.stderr.strip().rstrip(".").removeprefix("Error: ") == said.rstrip(".")


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_server_is_named_by_all(
    kind: str,
    servers: Servers,
    occ: Occ,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url_of, sentence = UNSAFE[kind]
    url = url_of(servers)
    assert sentence in said_at_start(url)
    monkeypatch.setenv("OCC_REDIS_URL", url)
    ended = occ("health", "--no-workers")
    assert sentence in ended.stdout
    assert ended.exit_code == 1


@pytest.mark.parametrize("kind", AWAY)
def test_a_server_that_is_away_ends_a_command_and_is_waited_for_by_workers(
    kind: str,
    servers: Servers,
    occ: Occ,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url_of, sentence = AWAY[kind]
    url = url_of(servers)
    monkeypatch.setenv("OCC_REDIS_URL", url)
    ended = occ("status")
    assert sentence in ended.stderr
    assert ended.exit_code == 3
    see_that_it_is_plain(ended.stderr)
    await_safe_server(load_keyless_settings({"OCC_REDIS_URL": url}), wait=False)  # does not end Flower


def programs(folder: Path) -> dict[str, Sequence[str]]:
    """The real ones."""
    return {
        "worker": worker_command("worker"),
        "beat": beat_command(),
        "flower": flower_command(port=free_port(), database=str(folder / "tasks")),
        "occ": [sys.executable, "-m", "occ.cli", "status"],
    }


def run_all(folder: Path, url: str) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """All four at once: each in a process of its own, until it ends by itself."""
    environment = {
        "PATH": os.environ["PATH"],
        "OCC_REDIS_URL": url,
        "OCC_SEALING_KEYS": SealingKey.generate().export(),
        "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
        "OCC_DATA_DIR": str(folder),
        "FLOWER_BASIC_AUTH": "occ:login",
    }
    ended = {}
    with ExitStack() as until_the_end:
        running = {
            name: until_the_end.enter_context(
                subprocess.Popen(
                    command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
            for name, command in programs(folder).items()
        }
        for process in running.values():
            until_the_end.callback(process.kill)
        for name, process in running.items():
            output, _ = process.communicate(timeout=PATIENCE)
            ended[name] = subprocess.CompletedProcess(process.args, process.returncode, output)
    return ended


@pytest.mark.parametrize("kind", ["a certificate nobody vouches for", "a Cluster", "a user without the command"])
def test_the_programs_themselves_end_with_the_sentence(kind: str, servers: Servers, tmp_path: Path) -> None:
    url_of, sentence = WRONG[kind]
    for name, ended in run_all(tmp_path, url_of(servers)).items():
        assert sentence in ended.stdout, name
        assert ended.returncode == (3 if name == "occ" else 1), name
        see_that_it_is_plain(ended.stdout)


@pytest.mark.parametrize("url", list(BAD_URLS)[:2])
def test_the_programs_themselves_refuse_a_wrong_url(url: str, tmp_path: Path) -> None:
    for name, ended in run_all(tmp_path, url).items():
        assert f"OCC_REDIS_URL: {BAD_URLS[url]}" in ended.stdout.replace("the option ", ""), name
        assert ended.returncode == (2 if name == "occ" else 1), name
        see_that_it_is_plain(ended.stdout)


def test_a_broker_of_its_own_is_looked_at_too(servers: Servers) -> None:
    usual, cluster = f"redis://{HOST}:{servers.usual()}", WRONG["a Cluster"][0](servers)
    settings = load_keyless_settings({"OCC_REDIS_URL": usual, "OCC_BROKER_URL": cluster})
    with pytest.raises(SystemExit, match=r"^OCC_BROKER_URL: .* is a Redis Cluster"):
        await_safe_server(settings)
    untrusted = f"rediss://{HOST}:{servers.tls()}"
    settings = load_keyless_settings({"OCC_REDIS_URL": usual, "OCC_BROKER_URL": untrusted})
    with pytest.raises(SystemExit, match=r"^OCC_BROKER_URL: the certificate .* is not trusted"):
        await_safe_server(settings)
