"""Which addresses a call may go to, checked at the moment of dialling, and the dialling itself.

A name is looked up once per connection, every address it leads to is checked, and only those are dialled: a name that
answers differently the next time (DNS rebinding) gains nothing. However a URL spells its host, what counts is the
numeric address the system is about to connect to.

With a proxy the same is checked of the text of a call; the store's name is the proxy's to look up, and the addresses it
leads to are the proxy's to check. Nothing else of this machine's surroundings comes into reach: only the proxy itself.
"""

import errno
import math
import os
import re
import select
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPException
from itertools import chain, zip_longest
from typing import Any

from integrations.egress.addresses import (
    LOCALHOST,
    LOOPBACK,
    STORE_PORT,
    DevStore,
    is_host_name,
    is_ip_address,
    is_public,
)
from integrations.egress.deadline import Deadline, DeadlineSocket, next_wait, time_left
from integrations.egress.own_limits import out_of_resources, shortage_of
from integrations.egress.patience import MADE_WAY
from integrations.egress.url import EgressProxy
from integrations.errors import PermanentError, TransientError

Resolve = Callable[..., Iterable[tuple[Any, ...]]]
"""Called and answering like `socket.getaddrinfo`."""

_MOST_DIALLED = 4
_LEAST_SHARE = 0.05
# What the system takes in before we look at it: by itself some megabytes, of a store that has no end to its answer.
_RECEIVE_BUFFER = 64 * 1024
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([1-5][0-9]{2})\b", re.ASCII)  # http.client's words
# RFC 9110, 15.6.3 to 15.6.5; Squid says 503 when it cannot look up or reach what it was asked to connect to.
_STORE_OUT_OF_REACH = frozenset({"502", "503", "504"})


def dialling_order(addresses: Iterable[str]) -> list[str]:
    """At most four of the addresses, the families taking turns: one that leads nowhere must not use up the time."""
    distinct = list(dict.fromkeys(addresses))
    first_is_ipv6 = bool(distinct) and ":" in distinct[0]
    first, second = ([a for a in distinct if (":" in a) is wanted] for wanted in (first_is_ipv6, not first_is_ipv6))
    turns = chain.from_iterable(zip_longest(first, second))
    return [address for address in turns if address is not None][:_MOST_DIALLED]


class Egress:
    """Dials stores, and nothing else: https on port 443 of public addresses, and what `dev_stores` excepts.

    With a `proxy`, that one is dialled in place of the stores, wherever its operator keeps it.
    """

    def __init__(
        self,
        dev_stores: Sequence[DevStore] = (),
        resolve: Resolve = socket.getaddrinfo,
        proxy: EgressProxy | None = None,
    ) -> None:
        self._dev_stores = tuple(dev_stores)
        self._proxy = proxy
        self._look_ups = _LookUps(resolve)

    def check(self, scheme: str, host: str, port: int) -> None:
        """Refuse, before any name is looked up, what no address could make right. Raises PermanentError."""
        dev_port = any(store.port in {None, port} for store in self._dev_stores)
        if not dev_port and (scheme != "https" or port != STORE_PORT):
            raise PermanentError("egress_blocked", "not https on port 443")
        if is_ip_address(host):
            if not self._is_dev_store(host, port):
                raise PermanentError("egress_blocked", "an IP address instead of a name")
        elif host == LOCALHOST:
            if not dev_port:
                raise PermanentError("egress_blocked", "the name of this machine")
        elif not is_host_name(host):
            raise PermanentError("egress_blocked", "not a plain host name")

    def proxied(self, scheme: str, host: str, port: int) -> bool:
        """Whether a call goes through the proxy: all do but those to dev stores, which are known by address or port."""
        return self._proxy is not None and scheme == "https" and port == STORE_PORT and is_host_name(host)

    def addresses(self, scheme: str, host: str, port: int) -> list[str]:
        """The numeric addresses a host stands for, all of them checked.

        Raises PermanentError when a single one is not to be called, TransientError when the name cannot be looked up.
        """
        self.check(scheme, host, port)
        if is_ip_address(host):
            found = [host]
        elif host == LOCALHOST:
            found = [address for address in LOOPBACK if self._is_dev_store(address, port)]
        else:
            found = self._look_ups.addresses(host, port)
        if not found or not all(self._may_be_dialled(scheme, address, port) for address in found):
            # Which address it is stays here: a merchant could otherwise read the names of our network through us.
            raise PermanentError("egress_blocked", "the name leads to an address that is not public")
        return found

    def dial(self, scheme: str, host: str, port: int, connect_timeout: float) -> socket.socket:
        """A connection to one of the addresses of a host, tried in turn within `connect_timeout` seconds.

        Raises PermanentError `egress_blocked`, TransientError `store_unreachable`, `store_timeout` or
        `out_of_resources`. None of them is an OSError: urllib3 would take that for a connection that broke and may be
        tried again.
        """
        return _dialled(self.addresses(scheme, host, port), port, connect_timeout)

    def dial_proxy(self, host: str, port: int, connect_timeout: float) -> socket.socket:
        """A connection to the proxy, for a tunnel to this store; the proxy's own address may be any.

        Raises PermanentError `egress_blocked`, TransientError `proxy_failed`.
        """
        if self._proxy is None or not self.proxied("https", host, port):
            raise PermanentError("egress_blocked", "not for the proxy")
        try:
            at = self._proxy.host
            found = [at] if is_ip_address(at) else self._look_ups.addresses(at, self._proxy.port)
            return _dialled(found, self._proxy.port, connect_timeout)
        except TransientError as error:
            if error.code in {"out_of_resources", MADE_WAY}:
                raise
            detail = error.detail
        raise TransientError("proxy_failed", detail)

    def _may_be_dialled(self, scheme: str, address: str, port: int) -> bool:
        return self._is_dev_store(address, port) or (scheme == "https" and port == STORE_PORT and is_public(address))

    def _is_dev_store(self, address: str, port: int) -> bool:
        return any(store.covers(address, port) for store in self._dev_stores)


