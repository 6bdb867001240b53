"""Anything, for a long time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

KEYS_PER_MERCHANT = 3  # connection, timeline, and for a while the access token
MEMORY_GROWS_BY = 1.3
_WARM_UP = 60


def soak(trial: Trial) -> Report:
    """A random fault every 5 s for 20 minutes (short form: every 2 s for 20 s), under steady load.

    Kills, cuts, freezes, deleted queues, a dead beat, a restarted server. One worker is never killed: its memory grows
    by 30 % at most after its first requests, and the server keeps no more keys than the merchants have.
    """
    seconds, gap = trial.size(20, 1200), trial.size(2, 5)
    report, done = trial.report(), dict[str, int]()
    with Rig(trial) as rig:
        rig.start(workers=3)
        spared = rig.workers[0]
        rig.feed(rig.add_merchants(_WARM_UP, "warm-{n}"), within=3)
        rig.until(lambda: len(rig.sent_at) == _WARM_UP and not rig.unfinished(), 60)
        memory = _resident(rig.processes[spared].pid)
        rig.feed(rig.add_merchants(seconds * 2), within=seconds)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            rig.go_on(gap)
            fault = trial.dice.choice(FAULTS)
            done[fault.__name__] = done.get(fault.__name__, 0) + 1
            fault(rig, [name for name in rig.workers if name != spared])
        rig.struck()
        rig.finish(report, within=90, repeated_puts=sum(done.values()) / 2, heals_within=HEALS_WITHIN)
        rig.until(lambda: not rig.redis.hlen("unacked"), 30)
        grown = _resident(rig.processes[spared].pid) / memory if spared in rig.processes else None
        keys = int(rig.redis.dbsize()) / len(rig.expected)
        report.own |= {"faults": done, "memory_grown_to": grown and round(grown, 2), "keys_each": round(keys, 2)}
        report.own["unacked"] = rig.redis.hlen("unacked")
        report.hold("memory_grown_to", grown, MEMORY_GROWS_BY)
        report.hold("keys_each", keys, KEYS_PER_MERCHANT + 20 / len(rig.expected))
        report.hold("unacked", rig.redis.hlen("unacked"), 0)
        return report


def _kill_a_worker(rig: Rig, workers: Sequence[str]) -> None:
    if workers:
        rig.kill_worker(rig.trial.dice.choice(workers))


def _cut_connections(rig: Rig, workers: Sequence[str]) -> None:
    rig.cut_connections()


def _restart_server(rig: Rig, workers: Sequence[str]) -> None:
    rig.kill_server()
    rig.go_on(0.5)
    rig.start_server()


def _freeze_server(rig: Rig, workers: Sequence[str]) -> None:
    rig.freeze_server(1.5)


def _delete_queues(rig: Rig, workers: Sequence[str]) -> None:
    rig.struck()
    rig.redis.delete("occ", "occ.steps", "occ.tick", "unacked", "unacked_index")


def _kill_beat(rig: Rig, workers: Sequence[str]) -> None:
    beat = next(name for name in rig.processes if name.startswith("beat"))
    rig.struck()
    rig.kill(beat, 9)
    rig.start_beat()


FAULTS: tuple[Callable[[Rig, Sequence[str]], None], ...] = (
    *(_kill_a_worker, _kill_a_worker, _cut_connections),
    *(_restart_server, _freeze_server, _delete_queues, _kill_beat),
)


def _resident(pid: int) -> float:
    """Bytes, or 1 where /proc is not."""
    try:
        return float(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 1.0
