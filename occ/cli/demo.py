"""`occ demo`."""

from occ.demo.demo import main as command

__all__ = ["command"]
