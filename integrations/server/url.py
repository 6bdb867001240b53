"""The URL of a Redis or Valkey server, read once for everybody: records, broker, Flower and commands.

redis-py and Celery each read such a URL in their own way, and each does something else with an option it does not know.
Here every option (`options.py`) has one meaning; any other is refused by name. TLS is verified
unless the URL says otherwise. No message repeats what was written: it may be a password in the wrong place.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from integrations.server.options import read_options, read_tls

Scheme = Literal["redis", "rediss", "unix"]

DEFAULT_PORT = 6379

_FORMS = (
    "write redis://host:6379/0, rediss://host:6379/0 (TLS), unix:///path/of.sock "
    "or redis+sentinel://host:26379,host:26379/0?master=NAME"
)
_SCHEMES: Mapping[str, Scheme] = {"redis": "redis", "rediss": "rediss", "unix": "unix", "redis+socket": "unix"}
_OTHER_BROKERS = frozenset(
    {"amqp", "amqps", "pyamqp", "librabbitmq", "rabbitmq", "sqs", "kafka", "confluentkafka", "mongodb", "memory",
     "filesystem", "sqla", "sqlalchemy", "gcpubsub", "azureservicebus", "azurestoragequeues",
     "zookeeper", "etcd", "qpid"}
)  # fmt: skip
_SENTINEL = re.compile(r"(rediss?)\+sentinel://((?:[^/?#@]*@)?)([^/?#@]*)(.*)", re.IGNORECASE | re.DOTALL)
_SENTINEL_PORT = 26379
_SENTINEL_WITHIN = 2.0  # seconds: one that is gone must not hold up asking the next
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Where a server is, how to log in, and how to talk to it. What it prints as shows neither user nor password."""

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    """Of the socket, for `unix`."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    database: int = 0
    tls: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    """Named as redis-py and `broker_use_ssl` name them; empty without TLS."""
    options: tuple[tuple[str, Any], ...] = ()
    """Timeouts and the like, named as redis-py names them."""
    sentinels: tuple[tuple[str, int], ...] = ()
    """Whom to ask where the master is: then `host` and `port` are those of the first of them."""
    master: str = ""
    """The name of the master there."""
    sentinel_login: tuple[str, str] = field(default=("", ""), repr=False)
    """User and password for them; the server's own are others."""
    text: str = field(default="", repr=False, compare=False)
    """As it was written."""

    def __str__(self) -> str:
        return self.place

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if self.scheme == "unix":
            return self.path
        if self.sentinels:
            return f"{self.master} (Sentinel at {', '.join(_place(*sentinel) for sentinel in self.sentinels)})"
        return _place(self.host, self.port)

    @property
    def is_verified(self) -> bool:
        """Whether nobody can pose as the server: with TLS, its certificate and name are verified. True without TLS."""
        tls = dict(self.tls)
        return not tls or (tls["ssl_cert_reqs"] == ssl.CERT_REQUIRED and tls["ssl_check_hostname"])

    def with_authorities(self, file: str) -> "ServerUrl":
        """The same, trusting the authorities in this file too, unless the URL names its own or uses no TLS."""
        if not self.tls or "ssl_ca_certs" in dict(self.tls):
            return self
        return replace(self, tls=(*self.tls, ("ssl_ca_certs", file)))

    def is_database_of(self, other: "ServerUrl") -> bool:
        """Whether both name the same database of the same server, by whatever login."""
        return (self.place, self.database) == (other.place, other.database)

    def celery_settings(self) -> dict[str, Any]:
        """The same for Celery, Kombu and Flower, who have forms of their own: settings named as Celery names them.

        `broker_transport_options` holds what the URL says, to be merged with the caller's own.
        """
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        login = "" if login == ":@" else login
        options = dict(self.options)
        if self.sentinels:
            url = ";".join(f"sentinel://{login}{_place(*sentinel)}/{self.database}" for sentinel in self.sentinels)
            options |= {"master_name": self.master, "sentinel_kwargs": self.sentinel_options()}
        elif self.scheme == "unix":
            database = f"?virtual_host={self.database}" if self.database else ""
            url = f"redis+socket://{login}{quote(self.path)}{database}"
        else:
            url = f"{self.scheme}://{login}{self.place}/{self.database}"
        return {
            "broker_url": url,
            "broker_use_ssl": dict(self.tls) or False,
            "broker_transport_options": options,
        }

    def sentinel_options(self) -> dict[str, Any]:
        """How to talk to the sentinels, named as redis-py names it: with TLS where the server has it."""
        user, password = self.sentinel_login
        timeouts = {"socket_timeout": _SENTINEL_WITHIN, "socket_connect_timeout": _SENTINEL_WITHIN}
        tls = {"ssl": True, **dict(self.tls)} if self.tls else {}
        return {**timeouts, **tls, "username": user or None, "password": password or None}


