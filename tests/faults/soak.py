"""Anything, for a long time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from integrations.connections.status_index import STATUSES, status_key
from integrations.messages.progress import PROBE
from tasks.inbox import STREAM
from tasks.queues import QUARANTINE, QUEUES
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

KEYS_PER_MERCHANT = 4  # connection, timeline, who shares the store, and for a while the access token
MEMORY_GROWS_BY = 1.2
FILES_GROW_BY = 10
_COMES_AND_GOES = {
    *QUEUES, QUARANTINE, "unacked", "unacked_index", "unacked_mutex", "occ:tick", *map(status_key, STATUSES),
}  # fmt: skip


def soak(trial: Trial) -> Report:
    """A random fault every 5 s for 20 minutes (short form: every 2 s for 20 s), under steady load.

    Kills, cuts, freezes, deleted queues, a dead beat, a restarted server. One worker is never killed: after its first
    requests its memory grows by 20 % at most and its open files by 10, idle connections to stores aside. The server
    keeps the keys of the merchants and those it had before the first fault, and the inbox is empty.
    """
    seconds, gap = trial.size(20, 1200), trial.size(2, 5)
    warm_up = trial.size(60, 300)  # as many stores as a worker keeps idle connections to, and more
    report, done = trial.report(), dict[str, int]()
    with Rig(trial) as rig:
        rig.start(workers=3)
        spared = rig.workers[0]
        rig.feed(rig.add_merchants(warm_up, "warm-{n}"), within=warm_up / 20)
        rig.until(lambda: len(rig.sent_at) == warm_up and not rig.unfinished(), 60)
        rig.established.connect(trial.size(1, 20))
        process = rig.processes[spared]
        memory, files, keys = _resident(process.pid), _open_files(process.pid), _keys(rig)
        rig.feed(rig.add_merchants(seconds * 2), within=seconds)
        began = time.monotonic()
        for turn in range(1, seconds // gap + 1):
            rig.established.ask(turn - 1, seconds // gap)
            rig.go_on(began + turn * gap - time.monotonic())
            fault = trial.dice.choice(FAULTS)
            done[fault.__name__] = done.get(fault.__name__, 0) + 1
            fault(rig, [name for name in rig.workers if name != spared])
        rig.struck()
        rig.finish(report, repeated_puts=sum(done.values()) / 2, heals_within=HEALS_WITHIN)
        rig.until(lambda: not rig.redis.hlen("unacked"), 30)
        rig.until(lambda: not rig.redis.exists(PROBE), 90)  # left by whoever asked for the health; it lives a minute
        is_alive = rig.processes.get(spared) is process
        grown = _resident(process.pid) / memory if is_alive else None
        opened = _open_files(process.pid) - files if is_alive else None
        others = _keys(rig)
        each = len(_lasting(rig) - others) / len(rig.merchant_ids)
        new, inbox = sorted(others - keys), rig.redis.xlen(STREAM)
        report.own |= {"faults": done, "memory_grown_to": grown and round(grown, 2), "files_more": opened}
        report.own |= {"keys_each": round(each, 2), "other_new_keys": new[:8], "left_in_inbox": inbox}
        report.own["unacked"] = rig.redis.hlen("unacked")
        report.hold("memory_grown_to", grown, MEMORY_GROWS_BY)
        report.hold("files_more", opened, FILES_GROW_BY)
        report.hold("keys_each", each, KEYS_PER_MERCHANT)
        report.hold("other_new_keys", len(new), 0)
        report.hold("left_in_inbox", inbox, 0)
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


def _keys(rig: Rig) -> set[str]:
    """Keys that belong to no merchant or store, and do not come and go."""
    merchants = set(rig.merchant_ids)
    others = {key for key in _lasting(rig) if not key.startswith("occ:stores:")}
    return {key for key in others if key.rsplit(":", 1)[-1] not in merchants}


def _lasting(rig: Rig) -> set[str]:
    """Keys that do not come and go."""
    keys = {str(key) for key in rig.redis.scan_iter(count=1000)} - _COMES_AND_GOES
    return {key for key in keys if not key.startswith("occ:writer:")}  # the leases of seconds


def _open_files(pid: int) -> int:
    """How many, or 0 where /proc is not. Not those to stores, alive or dead: the session bounds how many it keeps.

    The server is reached by a Unix socket.
    """
    try:
        opened = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        local = {line.split()[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]}
    except OSError:
        return 0
    return sum(not name.startswith("socket:") or name[len("socket:[") : -1] in local for name in opened)


def _resident(pid: int) -> float:
    """Bytes, or 1 where /proc is not."""
    try:
        return float(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 1.0
