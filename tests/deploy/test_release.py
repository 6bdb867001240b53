"""`./run release`: what it refuses before anything that takes long, in a repository made for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT

DATED = "# Changes\n\n## Unreleased\n\n## 9.1.0 - 2030-01-02\n\n* Something.\n"


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """All that is in order, but a `run` that goes no further than to say that it was started."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "occ").mkdir()
    shutil.copy(ROOT / "deploy" / "release", tmp_path / "deploy")
    (tmp_path / "occ" / "__init__.py").write_text('__version__ = "9.1.0"\n', encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(DATED, encoding="utf-8")
    (tmp_path / "run").write_text('#!/bin/sh\necho "started: $1"\nexit 7\n', encoding="utf-8")
    (tmp_path / "run").chmod(0o755)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Something")


def release(folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [folder / "deploy" / "release"]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def test_what_is_in_order_goes_on_to_lint_and_a_failure_there_ends_it(clone: Path) -> None:
    ended = release(clone)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "started: lint\n", "")


def test_changes_that_are_not_committed_are_refused(clone: Path) -> None:
    (clone / "new").touch()
    ended = release(clone)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "not committed" in ended.stderr


def test_a_version_that_is_out_is_refused(clone: Path) -> None:
    git(clone, "tag", "v9.1.0")
    ended = release(clone)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "9.1.0 is out already" in ended.stderr


@pytest.mark.parametrize(
    ("was", "becomes", "why"),
    [
        pytest.param(" - 2030-01-02", "", "no section", id="no date"),
        pytest.param("9.1.0", "9x1.0", "no section", id="another version"),
        pytest.param("Unreleased\n", "Unreleased\n\n* More.\n", "under 'Unreleased'", id="left under Unreleased"),
    ],
)
def test_changes_that_are_not_told_are_refused(clone: Path, was: str, becomes: str, why: str) -> None:
    (clone / "CHANGELOG.md").write_text(DATED.replace(was, becomes, 1), encoding="utf-8")
    commit(clone)
    ended = release(clone)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert why in ended.stderr
