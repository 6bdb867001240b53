"""A pipeline for what other systems send, and Node with the packages of its examples."""

import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from occ.simulator.runner import Simulator, TlsFiles
from occ.simulator.store import SimulatedStore
from tests.contract.golden import HOST, SEALING_KEY
from tests.integrations.wire_servers import WireServer, requests_on
from tests.pipeline import REPOSITORY, Pipeline, running

EXAMPLES = REPOSITORY / "examples"
NODE_AT_LEAST = 20
SPECIFICATION = "@asyncapi/specs@6"  # the schemas of AsyncAPI; for the tests only


def tunnels_to(port: int) -> Callable[[socket.socket], None]:
    """A proxy that knows one store, whatever it is called."""

    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        with socket.create_connection(("127.0.0.1", port)) as store:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            other = {connection: store, store: connection}
            while True:
                for side in select.select(list(other), [], [], 60)[0]:
                    if not (received := side.recv(65536)):
                        return
                    other[side].sendall(received)

    return conversation


@pytest.fixture(scope="session")
def real_looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimulatedStore, dict[str, str]]]:
    """A store that is reached, through a proxy and over TLS, under the host name of a real one; and the settings."""
    folder = tmp_path_factory.mktemp("real-looking")
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    tls = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    with Simulator(tls=tls, one_address=True) as simulator:
        store = simulator.add("real-looking")
        assert store.https_url is not None
        with WireServer(tunnels_to(int(store.https_url.rpartition(":")[2]))) as proxy:
            egress = f"http://127.0.0.1:{proxy.port}"
            yield store, {"OCC_EGRESS_PROXY": egress, "OCC_CA_BUNDLE": str(folder / "authority.pem")}


@pytest.fixture(scope="session")
def pipeline(
    real_looking: tuple[SimulatedStore, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Holds the key pair that the stored messages are sealed to."""
    pipeline = Pipeline(tmp_path_factory.mktemp("contract"), settings=real_looking[1])
    pipeline.key = SEALING_KEY
    with running(pipeline, workers=1):
        yield pipeline


@pytest.fixture(scope="session")
def node_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples for Node in a folder with their packages."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no Node here")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE_AT_LEAST:
        pytest.skip(f"Node {version.strip()} is older than the examples need")
    folder = tmp_path_factory.mktemp("node") / "examples"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run([*install, SPECIFICATION], cwd=folder, capture_output=True, check=True, timeout=180)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot get the packages of the examples here")
    return folder
