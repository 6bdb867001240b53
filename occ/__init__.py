"""What people run: the command line, the embedded set-up, the demo, the simulator, metrics."""

__version__ = "0.1.0"
"""The one place it stands in: the package, `occ --version` and `./run release` read it here."""
