"""What we run short of ourselves is no store's fault, and is told as what it is."""

import errno
import subprocess
import sys

import pytest

from integrations.connections.causes import Actor, explain
from integrations.egress.guard import Egress
from integrations.egress.own_limits import shortage_of
from integrations.errors import TransientError
from occ.local.processes import PROJECT
from tests.integrations.wire_servers import STORE, WireServer, answering, http, resolve_to

OUT_OF_FILES = """
import resource, socket, sys
from ipaddress import ip_network
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.errors import TransientError
from integrations.egress.addresses import DevStore

session = GuardedSession(dev_stores=[DevStore(ip_network("127.0.0.0/8"), None)])
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
held = []
try:
    while True:
        held.append(socket.socket())
except OSError:
    pass
for host in ("127.0.0.1", "ccadmin-z1a2.oracleoutsourcing.com"):
    try:
        session.request("GET", f"http://{host}:{sys.argv[1]}/", headers={}, deadline=Deadline.after(20))
    except TransientError as error:
        print(error)
held.pop().close()
print(session.request("GET", f"http://127.0.0.1:{sys.argv[1]}/", headers={}, deadline=Deadline.after(20)).status)
"""


@pytest.mark.server
def test_without_a_file_to_open_no_store_is_unreachable() -> None:
    with WireServer(answering(http())) as server:
        command = [sys.executable, "-c", OUT_OF_FILES, str(server.port)]
        ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=180, check=True)
    assert ended.stdout.splitlines() == ["out_of_resources: files", "out_of_resources: files", "200"]


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN], ids=errno.errorcode.get
)
def test_a_shortage_while_dialling_is_ours(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_socket(*_: object) -> None:
        raise OSError(number, "not enough")

    monkeypatch.setattr("integrations.egress.guard.DeadlineSocket", no_socket)
    with pytest.raises(TransientError) as caught:
        Egress(resolve=resolve_to("8.8.8.8")).dial("https", STORE, 443, 1)
    assert caught.value.code == "out_of_resources"


def test_no_thread_for_a_look_up_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    egress = Egress(resolve=resolve_to("8.8.8.8"))
    with monkeypatch.context() as without_threads:
        without_threads.setattr("threading.Thread.start", no_thread)
        with pytest.raises(TransientError, match="out_of_resources: threads"):
            egress.addresses("https", STORE, 443)
    assert egress.addresses("https", STORE, 443) == ["8.8.8.8"]


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(errno.ECONNREFUSED, "x"), TimeoutError(errno.EAGAIN, "x"), ValueError(), OSError()]
)
def test_what_tells_of_the_store_is_no_shortage(error: Exception) -> None:
    assert shortage_of(error) is None


def test_a_shortage_is_the_operators_matter() -> None:
    assert explain("out_of_resources").actor is Actor.OPERATOR