def tunnel_trouble(caught: Exception) -> TransientError:
    """Why the proxy made no tunnel: its answer's status, and never its words.

    A proxy that could not reach the store, or is still trying, says something about the store, not about itself.
    """
    if isinstance(caught, TransientError):
        return caught if caught.code == MADE_WAY else TransientError("proxy_failed", "the answer has no end")
    if isinstance(caught, TimeoutError):
        return TransientError("store_timeout", "the proxy made no tunnel in time")
    answer = _TUNNEL_REFUSED.match(str(caught)) if isinstance(caught, OSError) else None
    if answer is not None:
        if answer[1] in _STORE_OUT_OF_REACH:
            return TransientError("store_unreachable", f"HTTP {answer[1]} from the proxy")
        return TransientError("proxy_failed", f"HTTP {answer[1]}")
    if isinstance(caught, HTTPException) and not isinstance(caught, ConnectionError):
        return TransientError("proxy_failed", "the answer is not HTTP")
    return TransientError("proxy_failed", "connection closed without an answer")


def _dialled(addresses: Iterable[str], port: int, connect_timeout: float) -> socket.socket:
    order = dialling_order(addresses)
    dialling = Deadline.after(connect_timeout)
    trouble = OSError()
    for tries_left, address in zip(range(len(order), 0, -1), order, strict=True):
        try:
            return _connect(address, port, max(dialling.remaining() / tries_left, _LEAST_SHARE))
        except OSError as error:
            if shortage := shortage_of(error):
                raise out_of_resources(shortage) from None
            trouble = error
    raise _not_connected(trouble, connect_timeout)


def _connect(address: str, port: int, timeout: float) -> socket.socket:
    sock = DeadlineSocket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Header and body of a request leave in two writes; the second must not wait for the first's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.settimeout(0)
        failed = sock.connect_ex((address, port))
        if failed == errno.EINPROGRESS:
            failed = _awaited(sock, Deadline.after(timeout))
        sock.settimeout(timeout)
    except BaseException:
        sock.close()
        raise
    if failed:
        sock.close()
        raise OSError(failed, os.strerror(failed))
    return sock


def _awaited(sock: socket.socket, deadline: Deadline) -> int:
    """The error number that dialling ended with, 0 if it succeeded."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while True:
        remaining, wait = deadline.remaining(), next_wait()
        if remaining <= 0:
            raise TimeoutError
        seconds = remaining if wait is None else min(remaining, wait)
        if poll.poll(max(1, math.ceil(seconds * 1000))):
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _not_connected(trouble: OSError, connect_timeout: float) -> TransientError:
    if isinstance(trouble, TimeoutError):
        try:
            time_left()
        except TimeoutError:
            return TransientError("store_timeout", "still dialling")
        return TransientError("store_unreachable", f"no connection within {connect_timeout:g} s")
    if isinstance(trouble, ConnectionRefusedError):
        return TransientError("store_unreachable", "connection refused")
    return TransientError("store_unreachable", errno.errorcode.get(trouble.errno or 0, "no connection"))


class _LookUp:
    """One question to the resolver, which any number of callers may wait for."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.addresses: list[str] = []
        self.shortage: str | None = None


class _LookUps:
    """Asks the resolver without waiting for it longer than the obeyed deadline.

    `getaddrinfo` takes no timeout, so it runs in a thread that nobody has to wait for. There is at most one per host at
    a time: a host whose name servers hang costs one idle thread, not one per call.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], _LookUp] = {}

    def addresses(self, host: str, port: int) -> list[str]:
        look_up = self._joined(host, port)
        try:
            while not look_up.over.wait(next_wait()):
                pass
        except TimeoutError:
            raise TransientError("store_timeout", "still looking up the name") from None
        if look_up.shortage:
            raise out_of_resources(look_up.shortage)
        if not look_up.addresses:
            raise TransientError("store_unreachable", "the name does not resolve")
        return look_up.addresses

    def _joined(self, host: str, port: int) -> _LookUp:
        with self._lock:
            look_up = self._under_way.get((host, port))
            if look_up is None:
                look_up = _LookUp()
                try:
                    threading.Thread(target=self._run, args=(look_up, host, port), name="look-up", daemon=True).start()
                except RuntimeError as error:
                    raise out_of_resources(shortage_of(error) or "threads") from None
                self._under_way[host, port] = look_up
            return look_up

    def _run(self, look_up: _LookUp, host: str, port: int) -> None:
        try:
            answers = self._resolve(host, port, type=socket.SOCK_STREAM)
            look_up.addresses = [str(sockaddr[0]) for *_, sockaddr in answers]
        except OSError:
            look_up.shortage = _shortage_of_files()  # to the resolver it looks like name servers that do not answer
        except ValueError:  # UnicodeError, which is one: a label getaddrinfo cannot encode
            pass
        finally:
            with self._lock:
                self._under_way.pop((host, port), None)
            look_up.over.set()


def _shortage_of_files() -> str | None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return shortage_of(error)
    return None
