"""HTTP calls to stores that keep to their bounds: where they go, how long they take, how much they read.

Built on urllib3's pools as the adapter of requests keeps them, without what acts behind a call's back: a session of
requests, with its redirects, cookies, and proxies, `.netrc` and certificates from the environment, and retries. A proxy
is used if we are given one.
"""

import json as json_format
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.connectionpool import HTTPConnectionPool

from integrations.egress import patience
from integrations.egress.addresses import DevStore
from integrations.egress.allowance import Allowance, paid_from
from integrations.egress.answer import Answer
from integrations.egress.attempt import Attempt, making
from integrations.egress.deadline import Deadline, DeadlineTLSSocket, obeyed
from integrations.egress.guard import Egress, Resolve
from integrations.egress.gunzip import Gunzip, is_packed
from integrations.egress.own_limits import out_of_resources, shortage_of
from integrations.egress.pools import IdleConnections, guarded_pools, most_idle
from integrations.egress.url import DEFAULT_PORTS, HTTP_URL, EgressProxy
from integrations.errors import IntegrationError, PermanentError, SettingsError, TransientError

__all__ = ["Answer", "GuardedSession"]

_REDIRECT_TARGET = re.compile(r"(?:https?:)?//([A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?(?:[/?#].*)?", re.ASCII | re.DOTALL)
_WAITS = urllib3.Timeout(None)  # the sockets keep to the deadline
_HEADERS = MappingProxyType({"User-Agent": "occ-connect", "Accept": "application/json", "Accept-Encoding": "gzip"})
_REDIRECTS = range(300, 400)
_PIECE_OF_BODY = 64 * 1024
_PIECE = 6  # letters

# A run makes a handful of calls in a few seconds, its four slots side by side, and then none for a day: more idle
# connections than this would only use up file descriptors.
_HOSTS_KEPT = 256
_IDLE_PER_HOST = 4
_IDLE_PER_DEV_STORE = 64  # a simulator serves all its merchants at one address


