"""Whether `occ health` says no, and why, while the pipeline stands still; and yes again once it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tasks.queues import REQUESTS
from tests.faults.clocks import ClockedRig
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN
from tests.faults.trial import Trial
from tests.pipeline import REPOSITORY

SAYS_SO_WITHIN = 15.0
NO_TICK = "No tick has succeeded"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What is done, how it is undone, and a piece of the sentence; none where the pipeline lives with it."""

    begin: Callable[[], object]
    end: Callable[[], object]
    sentence: str = ""


def health(trial: Trial) -> Report:
    """Workers that take nothing, a beat that stands still, a demoted server, messages nobody reads, a wrong clock.

    `occ health` says no with the right sentence within 15 s, and yes within 15 s after; a clock that was set back stops
    nothing, so it goes on saying yes. None is lost.
    """
    report = trial.report()
    with ClockedRig(trial) as rig:
        rig.start()
        rig.feed(rig.add_merchants(8), within=1)
        rig.until(lambda: len(rig.sent_at) == len(rig.expected) and not rig.unfinished(), 60)

        def stop(sort: str, number: signal.Signals) -> None:
            for name, process in rig.processes.items():
                if name.startswith(sort):
                    os.killpg(process.pid, number)

        def demote() -> None:
            rig.redis.replicaof("127.0.0.1", "1")

        def promote() -> None:
            rig.redis.replicaof("NO", "ONE")

        def astray() -> None:
            stop("beat", signal.SIGSTOP)
            rig.redis.lpush(f"{REQUESTS}\x06\x163", json.dumps({"headers": {"task": "occ.connect"}}))

        troubles = {
            "workers_take_nothing": _Trouble(
                lambda: stop("worker", signal.SIGSTOP), lambda: stop("worker", signal.SIGCONT), NO_TICK
            ),
            "beat_stands_still": _Trouble(
                lambda: stop("beat", signal.SIGSTOP), lambda: stop("beat", signal.SIGCONT), NO_TICK
            ),
            "server_demoted": _Trouble(demote, promote, "is a replica"),
            "messages_nobody_reads": _Trouble(
                astray, lambda: stop("beat", signal.SIGCONT), "lie where no worker reads"
            ),
            "clock_set_back": _Trouble(lambda: rig.server.set_clock(-3600), lambda: rig.server.set_clock(0)),
        }
        for name, trouble in troubles.items():
            trouble.begin()
            said = _seconds_until(rig, environment=rig.environment, sentence=trouble.sentence)
            rig.feed(rig.add_merchants(2, f"{name}-{{n}}"), within=0)
            trouble.end()
            again = _seconds_until(rig, environment=rig.environment, sentence="")
            report.own[name] = {"no_after": said, "yes_after": again} if trouble.sentence else {"yes_after": again}
            report.hold(f"{name} said", said, SAYS_SO_WITHIN)
            report.hold(f"{name} over", again, SAYS_SO_WITHIN)
            rig.until(lambda: not rig.unfinished(), 60)
        rig.struck()
        return rig.finish(report, heals_within=HEALS_WITHIN)


def _seconds_until(rig: ClockedRig, *, environment: dict[str, str], sentence: str) -> float | None:
    """Until health says no with this sentence; yes, if there is none."""
    began = time.monotonic()
    while time.monotonic() < began + 4 * SAYS_SO_WITHIN:
        command = [sys.executable, "-m", "occ.cli", "health", "--no-workers", "--json"]  # errors are JSON too
        told = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if bool(told.returncode) == bool(sentence) and sentence in told.stdout:
            return round(time.monotonic() - began, 1)
        rig.go_on(0.2)
    return None
