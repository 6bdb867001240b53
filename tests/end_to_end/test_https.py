"""The way to a store over TLS: with a trusted certificate it works, with any other no key is sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from occ.simulator.runner import TlsFiles, address_of
from tests.pipeline import Pipeline, running

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Two stores; the certificate names only the first one's address."""
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert(address_of(0))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    settings = {"OCC_CA_BUNDLE": str(folder / "authority.pem"), "OCC_RETRY_ATTEMPTS": "2"}
    with running(Pipeline(folder, settings=settings, tls=files), workers=1) as pipeline:
        yield pipeline


def test_a_store_is_connected_over_tls(pipeline: Pipeline) -> None:
    named, unnamed = pipeline.simulator.add("named"), pipeline.simulator.add("unnamed")
    pipeline.send(pipeline.request(named, store_url=named.https_url))
    pipeline.send(pipeline.request(unnamed, store_url=unnamed.https_url))
    pipeline.await_end("named", "unnamed")
    assert pipeline.status("named")["status"] == "active"
    assert dict(named.calls.endpoints) == {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}
    assert named.calls.connections <= 4, "connections are reused"
    refused = pipeline.status("unnamed")
    assert refused["status"] == "unreachable"
    assert [finding["code"] for finding in refused["findings"]] == ["tls_failed"]
    assert unnamed.calls.endpoints.total() == 0, "not even the login was sent"
