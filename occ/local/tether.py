"""A child process tied to its parent: when the parent is gone, however it went, the child is asked to end.

The parent calls `tethered` and starts what it gets. That runs this file first, in the child and without our packages;
it ties the knot and then becomes the command, under the same process id.

Linux has a call for this (PR_SET_PDEATHSIG). It watches the *thread* that started the child, so children are started
by main threads only. Elsewhere a small watcher process waits for the end of a pipe whose other end only the parent has.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from select import select

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_NO_PIPE = "-"
_CHECK_EVERY = 1.0
_MORE_THAN_ANYBODY_OPENS = 1 << 16


def tethered(
    command: Sequence[str], on_parent_death: signal.Signals, *, by_pipe: bool = not _LINUX
) -> tuple[list[str], tuple[int, ...]]:
    """The command line that runs `command` tied to this process, and the descriptors it has to inherit."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started by the main thread: they would end with any other")
    pipe = (_end_of_life(),) if by_pipe else ()
    arguments = [str(os.getpid()), str(int(on_parent_death)), str(pipe[0]) if pipe else _NO_PIPE]
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *arguments, *command], pipe  # noqa: PTH100 - cheap start


@cache
def _end_of_life() -> int:
    """The end of a pipe that reads as closed once this process is gone: nobody inherits the other end."""
    for_children, _ours = os.pipe()
    return for_children


def _become(parent: int, on_parent_death: int, pipe: str, command: list[str]) -> None:
    if pipe == _NO_PIPE:
        _tie_by_signal(on_parent_death)
    else:
        _tie_by_pipe(int(pipe), on_parent_death)
    if os.getppid() != parent:
        # It went before the knot was tied, and no signal will come any more.
        sys.exit("the process that asked for this one is gone")
    os.execvp(command[0], command)  # noqa: S606 - the caller's own command, without a shell


def _tie_by_signal(on_parent_death: int) -> None:
    import ctypes  # noqa: PLC0415 - takes half of this file's start, and only Linux needs it

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, on_parent_death, 0, 0, 0) != 0:
        sys.exit(f"cannot be tied to its parent (errno {ctypes.get_errno()})")


def _tie_by_pipe(pipe: int, on_parent_death: int) -> None:
    """Leave a watcher behind. It is nobody's child, so that the command never meets a child it did not start."""
    command = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        _keep_only(pipe)
        _watch(pipe, gone=lambda: _is_gone(command), end=lambda: os.kill(command, on_parent_death))
    os._exit(0)


def _keep_only(pipe: int) -> None:
    """Let go of everything the command holds: its locks and its output must end when it ends, not with its watcher."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, min(os.sysconf("SC_OPEN_MAX"), _MORE_THAN_ANYBODY_OPENS))


def _watch(pipe: int, *, gone: Callable[[], bool], end: Callable[[], None]) -> None:
    while not gone():
        if select([pipe], [], [], _CHECK_EVERY)[0]:
            with suppress(ProcessLookupError):
                end()
            return


def _is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
