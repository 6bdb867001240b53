"""Processes as tests see them from outside."""

import subprocess


def is_running(process: int) -> bool:
    """Whether the process does anything. One that has ended but is not yet noted by its parent does not."""
    state = _asked(process, "stat")
    return state != "" and not state.startswith("Z")


def command_line(process: int) -> str:
    """What everybody on the machine can read of how the process was started."""
    return _asked(process, "args")


def _asked(process: int, column: str) -> str:
    ps = ["ps", "-ww", "-o", f"{column}=", "-p", str(process)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()
