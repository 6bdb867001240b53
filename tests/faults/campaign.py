"""Runs scenarios in processes of their own, a few at once: most of their time is waiting."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

from occ.local.tether import tethered
from tests.faults.scenarios import SCENARIOS
from tests.pipeline import REPOSITORY

SHORT_LIMIT, LONG_LIMIT = 180.0, 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One scenario on one pool."""

    name: str
    pool: str
    seed: int
    long: bool


@dataclass(slots=True)
class _Running:
    job: Job
    process: "subprocess.Popen[bytes]"
    folder: Path
    until: float
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Campaign:
    """`folder` gets one folder for each scenario."""

    folder: Path
    at_once: int = 2
    _running: list[_Running] = field(default_factory=list)

    def run(self, jobs: Sequence[Job], told: Callable[[str], object]) -> list[dict[str, object]]:
        """Run all; `told` gets each JSON line. Those that measure times come last, one by one."""
        rows: list[dict[str, object]] = []
        waiting = sorted(jobs, key=lambda job: SCENARIOS[job.name].alone)
        try:
            while waiting or self._running:
                while waiting and self._may_start(waiting[0]):
                    self._running.append(self._started(waiting.pop(0)))
                for ended in [one for one in self._running if _has_ended(one)]:
                    self._running.remove(ended)
                    rows.append(_row(ended))
                    told(json.dumps(rows[-1]))
                time.sleep(0.05)
        finally:
            for one in self._running:
                one.process.kill()
                one.process.wait()
        return rows

    def _may_start(self, job: Job) -> bool:
        if any(SCENARIOS[one.job.name].alone for one in self._running):
            return False
        return not self._running if SCENARIOS[job.name].alone else len(self._running) < self.at_once

    def _started(self, job: Job) -> _Running:
        folder = self.folder / f"{job.name}-{job.pool}-{job.seed}"
        folder.mkdir()
        command = [sys.executable, "-m", "tests.faults", job.name, "--one", "--keep", str(folder)]
        command += ["--pool", job.pool, "--seed", str(job.seed), *(["--long"] if job.long else [])]
        line, _ = tethered(command, SIGKILL)
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(line, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        return _Running(job, process, folder, time.monotonic() + (LONG_LIMIT if job.long else SHORT_LIMIT))


def _has_ended(one: _Running) -> bool:
    if one.process.poll() is None and time.monotonic() > one.until:
        one.process.kill()
        one.process.wait()
    return one.process.poll() is not None


def _row(one: _Running) -> dict[str, object]:
    said = (one.folder / "out").read_text().splitlines()
    if one.process.returncode == 0 and said:
        row: dict[str, object] = json.loads(said[-1])
        return row | {"took": round(time.monotonic() - one.began)}
    complaint = (one.folder / "err").read_text().strip().splitlines()[-1:] or [f"ended with {one.process.returncode}"]
    return {"scenario": one.job.name, "pool": one.job.pool, "seed": one.job.seed, "broken": complaint}
