"""Hosts, URLs and addresses that must never be called, and a record of what is dialled at the level of sockets."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FORBIDDEN_ADDRESSES = [
    # This machine
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::"),
    # Private networks
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "fc00::1", "fdff::1"),
    # Metadata services: of three clouds by the usual address, then each cloud's own
    *("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200"),
    *("192.0.0.192", "169.254.0.1", "fe80::1", "fe80::1%lo", "fec0::1"),
    # IPv4 inside IPv6: mapped, compatible, translated (three prefixes), 6to4, Teredo, ISATAP
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1"),
    *(
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "::ffff:0:7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
    ),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001::1", "fe80::5efe:7f00:1"),
    # Neither public nor private: documentation, benchmarks, protocols, multicast, reserved
    *("192.0.2.1", "198.51.100.7", "203.0.113.7", "198.18.0.1", "198.19.255.255", "192.0.0.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1", "ff0e::1", "100::1", "5f00::1"),
    *("2001:db8::1", "3fff::1", "2001:20::1", "4000::1", "2606:4700::1111%eth0"),
    # No addresses at all
    *("", "localhost", "127.1", "0x7f000001", "2130706433", "017700000001", "8.8.8.8 ", "8.8.8.8\x00", "08.8.8.8"),
]

PUBLIC_ADDRESSES = [
    "8.8.8.8",
    "1.1.1.1",
    "134.70.1.1",
    "192.0.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00::1",
]

HOSTILE_HOSTS = [
    # This machine and its neighbours, by name
    *("localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost", "metadata", "intranet"),
    *("metadata.google.internal", "kubernetes.default.svc.cluster.local", "printer.local", "host.docker.internal"),
    # Addresses, plain and in brackets
    *("127.0.0.1", "10.0.0.1", "169.254.169.254", "8.8.8.8", "[::1]", "[::]", "[fd00:ec2::254]", "[fe80::1%25lo]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[2002:7f00:1::]", "[2606:4700::1111]", "[127.0.0.1]", "[v1.127.0.0.1]", "::1", "[", "[]", "[::1", "::1]"),
    # The same, as the C library reads them: decimal, octal, hexadecimal, shortened, mixed
    *("2130706433", "2852039166", "0", "1", "017700000001", "0177.0.0.1", "0177.0.0.01", "00000177.0.0.1"),
    *("0x7f000001", "0x7f.0.0.1", "0x7f.1", "0X7F.0.0.0x1", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376"),
    *("127.1", "127.0.1", "169.254.43518", "169.16689662", "127.0.0.1.", "127.0.0.256", "1.2.3.4.5", "127.0.0", "0x"),
    *("4294967296", "340282366920938463463374607431768211455", "127.0.0.0x1", "example.0x7f", "example.1", "a.0x"),
    # Unicode that turns into dots, digits or letters on the way
    *(
        "127\u30020\u30020\u30021",
        "127\uff0e0\uff0e0\uff0e1",
        "127\uff610\uff610\uff611",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    ),
    *(
        "\uff11\uff12\uff17.0.0.1",
        "\u217cocalhost",
        "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
        "loc\u00adalhost",
    ),
    *("ccadmin-z1a2.oracleoutsourc\u0456ng.com", "ccadmin-z1a2\u3002oracleoutsourcing.com", "\u0660.0.0.0"),
    *(
        "ccadmin-z1a2.oracleoutsourcing.com\u200b.evil.example",
        "fa\u00df.example",
        "xn--e1afmkfd.example",
        "xn--.example",
    ),
    *("xn--ccadmin-z1a2-.oracleoutsourcing.com", "ccadmin-z1a2.xn--oracleoutsourcng-7nl.com"),
    # Names that are not plain
    *(
        "ccadmin-z1a2.oracleoutsourcing.com.",
        "ccadmin-z1a2.oracleoutsourcing.com..",
        ".oracleoutsourcing.com",
        "a..example",
    ),
    *(
        "-a.example",
        "a-.example",
        "a_b.example",
        "*.example",
        "a" * 64 + ".example",
        "a." * 127 + "example",
        "%31%32%37.0.0.1",
    ),
    *("ccadmin%2ez1a2.example", "a b.example", "a\tb.example", "a\nb.example", "a\x00.example", "a\r\nHost: b.example"),
]

HOSTILE_URLS = [
    *(f"https://{host}/" for host in HOSTILE_HOSTS),
    # User info, and what different readers of a URL take for the host
    "https://ccadmin-z1a2.oracleoutsourcing.com@127.0.0.1/",
    "https://user:canary-7f3a@ccadmin-z1a2.oracleoutsourcing.com/",
    "https://canary-7f3a@169.254.169.254/",
    "https://@127.0.0.1/",
    "https://127.0.0.1#@ccadmin-z1a2.oracleoutsourcing.com/",
    "https://127.0.0.1\\@ccadmin-z1a2.oracleoutsourcing.com/",
    "https://ccadmin-z1a2.oracleoutsourcing.com\\@127.0.0.1/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:443@127.0.0.1/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:80@127.0.0.1:443/",
    "https://[::1]:443@ccadmin-z1a2.oracleoutsourcing.com/",
    "https:\\\\127.0.0.1/",
    "https:///127.0.0.1/",
    "https:127.0.0.1",
    "https:/127.0.0.1",
    "https://\t127.0.0.1/",
    "https://127.0.0.1;.oracleoutsourcing.com/",
    "https://127.0.0.1,ccadmin-z1a2.oracleoutsourcing.com/",
    "https://ccadmin-z1a2.oracleoutsourcing.com.evil.example/",
    "https://evil.example/ccadmin-z1a2.oracleoutsourcing.com",
    "https://evil.example?ccadmin-z1a2.oracleoutsourcing.com",
    "https://evil.example#.oracleoutsourcing.com",
    "https://evilccadmin-z1a2.oracleoutsourcing.com/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:22/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:8443/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:0/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:65536/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:-443/",
    "https://ccadmin-z1a2.oracleoutsourcing.com:4\u0664\u0663/",
    "http://127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "ftp://ccadmin-z1a2.oracleoutsourcing.com/",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:6379/INFO",
    "ldap://127.0.0.1/",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "unix:///var/run/docker.sock",
    "javascript:alert(1)",
    "data:text/html,x",
    "jar:https://127.0.0.1!/",
    "",
    " ",
    "https://",
    "https://:443",
    "://127.0.0.1",
]


class Dialled(list[object]):
    """Addresses in the order they were dialled, and how many seconds each was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[float] = []


_records: list[Dialled] = []
_hooked = threading.Event()


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _records and event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        sock, address = arguments[:2]
        for record in _records:
            record.append(address)
            record.given.append(sock.gettimeout() or 0.0)  # type: ignore[attr-defined]
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1")):
            raise PermissionError("tests stay on loopback, also when the guard they test is broken")


@contextmanager
def dialled() -> Iterator[Dialled]:
    """Every address any thread of this process connects to or sends to meanwhile, whoever asks for it."""
    if not _hooked.is_set():  # an audit hook stays for ever, so it is set once, and only when a test wants it
        _hooked.set()
        sys.addaudithook(_hook)
    record = Dialled()
    _records.append(record)
    try:
        yield record
    finally:
        _records.remove(record)
