"""Places: how many threads of a worker may wait long for stores at the same time.

A place is a byte of a file without a name, locked by whoever holds it. The processes of a prefork worker inherit the
file and so share its places. The system unlocks what a process held when that process ends, however it ends.
"""

import fcntl
import os
import tempfile
import threading
from functools import cache


@cache
def shared_file() -> int:
    """The file of this process and of those that are forked from it afterwards."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("occ-places")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Places:
    """So many places. Safe to share between threads, and between the processes that share the file."""

    def __init__(self, count: int, file: int | None = None) -> None:
        self._file = shared_file() if file is None else file
        self._lock = threading.Lock()
        self._free = list(range(count))  # as far as this process knows

    def take(self) -> int | None:
        """A free place, None if there is none."""
        with self._lock:
            for place in self._free:
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                except OSError:  # another process holds it
                    continue
                self._free.remove(place)
                return place
        return None

    def give_back(self, place: int) -> None:
        """Let others have it."""
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
            self._free.append(place)
