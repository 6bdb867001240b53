"""The server goes away, forgets, or loses its connections."""

import json
import re
import time
from pathlib import Path

from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

RESUMES_WITHIN = 10.0
LATENCY = 0.1  # so that a fault finds work in hand


def server_kills(trial: Trial) -> Report:
    """SIGKILL and restart of the server under load, its append-only file on.

    None lost, calls to stores go on within 10 s of the restart, no worker ends.
    """
    kills = trial.size(4, 20)
    report, seconds = trial.report(), []
    with Rig(trial, latency=LATENCY) as rig:
        rig.start()
        rig.established.connect(trial.size(1, 8))
        for turn in range(kills):
            if turn == kills - 1:
                rig.catch_up()
            rig.established.ask(turn, kills)
            rig.feed(rig.add_merchants(15, f"m-{turn}-{{n}}"), within=4, door=rig.by_turns)
            rig.go_on(trial.dice.uniform(1, 2))
            rig.kill_server()
            rig.go_on(trial.dice.uniform(0.2, 1.5))
            rig.start_server()
            seconds.append(resumed(rig))
        report.own |= {"kills": kills, "resumed_within": longest(seconds)}
        report.hold("resumed_within", longest(seconds), RESUMES_WITHIN)
        return rig.finish(report, repeated_puts=kills / 2, heals_within=HEALS_WITHIN + RESUMES_WITHIN)


def power_loss(trial: Trial) -> Report:
    """SIGKILL of the server, and its append-only file cut back to the last write that was confirmed to be on disk.

    That is: to the end of the last request or wish a worker has spoken of as accepted. None accepted by then may be
    gone. What was not confirmed is the producer's still, who sends it again. Claims are forgotten too: a PUT may be
    repeated where the first worker is still at it, so a few of those are all right.
    """
    losses = trial.size(2, 10)
    report, gone, cut = trial.report(), 0, 0
    with Rig(trial, latency=LATENCY) as rig:
        rig.recorded_once, rig.may_repeat, rig.loses_writes = False, True, True
        rig.start()
        rig.established.connect(trial.size(1, 8))
        stores = []
        for turn in range(losses):
            rig.established.ask(turn, losses)
            stores += (more := rig.add_merchants(20, f"m-{turn}-{{n}}"))
            rig.feed(more, within=4)
            rig.go_on(trial.dice.uniform(2, 3))
            rig.kill_server()
            confirmed = _spoken_of(rig)
            cut += _cut_back(rig.server.folder, confirmed)
            rig.start_server()
            gone += len(confirmed - _known(rig, {merchant_id for merchant_id, _ in confirmed}))
            sent = [store for store in stores if store.name in rig.sent_at]
            known = rig.records.load_many([store.name for store in sent])
            again = [store for store, one in zip(sent, known, strict=True) if one.connection is None]
            if again:
                rig.feed(again, within=0.5)
            rig.established.ask_again()
            resumed(rig)
        report.own |= {"losses": losses, "accepted_and_gone": gone, "bytes_forgotten": cut}
        report.hold("accepted_and_gone", gone, 0)
        return rig.finish(report, repeated_puts=4 * losses, heals_within=HEALS_WITHIN + RESUMES_WITHIN)


def client_kills(trial: Trial) -> Report:
    """All connections to the server cut, again and again; then the server frozen for a while, with them open.

    None lost, at most half a repeated PUT per cut, calls go on within 25 s of a thaw, no worker ends.
    """
    kills, freezes, frozen = trial.size(6, 50), trial.size(1, 3), trial.size(4, 30)
    report, seconds = trial.report(), []
    with Rig(trial, latency=LATENCY) as rig:
        rig.start()
        rig.established.connect(trial.size(1, 8))
        for turn in range(kills):
            rig.established.ask(turn, kills + freezes)
            rig.feed(rig.add_merchants(10, f"cut-{turn}-{{n}}"), within=1, door=rig.by_turns)
            rig.go_on(trial.dice.uniform(0.5, 1.5))
            rig.cut_connections()
        for turn in range(freezes):
            rig.established.ask(kills + turn, kills + freezes)
            rig.feed(rig.add_merchants(20, f"frozen-{turn}-{{n}}"), within=2, door=rig.by_turns)
            rig.go_on(1)
            rig.freeze_server(frozen)
            seconds.append(resumed(rig, 40))
        report.own |= {"cuts": kills, "freezes": freezes, "resumed_within": longest(seconds)}
        report.hold("resumed_within", longest(seconds), 25)
        return rig.finish(report, repeated_puts=(kills + freezes) / 2, heals_within=HEALS_WITHIN + 25)


def resumed(rig: Rig, within: float = 20) -> float | None:
    """Seconds until the stores are called again; nothing to do counts as at once."""
    calls = rig.calls()
    return rig.until(lambda: rig.calls() > calls or not rig.unfinished(), within)


def longest(resumed: list[float | None]) -> float | None:
    known = [one for one in resumed if one is not None]
    return round(max(known), 1) if len(known) == len(resumed) else None


Acceptance = tuple[str, str]
"""Merchant id, and what was accepted."""

_ASKED = {"look_asked": "revalidate", "repair_asked": "revalidate", "disconnect_asked": "disconnect"}


def _spoken_of(rig: Rig) -> set[Acceptance]:
    """What a worker's log calls accepted: it writes that after the server has confirmed the disk."""
    found = set()
    for log in rig.folder.glob("worker-*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if '"run_started"' in line:
                said = json.loads(line)
                found.add((str(said["merchant_id"]), f"connect {said['run']}"))
            elif '"request_accepted"' in line and '"accepted"' in line:
                said = json.loads(line)
                found.add((str(said["merchant_id"]), str(said["request"])))
    return found


def _known(rig: Rig, merchant_ids: set[str]) -> set[Acceptance]:
    """What the server knows to have been accepted."""
    return {
        (merchant_id, _accepted(str(entry["what"]), str(entry["run"])))
        for merchant_id in merchant_ids
        for entry in rig.records.timeline(merchant_id)
    }


def _accepted(what: str, run: str) -> str:
    return _ASKED.get(what, f"connect {run}" if what in {"run_started", "reauthorisation_started"} else "")


def _cut_back(folder: Path, confirmed: set[Acceptance]) -> int:
    """Forget everything after the last transaction that accepted what is confirmed; tells how many bytes."""
    if not confirmed:
        return 0
    file = max((folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    content = file.read_bytes()
    end = 0
    for found in re.finditer(rb"XADD\r\n\$\d+\r\nocc:timeline:([^\r]+)\r\n[^{]{0,200}(\{[^\r]*\})\r\n", content):
        entry = json.loads(found[2])
        if (found[1].decode(), _accepted(str(entry["what"]), str(entry["run"]))) in confirmed:
            done = re.compile(rb"\*1\r\n\$4\r\n(?:EXEC|exec)\r\n").search(content, found.end())
            end = done.end() if done else found.end()
    assert end, "nothing of what was confirmed is in the file"
    with file.open("r+b") as opened:
        opened.truncate(end)
    time.sleep(0.01)
    return len(content) - end
