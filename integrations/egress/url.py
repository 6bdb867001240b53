"""How URLs that we call are written. Strict, so that our reading and that of the libraries below cannot differ."""

import re
from types import MappingProxyType

AUTHORITY = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
"""Host and port, without user: for a grammar of one's own."""

HTTP_URL = re.compile(rf"(https?)://{AUTHORITY}(/[!-\[\]-~]*)?", re.ASCII)
"""Scheme, host, port, path with query. No user, no backslash, nothing that is not ASCII."""

DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})
LAST_PORT = 65535
