"""How the values of settings are written: durations, lists, dev stores, slots, URLs. Pure functions.

Each raises ValueError with a sentence that says how to write it right, and that never repeats what was written.
"""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from integrations.egress.addresses import STORE_PORT, DevStore, Network
from integrations.egress.url import HTTP_URL, LAST_PORT, EgressProxy
from integrations.sealing.keyring import SealingKey
from integrations.sealing.signing import SigningSecret

_SECONDS_PER_UNIT = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]*)", re.ASCII)
_HOST_PATTERN = re.compile(r"(?:[a-z0-9*-]+\.)+[a-z0-9-]+\.[a-z][a-z0-9-]*", re.ASCII)
_SLOT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_SLOT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~/-]+", re.ASCII)
_PORT = re.compile(r"[1-9]\d{0,4}", re.ASCII)
# User and password are percent-encoded where they hold one of : / ? # @ % or a space.
_PROXY = re.compile(
    r"http://(?:(?P<user>[^\s:/?#@]+):(?P<password>[^\s/?#@]*)@)?"
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252})):(?P<port>[1-9][0-9]{0,4})/?",
    re.DOTALL,
)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_EVENT_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/@-]{0,199}", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# Spelled out, because `is_private` also covers link-local networks: there the clouds keep their metadata service.
_INNER_NETWORKS = tuple(
    map(ipaddress.ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"))
)


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """A slot as our stores offer it: its id there, and whether a connection is incomplete without it."""

    id: str
    required: bool = True


def duration(text: str) -> float:
    """Seconds from `5`, `0.5`, `250ms`, `5m`, `24h` or `30d`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or match[2] not in _SECONDS_PER_UNIT:
        raise ValueError("write a duration as seconds (5, 0.5) or with a unit: 250ms, 90s, 5m, 24h, 30d")
    return float(match[1]) * _SECONDS_PER_UNIT[match[2]]


def whole_number(text: str) -> int:
    """A count, without sign or fraction."""
    if not re.fullmatch(r"\d{1,12}", text.strip(), re.ASCII):
        raise ValueError("write a whole number, such as 8")
    return int(text)


def share(text: str) -> float:
    """A part of the whole, from 0 to 1, from `0.3` or `30%`."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*(%?)", text.strip(), re.ASCII)
    if match is None:
        raise ValueError("write a share as 0.3 or 30%")
    return float(match[1]) / (100 if match[2] else 1)


def listed(text: str) -> list[str]:
    """The entries of a comma-separated list."""
    return [entry for entry in (part.strip() for part in text.split(",")) if entry]


def sealing_keys(text: str) -> tuple[SealingKey, ...]:
    """Private keys, newest first, separated by commas or, as in a file, by line ends."""
    keys: list[SealingKey] = []
    for number, entry in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")), 1):
        try:
            key = SealingKey.parse(entry)
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
        if key.key_id in {known.key_id for known in keys}:
            raise ValueError(f"entry {number} has the key id of an earlier one: give each key once, newest first")
        keys.append(key)
    return tuple(keys)


def dev_stores(text: str) -> tuple[DevStore, ...]:
    """`network:port` entries such as `127.0.0.0/8:8800` or `[::1]:*`."""
    return tuple(_dev_store(entry, f"entry {number}") for number, entry in enumerate(listed(text), 1))


def _dev_store(text: str, where: str) -> DevStore:
    address, _, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise ValueError(f"{where}: put an IPv6 network in brackets, as in [::1]:8800")
    try:
        network = ipaddress.ip_network(address)
    except ValueError:
        raise ValueError(
            f"{where}: write network:port, as in 127.0.0.0/8:8800 (a network's address has no bits beyond its mask)"
        ) from None
    if port != "*" and not (_PORT.fullmatch(port) and int(port) <= LAST_PORT):
        raise ValueError(f"{where}: the port is a number from 1 to 65535, or * for any")
    if not any(network.version == inner.version and _within(network, inner) for inner in _INNER_NETWORKS):
        raise ValueError(f"{where}: a dev store is on a loopback or private network, never on a public one")
    return DevStore(network, None if port == "*" else int(port))


