"""`occ simulate` is the simulator, with its own options and its own help, from whatever folder."""

import os
import subprocess
import sys
from pathlib import Path

from tests.occ.cli.conftest import PROJECT


def test_options_and_help_are_the_simulators_own(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "occ.cli", "simulate", "--help"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.startswith("usage: occ simulate ")
    assert "--control-port" in ended.stdout
