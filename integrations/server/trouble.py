"""What is wrong with a server, in a sentence that names the remedy: why it cannot be used, or not now.

The sentences are ours: what a server or a library says may quote what was sent.
"""

import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_UNIX, create_connection, gaierror, socket

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from integrations.server.url import ServerUrl

_PROBE_WITHIN = 1.0  # seconds
_OTHER_NAME = frozenset({62, 63, 64})  # of OpenSSL: host, mail address, IP address
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_WRONG_TIME = frozenset({9, 10})
_TLS_ALERT = "\\x15\\x03"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a server cannot be used."""

    code: str
    sentence: str
    lasting: bool = True
    """Waiting does not help: somebody has to change the settings or the server."""


def trouble_behind(error: Exception, server: ServerUrl, setting: str) -> Trouble:
    """What an exception of redis-py, or of dialling, means. `setting`: the variable that names the server.

    May dial once more, to see whether the other side speaks TLS.
    """
    at = f"the server at {server.place}"
    if isinstance(error, MasterNotFoundError):
        return _away(
            f"no sentinel names a master that answers for {server.place}; check that they run, and the sentinels, "
            f"master and sentinel_password in {setting}"
        )
    for cause in _causes(error):
        if isinstance(cause, gaierror):
            return _away(f"cannot reach {at}: there is no such host, or its name cannot be looked up; check {setting}")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _about_certificate(cause.verify_code, at)
        if isinstance(cause, ssl.SSLError) and "ALERT" in str(cause.reason) and _speaks_tls(server):
            return _tls_refused(at, setting)
    return _said_by_server(error, server, at, setting) or _about_dialling(error, at, server, setting)


def _said_by_server(error: Exception, server: ServerUrl, at: str, setting: str) -> Trouble | None:  # noqa: PLR0911 - kinds
    match error:
        case redis.AuthenticationError() | exceptions.AuthorizationError():
            return _about_login(str(error), at, setting)
        case exceptions.NoPermissionError():
            return _about_permission(str(error), at)
        case exceptions.BusyLoadingError():
            return Trouble("loading", f"{at} is still loading its data; try again in a moment", lasting=False)
        case exceptions.ReadOnlyError() | exceptions.MasterDownError():
            return replica(server, setting)
        case exceptions.MovedError() | exceptions.AskError() | exceptions.ClusterDownError():
            return cluster(server)
        case redis.ResponseError():
            return _about_answer(str(error), at, server, setting)
    if isinstance(error, exceptions.MaxConnectionsError) or "max number of clients" in str(error):
        return _away(f"{at} has no room for another client; raise its maxclients or run fewer workers")
    return None


def cluster(server: ServerUrl) -> Trouble:
    """It is one node of several, each with some of the keys."""
    return Trouble(
        "cluster",
        f"the server at {server.place} is a Redis Cluster, which cannot be used: keys that change together "
        "would lie on different nodes; use a server without cluster mode",
    )


def replica(server: ServerUrl, setting: str) -> Trouble:
    """It only reads."""
    if server.sentinels:
        return _away(
            f"the master that the sentinels name for {server.place} is still a replica; it takes over in a moment"
        )
    return Trouble(
        "replica",
        f"the server at {server.place} is a replica, which cannot be written to; name the primary in {setting}",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _away(sentence: str) -> Trouble:
    return Trouble("unreachable", sentence, lasting=False)


def _tls_refused(at: str, setting: str) -> Trouble:
    return Trouble(
        "tls_refused",
        f"{at} does not accept our side of TLS; it may ask for a certificate of ours: name it with "
        f"ssl_certfile and ssl_keyfile in {setting}",
    )


def _about_certificate(code: int, at: str) -> Trouble:
    if code in _OTHER_NAME:
        return Trouble(
            "certificate_for_another_name",
            f"the certificate of {at} is for another name; put a name that is in it into the URL, "
            "or have one made for this one",
        )
    if code in _WRONG_TIME:
        return Trouble(
            "certificate_expired",
            f"the certificate of {at} has expired or is not valid yet; have it renewed, and check this machine's clock",
        )
    if code in _UNKNOWN_AUTHORITY:
        return Trouble(
            "certificate_not_trusted",
            f"the certificate of {at} is not trusted: no authority that this machine knows has signed it; name the "
            "file with its authority's certificate in OCC_SERVER_CA_BUNDLE, or as ssl_ca_certs in the URL",
        )
    return Trouble(
        "certificate_invalid", f"the certificate of {at} cannot be verified (OpenSSL code {code}); have it renewed"
    )


def _about_login(text: str, at: str, setting: str) -> Trouble:
    if "your configuration is correct" in text or "no password is set" in text:
        return Trouble("login_refused", f"{at} knows no password for this user; take the password out of {setting}")
    if text.startswith("NOAUTH") or "Authentication required" in text or "HELLO must be called" in text:
        return Trouble("login_refused", f"{at} asks for a login; put user and password into {setting}")
    return Trouble("login_refused", f"{at} rejects the login; check user and password in {setting}")


def _about_permission(text: str, at: str) -> Trouble:
    remedy = "docs/security.md lists what it needs"
    if command := re.search(r"'([a-z|_-]{1,40})' command", text):
        what = f"the command {command[1].upper().replace('|', ' ')}"
    elif "channel" in text:
        what = "a channel it listens to; the documented ones are those of database 0"
    elif "key" in text:
        what = "the keys of a command"
    else:
        what = "a command"
    return Trouble("no_permission", f"{at} does not permit this user {what}; {remedy}")


def _about_answer(text: str, at: str, server: ServerUrl, setting: str) -> Trouble:
    upper = text.upper()
    if "CLUSTER MODE" in upper or upper.startswith(("MOVED", "CROSSSLOT", "CLUSTERDOWN")):
        return cluster(server)
    if "DB INDEX" in upper:
        return Trouble("no_such_database", f"{at} has no database {server.database}; name one that it has in {setting}")
    if "UNKNOWN COMMAND" in upper:
        return Trouble("too_old", f"{at} lacks a command that is needed; use Redis 7.2 or newer, or Valkey")
    if upper.startswith("DENIED"):
        return Trouble(
            "protected", f"{at} is in protected mode and lets in nobody from elsewhere; give it users and passwords"
        )
    if upper.startswith(("OOM", "MISCONF")) or "COMMAND NOT ALLOWED WHEN USED MEMORY" in upper:
        return Trouble("full", f"{at} takes no more data: its memory or disk is full; make room", lasting=False)
    code = text.split(" ", maxsplit=1)[0]
    shown = f" ({code})" if re.fullmatch(r"[A-Z]{2,20}", code, re.ASCII) else ""
    return Trouble("command_refused", f"{at} refused a command{shown}; see its log", lasting=False)


def _about_dialling(error: Exception, at: str, server: ServerUrl, setting: str) -> Trouble:
    """It is away, or speaks something else: who hangs up, or says nothing, may be waiting for TLS, or for none."""
    refused = any(isinstance(cause, ConnectionRefusedError | FileNotFoundError) for cause in _causes(error))
    if server.scheme != "unix" and not refused:
        if server.tls and _speaks_plainly(server):
            return Trouble(
                "no_tls",
                f"{at} speaks no TLS on this port; name its TLS port in {setting}, or write redis:// instead of rediss://",
            )
        if server.tls and _asks_for_certificate(server):  # and hung up before we read so
            return _tls_refused(at, setting)
        if not server.tls and (_TLS_ALERT in str(error) or _speaks_tls(server)):
            return Trouble(
                "tls_expected", f"{at} expects TLS on this port; write rediss:// instead of redis:// in {setting}"
            )
    if any(isinstance(cause, PermissionError) for cause in _causes(error)):
        return Trouble(
            "socket_closed_to_us", f"cannot reach {at}: this user may not open the socket; check its permissions"
        )
    if isinstance(error, exceptions.InvalidResponse):
        return Trouble(
            "not_redis", f"what answers at {server.place} is no Redis or Valkey; check host and port in {setting}"
        )
    return _away(f"cannot reach {at}; check that it runs and that {setting} is right")


# --- What it was short of: no store is to blame for that ------------------------------------------------------------


def server_shortage(error: BaseException) -> str | None:
    """What the server could not give at the moment; None if the error is about something else.

    The words of the server are not repeated: they may quote what was to be written.
    """
    text = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM") or "used memory > 'maxmemory'" in text:
        return "memory of our server"
    if text.startswith("MISCONF"):
        return "disk of our server"
    if text.startswith("NOREPLICAS"):
        return "replicas of our server"
    if isinstance(error, exceptions.MaxConnectionsError) or "max number of clients" in text:
        return "connections to our server"
    if isinstance(error, redis.TimeoutError):
        return "an answer of our server"
    lost = (redis.ConnectionError, exceptions.ReadOnlyError, exceptions.MasterDownError, exceptions.BusyLoadingError)
    return "our server" if isinstance(error, lost) and not isinstance(error, redis.AuthenticationError) else None


# --- A look at who is there, without a login ------------------------------------------------------------------------


def _dialled(server: ServerUrl) -> socket:
    if server.scheme == "unix":
        plain = socket(AF_UNIX)
        plain.settimeout(_PROBE_WITHIN)
        plain.connect(server.path)
        return plain
    return create_connection((server.host, server.port), _PROBE_WITHIN)


def _speaks_plainly(server: ServerUrl) -> bool:
    """Whether somebody who speaks Redis without TLS is there."""
    with suppress(OSError), _dialled(server) as plain:
        plain.sendall(b"PING\r\n")
        return plain.recv(1) in {b"+", b"-"}
    return False


def _speaks_tls(server: ServerUrl) -> bool:
    """Whether somebody who speaks TLS is there, whoever it is: nothing is sent."""
    with suppress(OSError), _dialled(server) as plain, _any_tls().wrap_socket(plain, server_hostname=server.host):
        return True
    return False


def _asks_for_certificate(server: ServerUrl) -> bool:
    """Whether somebody is there who refuses TLS without a certificate of ours: nothing is sent."""
    try:
        with _dialled(server) as plain, _any_tls().wrap_socket(plain, server_hostname=server.host) as spoken:
            spoken.recv(1)  # with TLS 1.3 the refusal comes after the handshake
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except OSError:
        return False
    return False


def _any_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
