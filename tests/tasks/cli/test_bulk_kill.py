"""A bulk command that is killed and started again: every merchant is served, and none twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integrations.oracle_commerce.records import Records
from tests.tasks.cli.conftest import PROJECT, Occ
from tests.tasks.cli.many import asked, rest

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]

MERCHANTS = [f"m-{number:03}" for number in range(300)]


def begin(journal: Path) -> subprocess.Popen[bytes]:
    command = ["recheck", "--host", "*", "--rate", "150", "--resume", str(journal), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.cli", *command],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def await_lines(journal: Path, count: int, within: float = 30.0) -> None:
    until = time.monotonic() + within
    while not journal.exists() or journal.read_text().count("accepted") < count:
        assert time.monotonic() < until, "nothing was done"
        time.sleep(0.01)


def do_what_was_asked(records: Records) -> None:
    """Workers are quick: what was asked for is done, so that asking once more would be taken for another wish."""
    rest(records, *(merchant_id for merchant_id in MERCHANTS if asked(records, merchant_id)))


def test_killed_twice_and_resumed_each_is_asked_once(records: Records, occ_process: Occ, tmp_path: Path) -> None:
    rest(records, *MERCHANTS)
    journal = tmp_path / "journal"
    for done in (40, 150):
        with begin(journal) as process:
            await_lines(journal, done)
            process.kill()
            process.communicate(timeout=20)
        do_what_was_asked(records)
    between = sum(len(asked(records, merchant_id)) for merchant_id in MERCHANTS)
    assert 150 <= between < 300
    ended = occ_process("recheck", "--host", "*", "--rate", "150", "--resume", str(journal), "--json")
    assert ended.exit_code == 0
    assert {merchant_id: len(asked(records, merchant_id)) for merchant_id in MERCHANTS} == dict.fromkeys(MERCHANTS, 1)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_and_notes_what_it_has_begun(sig: int, records: Records, tmp_path: Path) -> None:
    rest(records, *MERCHANTS)
    journal = tmp_path / "journal"
    with begin(journal) as process:
        await_lines(journal, 20)
        process.send_signal(sig)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signal.Signals(sig)]
    assert stderr == b"Stopped before the end; the same command again skips what was done.\n"
    noted = {line.split()[0] for line in journal.read_text().splitlines() if line.endswith(" accepted")}
    assert noted == {merchant_id for merchant_id in MERCHANTS if asked(records, merchant_id)}
    assert len(noted) < 300
