"""What the matrix takes for the session's errors is what the real session raises.

That the simulated store without sockets means the same as one with them is held by tests/occ/simulator/test_direct.py.
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from integrations.egress.deadline import Deadline
from integrations.egress.guard import Resolve
from integrations.egress.session import GuardedSession
from integrations.egress.url import EgressProxy
from integrations.errors import IntegrationError
from tests.fault_matrix.on_the_wire import WIRE
from tests.integrations.wire_servers import (
    LOOPBACK,
    STORE,
    Conversation,
    WireServer,
    answering,
    get,
    http,
    requests_on,
    resolve_to,
    tls_for,
)

pytestmark = pytest.mark.server

OTHER = "ccadmin-other.oracleoutsourcing.com"


class Scene:
    """A store on loopback, and a session that trusts one authority of ours."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self.authority = trustme.CA()
        self._bundle = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self._bundle))

    def store(self, conversation: Conversation, certificate: trustme.LeafCert | None = None) -> WireServer:
        tls = tls_for(certificate) if certificate else None
        return self._stack.enter_context(WireServer(conversation, tls=tls))

    def met(self, server: WireServer) -> IntegrationError:
        """What a call of the server by the name of a store comes to."""
        session = self._session(dev_stores=LOOPBACK, resolve=resolve_to("127.0.0.1"))
        return self._error(lambda: get(session, server, scheme="https"))

    def met_by_name(self, resolve: Resolve) -> IntegrationError:
        """What a call comes to where names are looked up like this."""
        return self._call(self._session(resolve=resolve))

    def met_through_proxy(self, answer: bytes) -> IntegrationError:
        """What a call comes to through a proxy that answers like this."""
        proxy = self.store(_after_a_request(answer))
        return self._call(self._session(proxy=EgressProxy("127.0.0.1", proxy.port)))

    def _session(self, **options: object) -> GuardedSession:
        session = GuardedSession(ca_bundle=str(self._bundle), **options)  # type: ignore[arg-type]
        self._stack.callback(session.close)
        return session

    def _call(self, session: GuardedSession) -> IntegrationError:
        url = f"https://{STORE}/ccadmin/v1/login"
        return self._error(lambda: session.request("GET", url, headers={}, deadline=Deadline.after(5)))

    def _error(self, call: Callable[[], object]) -> IntegrationError:
        with pytest.raises(IntegrationError) as caught:
            call()
        return caught.value


def _after_a_request(answer: bytes) -> Conversation:
    def conversation(connection: socket.socket) -> None:
        next(requests_on(connection))
        connection.sendall(answer)

    return conversation


def _cut_off(connection: socket.socket) -> None:
    connection.recv(65536)  # closed with something left unread, it would be reset instead


def _plain_http(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(http(400))


def _unknown(*_: object, **__: object) -> list[tuple[object, ...]]:
    raise socket.gaierror


SCENES: dict[str, Callable[[Scene], IntegrationError]] = {
    "name does not resolve": lambda it: it.met_by_name(_unknown),
    "name leads to a private address": lambda it: it.met_by_name(resolve_to("10.0.0.1")),
    "nobody vouches for the certificate": lambda it: it.met(
        it.store(answering(http()), trustme.CA().issue_cert(STORE))
    ),
    "certificate has expired": lambda it: it.met(
        it.store(answering(http()), it.authority.issue_cert(STORE, not_after=datetime(2020, 1, 1, tzinfo=UTC)))
    ),
    "certificate is for another name": lambda it: it.met(it.store(answering(http()), it.authority.issue_cert(OTHER))),
    "other side speaks no TLS": lambda it: it.met(it.store(_plain_http)),
    "connection ends in the TLS handshake": lambda it: it.met(it.store(_cut_off)),
    "our proxy refuses the tunnel": lambda it: it.met_through_proxy(http(407)),
    "our proxy cannot reach the store": lambda it: it.met_through_proxy(http(502)),
}


@pytest.mark.parametrize("name", WIRE)
def test_the_real_session_raises_what_the_matrix_takes_it_to(name: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        met = SCENES[name](Scene(stack, tmp_path))
    expected = WIRE[name]
    assert (type(met), str(met)) == (type(expected), str(expected))
