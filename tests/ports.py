"""Ports for servers that are started later, or again, at one address."""

import random
import socket

_PORTS = range(15_000, 30_000)
"""Below those the system hands out to callers: one of those could be taken by another program meanwhile, and a caller
that comes before anybody listens may be connected to itself."""


def free_port() -> int:
    """A port on loopback where nobody listens."""
    while True:
        with socket.socket() as probe:
            port = random.SystemRandom().choice(_PORTS)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