class GuardedSession:
    """Calls stores over https, under a total deadline; one per process, for any number of threads.

    What does not end in an Answer ends in an IntegrationError. Statuses are not judged here, except redirects: they are
    never followed, because the key would travel along.
    """

    def __init__(
        self,
        *,
        dev_stores: Sequence[DevStore] = (),
        proxy: EgressProxy | None = None,
        connect_timeout: float = 5.0,
        call_deadline: float = 35.0,
        ca_bundle: str | None = None,
        keep_alive: float = 30.0,
        max_answer: int = 2 * 1024 * 1024,
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        """`keep_alive`: seconds an idle connection is kept. `max_answer`: bytes, as received and once more unpacked."""
        self._egress = Egress(dev_stores, resolve, proxy)
        self._call_deadline = call_deadline
        self._max_answer = max_answer
        self._adapter = _Adapter(
            guarded_pools(self._egress, connect_timeout, IdleConnections(keep_alive, most_idle())),
            _tls_context(ca_bundle),
            proxy,
            idle_per_host=_IDLE_PER_DEV_STORE if dev_stores else _IDLE_PER_HOST,
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        form: Mapping[str, str] | None = None,
        json: object | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Make one call, and read the whole answer before `deadline` or the session's own, whichever is earlier.

        A call is made once. Only where a connection that has served before turns out to be gone, before a byte of an
        answer came, is it made once more on a fresh one, within the same deadline: such a failure tells of the idle
        connection, not of the store. What changes something is repeated only if that showed within a second: our
        writes say the same twice, but what somebody else has written in between is not to be written over.

        Raises PermanentError `egress_blocked` or `redirected`, and TransientError `store_unreachable`, `store_timeout`,
        `tls_failed`, `proxy_failed`, `answer_too_large`, `unreadable_answer`, `out_of_resources` or `made_way`.
        """
        way = self._way_to(url)
        body, body_type = _encoded(form, json) if content is None else (content, {})  # its type is among the headers
        deadline = deadline.within(self._call_deadline)
        seconds = deadline.remaining()
        if seconds <= 0:
            raise TransientError("store_timeout", "no time left")
        with obeyed(deadline), paid_from(Allowance(self._max_answer)):
            for attempt in (Attempt(), Attempt(only_fresh=True)):
                try:
                    with making(attempt):
                        answer = self._exchange(method, way, {**_HEADERS, **headers, **body_type}, body)
                    if current := patience.current():
                        current.answered()
                    return answer  # noqa: TRY300 - what follows is for failures
                except IntegrationError:
                    raise
                except Exception as caught:  # noqa: BLE001 - whatever it is: its text may hold a header or a URL
                    trouble = _translated(caught, seconds)
                    again = attempt.may_be_repeated(safe=method != "PUT") and _is_gone(caught)
                if not again:
                    break
        # Outside of the handler, so that nothing of the original stays attached as the context.
        raise trouble

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _way_to(self, url: str) -> "_Way":
        """How a call gets there, once it is known that it may be made."""
        match = HTTP_URL.fullmatch(url)
        if match is None or match[2] != match[2].lower():
            raise PermanentError("egress_blocked", "not a URL we call")
        scheme, host, port, path = match.groups()
        destination = scheme, host.strip("[]"), int(port or DEFAULT_PORTS[scheme])
        self._egress.check(*destination)
        pool = self._adapter.pool(scheme, host, destination[2], tunnelled=self._egress.proxied(*destination))
        return _Way(url, pool, path or "/")

    def _exchange(self, method: str, way: "_Way", headers: Mapping[str, str], body: bytes | None) -> Answer:
        response = way.pool.urlopen(
            method,
            way.path,
            body,
            headers,
            retries=self._adapter.max_retries,
            redirect=False,
            assert_same_host=False,
            timeout=_WAITS,
            preload_content=False,
            decode_content=False,
        )
        received_at = time.time()
        try:
            if response.status in _REDIRECTS:
                raise PermanentError("redirected", _target(response, way.url, headers.get("Authorization", "")))
            return Answer(response.status, response.headers, self._body(response), received_at)
        finally:
            response.close()  # of an answer that was read whole, the connection has gone back already
            response.release_conn()

    def _body(self, response: BaseHTTPResponse) -> bytes:
        body, packed = bytearray(), is_packed(response.headers.get("Content-Encoding", ""))
        gunzip = Gunzip(self._max_answer)
        # Not unpacked by the libraries: they bound neither the steps that takes nor what it makes.
        while piece := response.read1(_PIECE_OF_BODY, decode_content=False):
            body += gunzip.unpack(piece) if packed else piece
        gunzip.finish()
        return bytes(body)


class _Way(NamedTuple):
    """To whom a call goes, over whose connections, and what it asks for there."""

    url: str
    pool: HTTPConnectionPool
    path: str


class _Adapter(HTTPAdapter):
    """Keeps connections from `pools`, checked by one TLS context of ours, and never tries twice."""

    def __init__(
        self,
        pools: dict[str, type[HTTPConnectionPool]],
        tls: ssl.SSLContext,
        proxy: EgressProxy | None,
        *,
        idle_per_host: int,
    ) -> None:
        self._pools = pools
        self._tls = tls
        super().__init__(pool_connections=_HOSTS_KEPT, pool_maxsize=idle_per_host, max_retries=0)
        self._headers_for_proxy = proxy.headers if proxy else {}
        if proxy:  # made at once: threads would race to make it
            self._tunnels = self.proxy_manager_for(proxy.url, ssl_context=tls, cert_reqs=ssl.CERT_REQUIRED)
            self._tunnels.pool_classes_by_scheme = self._pools

    def pool(self, scheme: str, host: str, port: int, *, tunnelled: bool) -> HTTPConnectionPool:
        """The connections to one host, through the proxy or not."""
        manager = self._tunnels if tunnelled else self.poolmanager
        pool: HTTPConnectionPool = manager.connection_from_host(host, port, scheme)
        return pool

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:  # noqa: FBT001, FBT002
        """Pools of our own connections."""
        tls = {"ssl_context": self._tls, "cert_reqs": ssl.CERT_REQUIRED}
        super().init_poolmanager(connections, maxsize, block, **tls, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_headers(self, proxy: str) -> dict[str, str]:  # noqa: ARG002
        """The login, which goes with CONNECT and is no part of the URL."""
        return self._headers_for_proxy


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Trusts the public authorities, and those of `ca_bundle` beside them.

    Not `ssl.create_default_context`, which writes session keys wherever SSLKEYLOGFILE in the environment says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = DeadlineTLSSocket
    context.load_verify_locations(certifi.where())
    if ca_bundle is not None:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError:  # ssl.SSLError is one
            raise SettingsError(["OCC_CA_BUNDLE: the file cannot be read as certificates in PEM form"]) from None
    return context


def _encoded(form: Mapping[str, str] | None, json: object | None) -> tuple[bytes | None, dict[str, str]]:
    if form is not None:
        return urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    if json is not None:
        return json_format.dumps(json, allow_nan=False).encode(), {"Content-Type": "application/json"}
    return None, {}


def _target(response: BaseHTTPResponse, url: str, credential: str) -> str:
    """The host a redirect leads to: never its path or query, which could carry a token."""
    location = response.headers.get("Location", "").strip()
    match = _REDIRECT_TARGET.fullmatch(location)
    if match is None and re.match(r"/(?!/)", location):
        match = _REDIRECT_TARGET.fullmatch(url)
    if match is None or _repeats(match[1], credential):
        return f"HTTP {response.status}"
    return match[1].lower()


def _repeats(host: str, credential: str) -> bool:
    """Whether a host name holds a piece of the credential: a store may send back what it was sent, also in there."""
    name, sent = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (host, credential))
    return any(name[at : at + _PIECE] in sent for at in range(len(name) - _PIECE + 1))


# https://docs.openssl.org/3.0/man1/openssl-verification-options/ and X509_verify_cert_error_string
_CERTIFICATE_REASONS = MappingProxyType(
    {
        **dict.fromkeys((2, 18, 19, 20, 21, 22, 27), "certificate chain is not trusted"),
        9: "certificate is not valid yet",
        10: "certificate has expired",
        23: "certificate was revoked",
        62: "certificate is for another name",
        64: "certificate is for another name",
    }
)
_HANDSHAKE_REASONS = MappingProxyType(
    {
        **dict.fromkeys(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"), "the other side speaks no TLS"),
        **dict.fromkeys(("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"), "no common version of TLS"),
    }
)
_TLS_FAILURES = (ssl.SSLError, urllib3.exceptions.SSLError, requests.exceptions.SSLError)
# A connection that ends without TLS's own goodbye says nothing about certificates.
_TLS_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_GONE = (ConnectionError, *_TLS_CUT_OFF)
_TIMEOUTS = (TimeoutError, urllib3.exceptions.ReadTimeoutError, requests.Timeout)
_WIRE_FAILURES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((RemoteDisconnected, *_TLS_CUT_OFF), "store_unreachable", "connection closed without an answer"),
    ((ConnectionError,), "store_unreachable", "connection reset"),
    ((IncompleteRead,), "store_unreachable", "the answer was cut off"),
    ((urllib3.exceptions.DecodeError,), "unreadable_answer", "the answer cannot be decompressed"),
    ((HTTPException,), "unreadable_answer", "the answer is not HTTP"),
)


def _translated(caught: Exception, seconds: float) -> TransientError:
    """What went wrong on the wire, in our words: the texts of the libraries quote headers and URLs."""
    chain = _chain(caught)
    if any(isinstance(error, _TLS_FAILURES) for error in chain) and not any(isinstance(e, _TLS_CUT_OFF) for e in chain):
        return TransientError("tls_failed", _tls_reason(chain))
    if shortage := next(filter(None, map(shortage_of, chain)), None):
        return out_of_resources(shortage)
    if any(isinstance(error, _TIMEOUTS) for error in chain):
        return TransientError("store_timeout", f"no whole answer within {seconds:.3g} s")
    for kinds, code, detail in _WIRE_FAILURES:
        if any(isinstance(error, kinds) for error in chain):
            return TransientError(code, detail)
    return TransientError("store_unreachable", type(caught).__name__)


def _is_gone(caught: Exception) -> bool:
    """Whether the other side had let go of the connection, or somebody on the way had."""
    return any(isinstance(error, _GONE) for error in _chain(caught))


def _chain(caught: BaseException) -> list[BaseException]:
    """An exception and all it was made from, outermost first: the libraries wrap each other's in several ways."""
    chain: list[BaseException] = []
    waiting: list[object] = [caught]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseException) and not any(error is known for known in chain):
            chain.append(error)
            waiting += [*error.args, getattr(error, "reason", None), error.__cause__, error.__context__]
    return chain


def _tls_reason(chain: list[BaseException]) -> str:
    original = next((error for error in chain if isinstance(error, ssl.SSLError)), None)
    if isinstance(original, ssl.SSLCertVerificationError):
        return _CERTIFICATE_REASONS.get(getattr(original, "verify_code", 0), "certificate is not acceptable")
    return _HANDSHAKE_REASONS.get(str(getattr(original, "reason", "")), "TLS handshake failed")
