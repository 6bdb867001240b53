"""Secrets and folders that only this user can read."""

import fcntl
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_ONLY_OURS = 0o600


def private_folder(path: Path) -> Path:
    """A folder of our own, made if it is missing, closed to other users."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def private_file(path: Path, content: str) -> None:
    """Write a file that only this user can read; who reads it meanwhile sees the old content or the new."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    Path(draft).replace(path)


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file; the first to ask makes it. Of two who ask at once, both get the same."""
    with suppress(FileNotFoundError):
        return _content(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp's files are ours alone
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(descriptor)
        # A link, because it appears whole and never replaces what somebody else made in the meantime.
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        Path(draft).unlink()
    _make_durable(path.parent)
    return _content(path)


def _content(path: Path) -> str:
    path.chmod(_ONLY_OURS)
    return path.read_text(encoding="ascii").strip()


def _make_durable(folder: Path) -> None:
    """What was sealed to a key is lost with it: its name in the folder has to survive a power cut as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- A folder taken by one process -----------------------------------------------------------------------------------


def taken(lock: Path) -> int | None:
    """A descriptor that holds the lock until it and all inherited copies of it are closed; None if somebody has it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    if _is_free(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def is_taken(lock: Path) -> bool:
    """Whether somebody holds the lock now. Makes no file."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _is_free(descriptor, fcntl.LOCK_SH)  # shared: two who look do not see each other
    finally:
        os.close(descriptor)


def _is_free(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
