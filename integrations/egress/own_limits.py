"""What we ran short of ourselves: files, memory, threads. No store is to blame for that. Pure."""

import errno

from integrations.errors import TransientError

_SHORTAGES = {
    errno.EMFILE: "files",
    errno.ENFILE: "files of the whole machine",
    errno.ENOBUFS: "network buffers",
    errno.ENOMEM: "memory",
    errno.EAGAIN: "sockets",
}
_PAUSE = 5.0  # seconds; what uses it all up is mostly calls that end soon
_NO_THREAD = "can't start new thread"  # CPython's words


def out_of_resources(shortage: str) -> TransientError:
    """The end of a call that we were in no position to make."""
    return TransientError("out_of_resources", shortage, retry_after=_PAUSE)


def shortage_of(error: BaseException) -> str | None:
    """What there was not enough of on this machine; None if the error is about something else."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return "threads"
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return _SHORTAGES.get(error.errno or 0)
    return None
