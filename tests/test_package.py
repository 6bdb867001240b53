"""The package: what the wheel holds, and that it works where there is no clone."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from occ import __version__

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel in it. What the wheel needs is lent by ours: no network."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    lent = sysconfig.get_path("purelib")
    (packages / "lent.pth").write_text(f"import site; site.addsitedir({lent!r})\n", encoding="utf-8")
    return folder


def occ(environment: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OCC_", "PYTHON"))}
    command: list[str | Path] = [environment / "bin" / "occ", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, check=False, capture_output=True, text=True)


def test_the_wheel_holds_every_file_of_the_packages_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    packages = ("integrations", "occ", "tasks")
    files = (file for package in packages for file in (ROOT / package).rglob("*") if file.is_file())
    there = {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}
    assert held == there | {"celeryconfig.py", "flowerconfig.py"}


def test_installed_it_tells_its_version(environment: Path, wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.startswith(f"occ_connect-{__version__}-")
    assert occ(environment, tmp_path, "--version").stdout == f"occ-connect {__version__}\n"


def test_installed_it_runs_the_demo(environment: Path, tmp_path: Path) -> None:
    ended = occ(environment, tmp_path, "demo", "--merchants", "2", "--json")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert json.loads(ended.stdout)


def test_installed_it_names_commands_as_they_are_typed_there(environment: Path, tmp_path: Path) -> None:
    ended = occ(environment, tmp_path, "status")
    assert "start `occ up`" in ended.stderr
    assert "./run" not in ended.stderr
