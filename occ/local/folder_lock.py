"""A folder taken by one process: held through an open file, so that the kernel frees it however its holder ends."""

import fcntl
import os
from pathlib import Path


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
