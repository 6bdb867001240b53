"""The way to the server over TLS: records and messages alike, and not at all to a server nobody vouches for.

The server that comes with the package speaks no TLS itself, so a relay does it for it, as stunnel would.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from tests.pipeline import Pipeline
from tests.tls_relay import TlsRelay

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]


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