def _within(network: Network, other: Network) -> bool:
    return network.prefixlen >= other.prefixlen and network.network_address in other


def egress_proxy(text: str) -> EgressProxy:
    """A proxy from `http://host:port` or `http://user:password@host:port`."""
    match = _PROXY.fullmatch(text)
    if match is None or int(match["port"]) > LAST_PORT:
        raise ValueError(
            "write http://host:port or http://user:password@host:port, without a path; percent-encode : / ? # @ in a "
            "user or password"
        )
    host = match["ipv6"] or match["host"].lower()
    if match["ipv6"] and not _is_ipv6(host):
        raise ValueError("what is in brackets is not an IPv6 address")
    return EgressProxy(host, int(match["port"]), _login(match["user"], match["password"]))


def _login(user: str | None, password: str) -> str | None:
    if user is None:
        return None
    if _PERCENT.search(user + password):
        raise ValueError("a % in user or password is written %25")
    try:
        user, password = (unquote(part, errors="strict") for part in (user, password))
        (user + password).encode()
    except ValueError:  # UnicodeError is one
        raise ValueError("user and password are not a text in UTF-8") from None
    if ":" in user:
        raise ValueError("a user with a colon cannot log in to a proxy")  # RFC 7617, 2
    return f"{user}:{password}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def host_patterns(text: str) -> tuple[str, ...]:
    """Patterns of admin hosts; `*` stands for characters within a label, and the last two labels have none."""
    patterns = tuple(entry.lower() for entry in listed(text))
    for number, pattern in enumerate(patterns, 1):
        if not _HOST_PATTERN.fullmatch(f"x.{pattern}"):
            raise ValueError(
                f"entry {number}: write a host name without scheme, port or path, whose last two labels are spelled "
                "out, as in ccadmin-*.example.com"
            )
    return patterns


def slots(text: str) -> Mapping[str, SlotSpec]:
    """The slots to register, by name, from JSON: name -> id in the store, or `{"id": ..., "required": false}`."""
    try:
        entries = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict) or not entries:
        raise ValueError('write a JSON object with each name once, as in {"order-submit": "production-submitOrder"}')
    specs: dict[str, SlotSpec] = {}
    for number, (name, entry) in enumerate(entries.items(), 1):
        if not _SLOT_NAME.fullmatch(name):
            raise ValueError(
                f"entry {number}: a slot's name has lower-case letters, digits and dashes, as order-submit"
            )
        specs[name] = _slot(entry, f"slot {name}")
    if len({spec.id for spec in specs.values()}) < len(specs):
        raise ValueError("two slots share one id in the store: they would overwrite each other's callback URL")
    return MappingProxyType(specs)


def _slot(entry: object, where: str) -> SlotSpec:
    match entry:
        case str(slot_id):
            spec = SlotSpec(slot_id)
        case {"id": str(slot_id), "required": bool(required), **rest} if not rest:
            spec = SlotSpec(slot_id, required)
        case {"id": str(slot_id), **rest} if not rest:
            spec = SlotSpec(slot_id)
        case _:
            raise ValueError(f'{where}: write its id in the store, or {{"id": "...", "required": false}} with that id')
    if not _SLOT_ID.fullmatch(spec.id):
        raise ValueError(f"{where}: its id in the store has letters, digits, dots, dashes and underscores")
    return spec


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


def store_path(text: str) -> str:
    """The path of a call, as in /ccadmin/v1/shippingMethods."""
    if not _PATH.fullmatch(text) or "//" in text or {".", ".."} & set(text.split("/")):
        raise ValueError(
            "write a plain path that starts with /, as in /ccadmin/v1/shippingMethods, without host or query"
        )
    return text


