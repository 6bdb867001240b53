"""How URLs that we call are written. Strict, so that our reading and that of the libraries below cannot differ."""

import base64
import re
from dataclasses import dataclass, field
from types import MappingProxyType

AUTHORITY = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
"""Host and port, without user: for a grammar of one's own."""

HTTP_URL = re.compile(rf"(https?)://{AUTHORITY}(/[!-\[\]-~]*)?", re.ASCII)
"""Scheme, host, port, path with query. No user, no backslash, nothing that is not ASCII."""

DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})
LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """The HTTP proxy that makes tunnels (CONNECT) to stores."""

    host: str
    """A name, of any number of labels, or an IP address without brackets."""
    port: int
    login: str | None = field(default=None, repr=False)
    """`user:password`."""

    @property
    def url(self) -> str:
        """Where it is, without the login: libraries quote this URL."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers for the proxy alone; no store sees them."""
        if self.login is None:
            return {}
        return {"Proxy-Authorization": f"Basic {base64.b64encode(self.login.encode()).decode()}"}
