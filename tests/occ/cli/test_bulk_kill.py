"""A bulk command that is killed and started again: every merchant is served, and none twice, at the rate at most.

With many: `TEST_CONNECTIONS=5000 ./run test tests/occ/cli/test_bulk_kill.py`. With workers and stores:
`./run bench recheck --connections 5000`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integrations.connections.records import Records
from tests.occ.cli.conftest import PROJECT
from tests.occ.cli.many import asked, rest
from tests.waiting import PATIENCE, wait_until

CONNECTIONS = int(os.environ.get("TEST_CONNECTIONS", "300"))

pytestmark = [
    pytest.mark.server,
    pytest.mark.usefixtures("installation"),
    pytest.mark.timeout(1500 + CONNECTIONS),
]

MERCHANTS = [f"m-{number:05}" for number in range(CONNECTIONS)]
RATE = 50  # slow enough that whoever is to stop it comes in time on a busy machine, too


def begin(journal: Path) -> subprocess.Popen[bytes]:
    command = ["revalidate", "--host", "*", "--rate", f"{RATE}", "--resume", str(journal), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "occ.cli", *command],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def lines(journal: Path, kind: str) -> int:
    return journal.read_text().count(f" {kind}") if journal.exists() else 0


def await_lines(journal: Path, count: int) -> None:
    wait_until(lambda: lines(journal, "accepted") >= count, within=PATIENCE + count / 10, what="something to be done")


@contextmanager
def at_the_rate(journal: Path) -> Iterator[None]:
    """Whatever the machine does meanwhile: no more is begun than the rate allows in that time."""
    before, began = lines(journal, "begun"), time.monotonic()
    yield
    assert lines(journal, "begun") - before <= 1 + RATE * (time.monotonic() - began)


def do_what_was_asked(records: Records) -> None:
    """Workers are quick: what was asked for is done, so that asking once more would be taken for another wish."""
    rest(records, *(merchant_id for merchant_id in MERCHANTS if asked(records, merchant_id)))


def test_killed_twice_and_resumed_each_is_asked_once_at_the_rate(records: Records, tmp_path: Path) -> None:
    rest(records, *MERCHANTS)
    journal = tmp_path / "journal"
    for done in (CONNECTIONS // 8, CONNECTIONS // 2):
        with at_the_rate(journal), begin(journal) as process:
            await_lines(journal, done)
            process.kill()
            process.communicate(timeout=180)
        do_what_was_asked(records)
    between = sum(len(asked(records, merchant_id)) for merchant_id in MERCHANTS)
    assert CONNECTIONS // 2 <= between < CONNECTIONS
    with at_the_rate(journal), begin(journal) as process:
        process.communicate(timeout=PATIENCE + CONNECTIONS)
    assert process.returncode == 0
    assert {merchant_id: len(asked(records, merchant_id)) for merchant_id in MERCHANTS} == dict.fromkeys(MERCHANTS, 1)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_and_notes_what_it_has_begun(sig: int, records: Records, tmp_path: Path) -> None:
    rest(records, *MERCHANTS)
    journal = tmp_path / "journal"
    with begin(journal) as process:
        await_lines(journal, 20)
        process.send_signal(sig)
        _, stderr = process.communicate(timeout=180)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signal.Signals(sig)]
    assert stderr == b"Stopped early; run the same command again to continue.\n"
    noted = {line.split()[0] for line in journal.read_text().splitlines() if line.endswith(" accepted")}
    assert noted == {merchant_id for merchant_id in MERCHANTS if asked(records, merchant_id)}
    assert len(noted) < CONNECTIONS