def server_url(text: str) -> ServerUrl:
    """Read a URL. Raises ValueError with a sentence that says how to write it right."""
    text = text.strip()
    if found := _SENTINEL.fullmatch(text):
        return _of_sentinels(text, *found.groups())
    _refuse_other_schemes(text)
    return _read(text)


def _read(text: str, *, with_sentinel: bool = False) -> ServerUrl:
    url = _split(text)
    scheme = _SCHEMES[url.scheme]
    options = read_options(url.query, with_tls=scheme == "rediss", with_sentinel=with_sentinel)
    username = _once(unquote(url.username or ""), options.pop("username", ""), "user")
    password = _once(unquote(url.password or ""), options.pop("password", ""), "password")
    place: dict[str, Any]
    if scheme == "unix":
        if url.hostname or url.path in {"", "/"}:
            raise ValueError(
                "a socket's URL has three slashes before its path: unix:///path, or unix://:PASSWORD@/path"
            )
        place = {"path": unquote(url.path)}
        in_path = ""
    else:
        in_path = url.path.strip("/")
        if not url.hostname or not re.fullmatch(r"/?([0-9]{1,6})?", url.path, re.ASCII):
            raise ValueError(
                "write redis://host:6379/0 - the path is a database number; percent-encode / ? # @ in a password"
            )
        if not _HOST.fullmatch(url.hostname):
            raise ValueError(f"a host is a name, an IPv4 address, or an IPv6 address in [ ]; {_FORMS}")
        place = {"host": url.hostname, "port": url.port or DEFAULT_PORT}
    database = options.pop("db", None)
    if database is not None and in_path and int(in_path) != database:
        raise ValueError("the database is named twice, in the path and as db; keep one")
    tls = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
    return ServerUrl(
        scheme,
        username=username,
        password=password,
        database=database if database is not None else int(in_path or 0),
        tls=tuple(read_tls(tls).items()) if scheme == "rediss" else (),
        options=tuple(options.items()),
        text=text,
        **place,
    )


def _of_sentinels(text: str, scheme: str, login: str, places: str, rest: str) -> ServerUrl:
    """As if the first of them were the server, and then not."""
    sentinels = tuple(map(_sentinel, places.split(",")))
    first = _place(*sentinels[0])
    read = _read(f"{scheme.lower()}://{login}{first}{rest}", with_sentinel=True)
    options = dict(read.options)
    master = options.pop("master", "")
    if not master:
        raise ValueError(
            "say which master the sentinels are to be asked for: redis+sentinel://host:26379/0?master=NAME"
        )
    sentinel_login = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    return replace(
        read,
        sentinels=sentinels,
        master=master,
        sentinel_login=sentinel_login,
        options=tuple(options.items()),
        text=text,
    )


def _sentinel(place: str) -> tuple[str, int]:
    try:
        url = urlsplit(f"//{place.strip()}")
        host, port = url.hostname or "", url.port or _SENTINEL_PORT
    except ValueError:
        host, port = "", 0
    if not _HOST.fullmatch(host):
        raise ValueError(
            "write the sentinels as host:port, with commas between them: "
            "redis+sentinel://one:26379,two:26379/0?master=NAME"
        )
    return host, port


def _place(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _refuse_other_schemes(text: str) -> None:
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in _SCHEMES:
        return
    if scheme.partition("+")[0] in _OTHER_BROKERS:
        raise ValueError(f"only Redis or Valkey can be used, and {scheme}:// is another kind of server; {_FORMS}")
    if scheme in {"valkey", "valkeys"}:
        raise ValueError(f"Valkey is reached by the same URLs as Redis; {_FORMS}")
    if scheme.startswith("http"):
        raise ValueError(f"an address for HTTP cannot be used, ask for the one for Redis clients; {_FORMS}")
    raise ValueError(_FORMS)


def _split(text: str) -> SplitResult:
    if not text.isprintable():
        raise ValueError("there is a control character in it, such as the end of a line; percent-encode it")
    if set(text.partition("?")[0].rpartition("@")[2]) & {",", ";"} or text.count("://") > 1:
        raise ValueError("name one server; only sentinels may be several: redis+sentinel://one,two/0?master=NAME")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(
            f"host or port cannot be read: a port is a number up to 65535, an IPv6 address stands in [ ], "
            f"and / ? # @ in a password are percent-encoded; {_FORMS}"
        ) from None
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    if url.fragment or "#" in text:
        raise ValueError("there is a # in it; percent-encode it as %23")
    return url


def _once(in_front: str, as_option: str, what: str) -> str:
    if in_front and as_option:
        raise ValueError(f"the {what} is given twice, before the @ and as an option; keep one")
    return in_front or as_option
