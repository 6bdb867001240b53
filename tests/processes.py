"""Processes as tests see them from outside, and waiting for what they do."""

import subprocess
import time
from collections.abc import Callable


def is_running(process: int) -> bool:
    """Whether the process does anything. One that has ended but is not yet noted by its parent does not."""
    state = _asked(process, "stat")
    return state != "" and not state.startswith("Z")


def command_line(process: int) -> str:
    """What everybody on the machine can read of how the process was started."""
    return _asked(process, "args")


def wait_until(
    true: Callable[[], bool], *, within: float = 10.0, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Return as soon as it is true; fail when it is not within that many seconds."""
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until, "waited in vain"
        meanwhile()
        time.sleep(0.01)


def _asked(process: int, column: str) -> str:
    ps = ["ps", "-ww", "-o", f"{column}=", "-p", str(process)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()
