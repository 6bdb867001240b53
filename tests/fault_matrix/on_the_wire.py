"""Faults that no answer of a store can show: what the real session raises for them, as a test holds it.

`test_on_the_wire.py` makes each of them happen to the real session.
"""

from collections.abc import Mapping
from types import MappingProxyType

from integrations.errors import IntegrationError, PermanentError, TransientError

WIRE: Mapping[str, IntegrationError] = MappingProxyType(
    {
        "name does not resolve": TransientError("store_unreachable", "the name does not resolve"),
        "name leads to a private address": PermanentError(
            "egress_blocked", "the name leads to an address that is not public"
        ),
        "nobody vouches for the certificate": TransientError("tls_failed", "certificate chain is not trusted"),
        "certificate has expired": TransientError("tls_failed", "certificate has expired"),
        "certificate is for another name": TransientError("tls_failed", "certificate is for another name"),
        "other side speaks no TLS": TransientError("tls_failed", "the other side speaks no TLS"),
        "connection ends in the TLS handshake": TransientError(
            "store_unreachable", "connection closed without an answer"
        ),
        "our proxy refuses the tunnel": TransientError("proxy_failed", "HTTP 407"),
        "our proxy cannot reach the store": TransientError("store_unreachable", "HTTP 502 from the proxy"),
    }
)
