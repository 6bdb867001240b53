"""The way to the server over TLS: records and messages alike, and not at all to a server nobody vouches for.

The server that comes with the package speaks no TLS itself, so a relay does it for it, as stunnel would.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from tests.pipeline import Pipeline

pytestmark = [pytest.mark.end_to_end, pytest.mark.server, pytest.mark.timeout(240)]


class TlsRelay:
    """Takes TLS connections on loopback and hands on what is inside to a server's socket."""

    def __init__(self, context: ssl.SSLContext, server_socket: Path) -> None:
        self._context = context
        self._server_socket = str(server_socket)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(plain,), daemon=True))
                self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        self._open.append(plain)
        with (
            contextlib.suppress(OSError),
            plain,
            socket.socket(socket.AF_UNIX) as server,
            self._context.wrap_socket(plain, server_side=True) as client,
        ):
            self.connections += 1
            server.connect(self._server_socket)
            self._open += [client, server]
            back = threading.Thread(target=_hand_on, args=(server, client), daemon=True)
            back.start()
            _hand_on(client, server)
            back.join()

    def close(self) -> None:
        """Hang up everywhere."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(tmp_path: Path, authority: trustme.CA) -> Iterator[tuple[Pipeline, TlsRelay]]:
    """A pipeline without workers yet, and the relay in front of its server."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Pipeline(tmp_path) as pipeline:
        relay = TlsRelay(context, pipeline.server.address.socket)
        yield pipeline, relay
        pipeline._end_processes()
        pipeline.processes.clear()
        relay.close()


def url_of(pipeline: Pipeline, relay: TlsRelay, authority: Path) -> str:
    """As docs/security.md says."""
    password = pipeline.server.address.password
    return f"rediss://:{password}@127.0.0.1:{relay.port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority}"


def test_stores_are_connected_through_a_server_behind_tls(secured: tuple[Pipeline, TlsRelay]) -> None:
    pipeline, relay = secured
    pipeline._settings["OCC_REDIS_URL"] = url_of(pipeline, relay, pipeline.folder / "authority.pem")
    pipeline.start_worker()
    pipeline.start_beat()
    pipeline.await_workers()
    stores = pipeline.simulator.add_many(4)
    for number, store in enumerate(stores):
        (pipeline.send if number % 2 else pipeline.post)(pipeline.request(store))
    pipeline.await_end(*(store.name for store in stores))
    assert {pipeline.status(store.name)["status"] for store in stores} == {"active"}
    assert relay.connections >= 4
    for line in pipeline.redis.client_list():
        if "redis-py" in str(line.get("lib-name")) and line["cmd"] != "client|list":
            assert "sock" in str(line["addr"]), "all of them came through the relay's socket"


def test_a_server_nobody_vouches_for_gets_no_password(secured: tuple[Pipeline, TlsRelay], tmp_path: Path) -> None:
    pipeline, relay = secured
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    with (
        redis.Redis.from_url(url_of(pipeline, relay, stranger)) as client,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()
