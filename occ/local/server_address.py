"""Where the embedded server listens: a unix socket that only this user can reach, and a password all the same."""

import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from occ.local.private_files import kept_secret

_SOCKET = "server.sock"
_PASSWORD = "password"  # noqa: S105 - a file's name
_ELSEWHERE = "socket-folder"
_LONGEST_PATH = 100
"""Bytes. A socket's address holds 108 on Linux and 104 on macOS, the final zero included."""

_SAME_IN_A_URL = re.compile(r"[A-Za-z0-9/._~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """How to reach a server through its socket; what it prints as shows no password."""

    socket: Path
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """For redis-py and OCC_REDIS_URL."""
        return f"unix://:{quote(self.password, safe='')}@{quote(str(self.socket))}?db=0"

    @property
    def broker_url(self) -> str:
        """For Celery and Flower, who have a form of their own for sockets."""
        return f"redis+socket://:{quote(self.password, safe='')}@{quote(str(self.socket))}"


def address_in(folder: Path) -> ServerAddress:
    """The address of the server that keeps its data in `folder`: the same each time, made when first asked for."""
    return ServerAddress(_socket_folder(folder) / _SOCKET, kept_secret(folder / _PASSWORD, secrets.token_urlsafe))


def known_address(folder: Path) -> ServerAddress | None:
    """The same for those who only want to find a server: makes nothing, None if there never was one."""
    try:
        password = (folder / _PASSWORD).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    return ServerAddress((_recorded(folder) or folder) / _SOCKET, password)


def clear_away(folder: Path) -> None:
    """Remove the socket that an ended server left. The address stays: whoever knows it can wait for the next server."""
    elsewhere = _recorded(folder)
    (folder / _SOCKET).unlink(missing_ok=True)
    if elsewhere is not None and _is_private(elsewhere):
        (elsewhere / _SOCKET).unlink(missing_ok=True)
        elsewhere.rmdir()


def _socket_folder(folder: Path) -> Path:
    """`folder` itself if its path can be a socket's address as it stands, else a private folder with a short name.

    Flower takes the path out of the broker's URL without decoding it, so one that would have to be encoded is out too.
    """
    record = folder / _ELSEWHERE
    socket = str(folder / _SOCKET)
    if len(os.fsencode(socket)) <= _LONGEST_PATH and _SAME_IN_A_URL.fullmatch(socket):
        record.unlink(missing_ok=True)
        return folder
    elsewhere = _recorded(folder)
    if elsewhere is None or not _made_private(elsewhere):
        elsewhere = Path(tempfile.mkdtemp(prefix="occ-", dir=_short_temporary_folder()))
        record.write_text(str(elsewhere), encoding="utf-8")
    return elsewhere


def _recorded(folder: Path) -> Path | None:
    with suppress(FileNotFoundError):
        return Path((folder / _ELSEWHERE).read_text(encoding="utf-8"))
    return None


def _made_private(path: Path) -> bool:
    """The short folder from last time is there, or is again; False if somebody else has taken its name."""
    with suppress(OSError):
        path.mkdir(mode=0o700)
    return _is_private(path)


def _is_private(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and status.st_mode & 0o077 == 0


def _short_temporary_folder() -> str:
    usual = tempfile.gettempdir()
    room = _LONGEST_PATH - len(f"/occ-XXXXXXXX/{_SOCKET}")
    return usual if len(os.fsencode(usual)) <= room and _SAME_IN_A_URL.fullmatch(usual) else "/tmp"  # noqa: S108
