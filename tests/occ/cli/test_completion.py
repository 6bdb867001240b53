"""Completion in shells: the script, and what it is answered."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from occ.cli.command_line import COMMANDS
from tests.occ.cli.conftest import PROJECT, Occ


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script_that_asks_us(shell: str, occ: Occ) -> None:
    ended = occ("completion", shell)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert f"_OCC_COMPLETE={shell}_complete" in ended.stdout


def test_another_shell_is_refused(occ: Occ) -> None:
    assert occ("completion", "cmd").exit_code == 2


def completed(*words: str, at: int) -> list[str]:
    question = {"_OCC_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(at)}
    ended = subprocess.run(
        [sys.executable, "-m", "occ.cli"],
        check=True,
        cwd=PROJECT,
        env={**os.environ, **question},
        capture_output=True,
        text=True,
    )
    return [line.partition(",")[2] for line in ended.stdout.splitlines()]


def test_commands_options_and_values_are_completed() -> None:
    assert completed("occ", "", at=1) == list(COMMANDS)
    assert completed("occ", "re", at=1) == ["revalidate", "repair", "replay", "request", "refused"]
    assert "--resume" in completed("occ", "revalidate", "--re", at=2)
    assert completed("occ", "revalidate", "--status", "de", at=3) == ["degraded"]
    assert completed("occ", "status", "--finding", "slot_r", at=3) == ["slot_refused"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_with_it(occ: Occ, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(occ("completion", "bash").stdout)
    program = tmp_path / "occ"
    program.write_text(f'#!/bin/sh\ncd "{PROJECT}" && exec "{sys.executable}" -m occ.cli "$@"\n')
    program.chmod(0o755)
    ask = f'. "{script}"; COMP_WORDS=(occ disc); COMP_CWORD=1; _occ_completion occ; echo "${{COMPREPLY[@]}}"'
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "--norc", "-c", ask], check=True, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert ended.stdout == "disconnect\n"
