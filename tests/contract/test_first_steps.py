"""docs/first-steps.md, carried out as it stands: what a newcomer types is what runs here."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from occ.simulator.process import SimulatorProcess
from tests.occ.local.running_up import up
from tests.pipeline import REPOSITORY
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

PAGE = (REPOSITORY / "docs" / "first-steps.md").read_text(encoding="utf-8")
COMMANDS: list[str] = re.findall(r"^ {4}(\S.*)$", re.sub(r"\\\n *", "", PAGE), re.MULTILINE)
TAKEN: list[str] = []


def command(*words: str) -> str:
    """The one command of the page with all these words in it."""
    (found,) = (line for line in COMMANDS if all(word in line for word in words))
    TAKEN.append(found)
    return found


UP, SIMULATE = command("./run up"), command("occ simulate")
PRODUCER_SETTINGS = command("producer-settings")
CONNECT = command("occ connect")
REFUSE, MEND = command("curl", "forbidden_role"), command("curl", '"faults": null')
CELERY, REDIS = command("connect_with_celery.py"), command("connect_with_redis.py")
NPM, NODE = command("npm install"), command("node", "connect.mjs")
STATUS, TIMELINE, EVENTS = command("occ status"), command("occ timeline"), command("occ events")
REVALIDATE = command("occ revalidate m-2")
EXPLAIN = next(line for line in COMMANDS if "occ explain m-2" in line)


@dataclass(frozen=True)
class Terminal:
    """The third one, with what runs in the other two on ports of its own."""

    folder: Path
    simulator: SimulatorProcess
    environment: dict[str, str]

    def type(self, line: str, *, after: str = "", examples: Path = REPOSITORY / "examples") -> str:
        """Run it as it stands, but for the ports and for where Python and our files are; returns what it says."""
        control_port = str(self.simulator.started["control_url"]).rpartition(":")[2]
        for there, here in {
            ":8800": f":{self.simulator.started['port']}",
            ":8801": f":{control_port}",
            ".venv/bin/python": shlex.quote(sys.executable),
            "./run occ": f"{shlex.quote(sys.executable)} -m occ.cli",
            "examples/": f"{shlex.quote(str(examples))}/",
        }.items():
            line = line.replace(there, here)
        done = subprocess.run(
            ["sh", "-c", line + after],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def await_status(self, merchant_id: str, status: str) -> None:
        """That a person would wait a second for."""

        def has_come() -> bool:
            told = subprocess.run(
                [sys.executable, "-m", "occ.cli", "status", merchant_id, "--json"],
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            ).stdout
            return bool(json.loads(told).get("status") == status)

        wait_until(has_come, what=f"{merchant_id} to be {status}")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("first-steps")
    with SimulatorProcess(["--tenants", "4", "--keys", str(folder / ".data" / "keys")]) as simulator:
        if simulator.started["port"] is None:
            pytest.skip("here the simulated stores share one address, and have other URLs than on the page")
        with up(folder, "--no-flower", "--workers", "1", OCC_DEV_STORES=simulator.dev_stores) as running:
            running.await_words("occ-connect is running.")
            assert "`./run occ simulate` starts some" in running.said
            environment = {
                # That of a newcomer's shell: `./run`, which may have started this, sets Python up for its own children.
                **{name: value for name, value in os.environ.items() if not name.startswith(("OCC_", "PYTHON"))},
                "PYTHONPATH": str(REPOSITORY),
                "OCC_DATA_DIR": str(running.data),
            }
            terminal = Terminal(folder, simulator, environment)
            for line in terminal.type(PRODUCER_SETTINGS, after="; env").splitlines():
                name, _, value = line.partition("=")
                if name in {"REDIS_URL", "BROKER_URL", "SEALING_KEY_ID", "SEALING_PUBLIC_KEY"}:
                    environment[name] = value
            assert "SEALING_PUBLIC_KEY" in environment
            yield terminal


def test_nothing_of_the_page_is_left_out() -> None:
    assert {*TAKEN, EXPLAIN} == set(COMMANDS)
    assert UP == "OCC_DEV_STORES=127.0.0.0/8:8800 ./run up"
    assert SIMULATE == "./run occ simulate --tenants 4 --keys .data/keys"
    assert NPM == "npm install --prefix examples/node"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_a_slot_fails_and_recovers(terminal: Terminal) -> None:
    told = terminal.type(CONNECT)
    assert told.endswith("m-1 is active\n")
    terminal.type(REFUSE)
    assert terminal.type(CELERY) == ""
    assert terminal.type(REDIS) == ""
    terminal.await_status("m-2", "degraded")
    terminal.await_status("m-3", "active")
    assert re.search(r"^degraded +3/4 .* m-2 +order-update: permission_denied", terminal.type(STATUS), re.MULTILINE)
    told = terminal.type(EXPLAIN)
    assert "its registered application does not allow this call" in told
    assert "The merchant must act." in told
    assert "run `occ revalidate m-2` to check right away" in told
    terminal.type(MEND)
    assert terminal.type(REVALIDATE) == "m-2: re-validation requested\n"
    terminal.await_status("m-2", "active")
    assert terminal.type(EXPLAIN).startswith("m-2 is connected (active).")
    assert "slot_registered  order-update" in terminal.type(TIMELINE)
    assert re.search(r" m-2  recovered$", terminal.type(EVENTS), re.MULTILINE)


def test_node_is_a_producer_too(terminal: Terminal, node_project: Path) -> None:
    # What `npm install` would do is done in a copy: `node_project`.
    assert terminal.type(NODE.replace("examples/node", "examples"), examples=node_project) == ""
    terminal.await_status("m-4", "active")


@pytest.mark.parametrize(
    "change", re.findall(r"^\|[^|]+\| `(\{.*\})` \|$", PAGE, re.MULTILINE), ids=lambda change: str(change)[:40]
)
def test_other_ways_to_fail_are_known_to_the_simulator(terminal: Terminal, change: str) -> None:
    terminal.simulator.client.add("other")
    try:
        terminal.simulator.client.change("other", **json.loads(change))
    finally:
        terminal.simulator.client.remove("other")
