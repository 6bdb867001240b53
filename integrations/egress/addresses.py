"""Which hosts are plain names, and which addresses are on the public internet or excepted. Pure."""

import functools
import ipaddress
import re
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

STORE_PORT = 443
LOCALHOST = "localhost"
LOOPBACK = ("127.0.0.1", "::1")

# RFC 1123 labels in lower case. Encoded international labels ("xn--") are left out: no Oracle host has one, and what
# they look like to a person is not what they are.
_LABEL = re.compile(r"(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LONGEST_NAME = 253
# The C library reads these as IPv4 addresses: 127.1, 2130706433, 0x7f.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# Our own tables, because those of `ipaddress` grew from one Python release to the next.
# https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-special-registry
_NOT_PUBLIC_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers; one cloud keeps its metadata service here
            "127.0.0.0/8",
            "168.63.129.16/32",  # the platform address of one cloud, though public by its number
            "169.254.0.0/16",  # link-local: metadata services
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")  # beyond it: mapped, translated, unique local, link-local, multicast
_NOT_PUBLIC_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments, among them Teredo, which carries IPv4 addresses
            "2001:db8::/32",
            "2002::/16",  # 6to4 carries IPv4 addresses
            "3fff::/20",
        ),
    )
)


def is_public(address: str) -> bool:
    """Whether this numeric address is on the public internet; False for whatever is not a plain address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC_IPV4)
    if parsed.scope_id is not None or parsed not in _GLOBAL_IPV6:
        return False
    return not any(parsed in network for network in _NOT_PUBLIC_IPV6)


@functools.lru_cache(maxsize=1024)
def is_ip_address(host: str) -> bool:
    """Whether this is an IP address in its usual notation, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_host_name(host: str) -> bool:
    """Whether this is a plain name of several labels, in lower case, that nobody could read as an address."""
    labels = host.split(".")
    return (
        len(host) <= _LONGEST_NAME
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


@dataclass(frozen=True, slots=True)
class DevStore:
    """Addresses and a port at which stores of developers and tests live: there http and IP literals are fine."""

    network: Network
    port: int | None
    """None means any port."""

    def covers(self, address: str, port: int) -> bool:
        """Whether this numeric address and port are excepted; False for anything that is not an IP address."""
        try:
            dialled = ipaddress.ip_address(address)
        except ValueError:
            return False
        return dialled in self.network and self.port in {None, port}
