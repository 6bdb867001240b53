"""The units: systemd reads them without complaint, and they start what the containers start."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.settings import Settings
from tests.deploy.manifests import UNITS, services

ANALYZE = shutil.which("systemd-analyze")
NEEDS_SYSTEMD = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed here")
SERVICES = sorted(file.name for file in UNITS.glob("*.service"))
MOST_EXPOSED = 2.0
"""Of 10, by systemd's own measure. What is left to get below one is the network, which this is about."""

COMPOSE_NAME = {
    "occ-worker@.service": "worker",
    "occ-quarantine.service": "quarantine",
    "occ-beat@.service": "beat",
    "occ-flower.service": "flower",
    "occ-metrics.service": "metrics",
}


def text(name: str) -> str:
    return (UNITS / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units with a Python that exists: systemd looks for each program."""
    folder = tmp_path_factory.mktemp("units")
    python_here = folder / "python"  # without a space, wherever the checkout is
    python_here.symlink_to(sys.executable)
    for unit in UNITS.iterdir():
        if unit.suffix in {".service", ".timer", ".target"}:
            python = text(unit.name).replace("/opt/occ-connect/.venv/bin/python", str(python_here))
            (folder / unit.name).write_text(python, encoding="utf-8")
    return folder


def verify(unit: Path) -> "subprocess.CompletedProcess[str]":
    line = [str(ANALYZE), "verify", "--man=no", f"./{unit.name}"]
    return subprocess.run(line, cwd=unit.parent, capture_output=True, text=True, check=False)


@NEEDS_SYSTEMD
@pytest.mark.parametrize("name", [*SERVICES, "occ-health.timer", "occ.target"])
def test_systemd_has_nothing_to_say(installed: Path, name: str) -> None:
    unit = installed / name.replace("@.", "@1.")
    if unit.name != name:
        shutil.copy(installed / name, unit)
    done = verify(unit)
    assert (done.returncode, done.stderr) == (0, "")


@NEEDS_SYSTEMD
def test_systemd_would_say_something_about_a_mistake(installed: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "occ-metrics.service"
    wrong.write_text((installed / wrong.name).read_text(encoding="utf-8").replace("KillMode=mixed", "KillMode=some"))
    assert "Failed to parse kill mode" in verify(wrong).stderr


@NEEDS_SYSTEMD
@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened(installed: Path, name: str) -> None:
    threshold = f"--threshold={MOST_EXPOSED * 10:.0f}"
    line = [str(ANALYZE), "security", "--offline=yes", "--no-pager", threshold, f"./{name}"]
    done = subprocess.run(line, cwd=installed, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this release of systemd-analyze cannot judge a unit that is not loaded (--offline)")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMPOSE_NAME)
def test_what_ends_is_started_again_and_given_longer_than_a_lease_to_end(name: str) -> None:
    unit = text(name)
    assert "\nRestart=always\n" in unit
    assert "\nKillMode=mixed\n" in unit
    assert "\nStartLimitIntervalSec=0\n" in unit
    (grace,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(grace) > Settings.model_fields["lease"].default
    assert "\nLimitCORE=0\n" in unit


@pytest.mark.parametrize("name", COMPOSE_NAME)
def test_they_hold_the_same_secrets_as_containers(name: str) -> None:
    secrets = set(re.findall(r"^LoadCredential=\w+:/etc/occ-connect/secrets/(\w+)$", text(name), re.MULTILINE))
    assert secrets == set(services()[COMPOSE_NAME[name]]["secrets"])
    named = re.findall(r"OCC_\w+(?==)", text(name))
    assert {word.removeprefix("OCC_").removesuffix("_FILE").lower() for word in named} <= set(Settings.model_fields)


@pytest.mark.parametrize("name", SERVICES)
def test_every_credential_that_is_read_is_loaded(name: str) -> None:
    loaded = set(re.findall(r"^LoadCredential=(\w+):", text(name), re.MULTILINE))
    read = set(re.findall(r"(?:%d|CREDENTIALS_DIRECTORY)/(\w+)", text(name)))
    assert read == loaded != set()


@pytest.mark.parametrize("name", ["occ-worker@.service", "occ-quarantine.service", "occ-beat@.service"])
def test_they_start_the_same_as_containers(name: str) -> None:
    command = " ".join(str(services()[COMPOSE_NAME[name]]["command"]).split())
    (line,) = re.findall(r"^ExecStart=\S+ -m (.+)$", text(name), re.MULTILINE)
    # Names are the host's here; what watches the process is the timer.
    assert re.sub(r" --hostname \S+", "", line) == command.replace(" --include tasks.worker.heartbeat", "")
