"""Whether this is a clone or an installed package: people start the same commands in another way."""

from pathlib import Path

_TOP = Path(__file__).resolve().parents[1]
_SHORT = frozenset({"demo", "up"})


def started_as(command: str) -> str:
    """How a command of `occ` is typed here, for messages that name it: `occ up`, or in a clone `./run up`."""
    if not (_TOP / "run").is_file():
        return f"occ {command}"
    return f"./run {command}" if command in _SHORT else f"./run occ {command}"
