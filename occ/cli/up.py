"""`occ up`."""

from occ.local.up import main as command

__all__ = ["command"]