def callback_url(text: str, *, plain_http: bool) -> str:
    """A template such as https://hooks.example.com/occ/{merchant_id}/{slot}; http only where dev stores are."""
    url = _split(text)
    wanted = "https:// or, with OCC_DEV_STORES, http://" if plain_http else "https://"
    if url is None or url.scheme not in ({"http", "https"} if plain_http else {"https"}) or not url.hostname:
        raise ValueError(
            f"write a URL that starts with {wanted}, as in https://hooks.example.com/occ/{{merchant_id}}/{{slot}}"
        )
    if url.username is not None or url.password is not None or url.fragment or re.search(r"[\s\\]", text):
        raise ValueError(
            "leave out user, password, fragment and spaces: stores show this URL to everyone who administers them"
        )
    placeholders = _PLACEHOLDER.findall(f"{url.path}?{url.query}")
    rest = _PLACEHOLDER.sub("", text)
    if set(placeholders) != {"merchant_id", "slot"} or "{" in url.netloc or "{" in rest or "}" in rest:
        raise ValueError("its path or query names {merchant_id} and {slot}, and nothing else in braces")
    return text


def former_callback_urls(text: str, current: str | None, *, plain_http: bool) -> tuple[str, ...]:
    """Templates like the one in use, separated by spaces."""
    former: list[str] = []
    for number, entry in enumerate(text.split(), 1):
        try:
            former.append(callback_url(entry, plain_http=plain_http))
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
        if entry == current:
            raise ValueError(f"entry {number}: this is OCC_CALLBACK_URL, which would be taken out of every slot")
    return tuple(former)


def folder(path: Path) -> Path:
    """A folder; ~ is the home of whoever runs this, ~name that of somebody this machine knows."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("nobody's home is known under that name; write the path without ~") from None


def receiver_networks(text: str) -> tuple[Network, ...]:
    """Networks of ours in which a receiver of events may be, such as `10.0.0.0/8`."""
    networks: list[Network] = []
    for number, entry in enumerate(listed(text), 1):
        try:
            network = ipaddress.ip_network(entry.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise ValueError(
                f"entry {number}: write a network, as in 10.20.0.0/16 (its address has no bits beyond its mask)"
            ) from None
        if not any(network.version == inner.version and _within(network, inner) for inner in _INNER_NETWORKS):
            raise ValueError(f"entry {number}: a loopback or private network; public addresses need no leave")
        networks.append(network)
    return tuple(networks)


def receiver_url(text: str, *, plain_http: bool, any_port: bool) -> str:
    """Where events are delivered to; http only where dev stores are, another port than 443 only in networks of ours."""
    match = HTTP_URL.fullmatch(text)
    if match is None or "#" in text or (match[1] == "http" and not plain_http):
        wanted = "https:// or, with OCC_DEV_STORES, http://" if plain_http else "https://"
        raise ValueError(
            f"write a URL that starts with {wanted}, as in https://crm.example.com/occ-events, without user, password, "
            "fragment and spaces"
        )
    port = int(match[3] or STORE_PORT)
    if not 0 < port <= LAST_PORT or (not any_port and port != STORE_PORT):
        raise ValueError("its port is 443, or any in a network that OCC_RECEIVER_NETWORKS or OCC_DEV_STORES names")
    path = match[4] or "/"
    return text.removesuffix(path).lower() + path


def signing_secrets(text: str) -> tuple[SigningSecret, ...]:
    """Secrets that are shared with the receiver, separated by spaces, commas or, as in a file, by line ends."""
    secrets: list[SigningSecret] = []
    for number, entry in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")), 1):
        try:
            secrets.append(SigningSecret.parse(entry))
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
    return tuple(secrets)


def event_source(text: str) -> str:
    """A URI reference without spaces, such as `occ-connect/staging` or `https://staging.example.com/occ`."""
    if not _EVENT_SOURCE.fullmatch(text):
        raise ValueError("write a short name or URL without spaces, such as occ-connect/staging")
    return text


def _split(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    return url
