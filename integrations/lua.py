"""The Lua scripts that the server runs: each lies in a file of its own, beside the module that calls it."""

from functools import cache
from pathlib import Path


@cache
def lua_beside(module: str, name: str) -> str:
    """The script `<name>.lua` in the folder of a module, given as its `__file__`."""
    return Path(module).with_name(f"{name}.lua").read_text(encoding="utf-8")
