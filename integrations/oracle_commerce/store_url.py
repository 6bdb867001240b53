"""The store URL a merchant gives, reduced to the admin host we call.

Merchants copy it from the address bar of the admin console, path and all. The API is served by the admin host only; the
shop's own address has an admin twin, which we can often name (Oracle, "Prerequisites for Creating a Connection" of the
Commerce adapter: the admin URL is required, the store URL cannot be used).
"""

import ipaddress
import re
from collections.abc import Sequence

from integrations.egress.addresses import LOCALHOST, LOOPBACK, STORE_PORT, DevStore, is_host_name, is_ip_address
from integrations.egress.url import AUTHORITY, DEFAULT_PORTS, LAST_PORT
from integrations.errors import RequestRefused

DEFAULT_ALLOWED_HOSTS = ("ccadmin-*.oracleoutsourcing.com", "*-admin.occa.ocs.oraclecloud.com")
"""The admin hosts of Oracle's older and newer data centres. Wider patterns would hand keys to other Oracle services."""

MAX_STORE_URL = 2048
# Copied along from web pages and mails, and invisible: zero-width characters and byte order marks.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.ASCII | re.DOTALL)
_AUTHORITY = re.compile(AUTHORITY, re.ASCII)
_STOREFRONTS = (
    (re.compile(r"ccstore(-[a-z0-9-]+\.oracleoutsourcing\.com)"), r"ccadmin\1"),
    (re.compile(r"([a-z0-9-]+)-store(\.occa\.ocs\.oraclecloud\.com)"), r"\1-admin\2"),
)


def normalise_store_url(text: str, *, allowed_hosts: Sequence[str], dev_stores: Sequence[DevStore]) -> str:
    """`https://` and the admin host, whatever path, query, case or white space came with it.

    `allowed_hosts` are host patterns in which `*` stands for one or more characters of a label; if empty, Oracle's own.
    Only a store covered by `dev_stores` keeps http, a port, or an IP address.

    Raises RequestRefused: `storefront_host`, `host_not_allowed`, or `bad_store_url`. No user info or query is quoted.
    """
    scheme, host, port = _parts(text)
    if is_ip_address(host) or host == LOCALHOST:
        return _dev_store_url(scheme, host, port, dev_stores)
    if port not in {None, STORE_PORT, DEFAULT_PORTS[scheme]}:
        raise _bad("leave out the port; stores are called on port 443 only.")
    if not is_host_name(host):
        raise _bad("its host is not a plain name such as ccadmin-z1a2.oracleoutsourcing.com.")
    twin = admin_twin(host)
    if twin is not None:
        raise RequestRefused(
            "store_url",
            "storefront_host",
            f"this is the storefront; its admin host is probably {twin}. Give the address of the admin console.",
        )
    if not any(_matches(host, pattern) for pattern in allowed_hosts or DEFAULT_ALLOWED_HOSTS):
        raise RequestRefused(
            "store_url",
            "host_not_allowed",
            "this is not an admin host of Oracle Commerce that we know. Give the address of the admin console (the "
            "part before /occs-admin); an operator can admit further hosts with OCC_ALLOWED_HOSTS.",
        )
    return f"https://{host}"


def is_dev_store(store_url: str) -> bool:
    """Whether a normalised URL is one that only a dev store has: with http, a port, or an IP address."""
    scheme, _, authority = store_url.partition("://")
    return scheme == "http" or ":" in authority or not re.search(r"[a-z]", authority)


def admin_twin(host: str) -> str | None:
    """The admin host that belongs to one of Oracle's storefront hosts; None if the host is no such storefront."""
    for pattern, twin in _STOREFRONTS:
        if match := pattern.fullmatch(host):
            return match.expand(twin)
    return None


def _parts(text: str) -> tuple[str, str, int | None]:
    """Scheme, host in lower case without brackets, and port if one is given."""
    text = text.strip().strip(_INVISIBLE).strip() if isinstance(text, str) else ""
    if not text:
        raise _bad("give the address of the store's admin console.")
    if len(text) > MAX_STORE_URL:
        raise _bad("it is too long; scheme and host are enough.")
    match = _SCHEME.fullmatch(text)
    scheme, rest = (match[1].lower(), match[2]) if match else ("https", text.removeprefix("//"))
    if scheme not in DEFAULT_PORTS:
        raise _bad("it has to begin with https://.")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise _bad("leave out the user name and password.")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _bad("its host is not a plain name such as ccadmin-z1a2.oracleoutsourcing.com.")
    port = int(match[2]) if match[2] else None
    if port is not None and not 0 < port <= LAST_PORT:
        raise _bad("its port is not a port number.")
    return scheme, match[1].lower().strip("[]"), port


def _dev_store_url(scheme: str, host: str, port: int | None, dev_stores: Sequence[DevStore]) -> str:
    port = port or DEFAULT_PORTS[scheme]
    addresses = LOOPBACK if host == LOCALHOST else (host,)
    if not any(store.covers(address, port) for store in dev_stores for address in addresses):
        raise _bad(
            "give the name of the admin host instead of an IP address or localhost (OCC_DEV_STORES allows those, for "
            "simulated stores)."
        )
    shown = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == DEFAULT_PORTS[scheme] else f":{port}")


def _matches(host: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern.lower()).replace(r"\*", "[a-z0-9-]+"), host) is not None


def _bad(remedy: str) -> RequestRefused:
    return RequestRefused("store_url", "bad_store_url", f"this is not the URL of a store: {remedy}")
