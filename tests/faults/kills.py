"""Workers that are killed, or told to go."""

import math
import signal

from occ.simulator.application_keys import make_application_key
from tests.faults.established import SLOTS
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

LATENCY = 0.1  # so that a kill finds work in hand


def worker_kills(trial: Trial) -> Report:
    """SIGKILL of whole workers, of which there are two, and for prefork also of single children, under load.

    None lost, none wrong, at most half a repeated PUT per kill.
    """
    merchants, kills = trial.size(150, 1000), trial.size(15, 100)
    report = trial.report()
    with Rig(trial, latency=LATENCY) as rig:
        rig.start()
        rig.established.connect(trial.size(1, 12))
        for turn in range(kills):
            if turn == kills - 1:
                rig.catch_up()
            rig.established.ask(turn, kills)
            rig.feed(rig.add_merchants(merchants // kills, f"m-{turn}-{{n}}"), within=1, door=rig.by_turns)
            rig.go_on(trial.dice.uniform(0.5, 1.5) * 2)  # else the backlog decides when all are done
            rig.kill_worker()
        report.own["kills"] = kills
        return rig.finish(report, repeated_puts=kills / 2, heals_within=HEALS_WITHIN)


def rolling_sigterm(trial: Trial) -> Report:
    """SIGTERM to one of two workers after the other, under load, as a deployment does.

    None lost, no PUT repeated, 95 % of the exits within 5 s; one that does not go within 20 s is killed.
    """
    rounds = trial.size(4, 30)
    report, seconds = trial.report(), []
    with Rig(trial, latency=LATENCY) as rig:
        rig.start()
        rig.established.connect(trial.size(1, 8))
        for turn in range(rounds):
            rig.established.ask(turn, rounds)
            rig.feed(rig.add_merchants(10, f"m-{turn}-{{n}}"), within=2, door=rig.by_turns)
            rig.go_on(trial.dice.uniform(0.3, 1.0))
            name = rig.workers[0]
            process = rig.processes.pop(name)
            rig.struck()
            process.send_signal(signal.SIGTERM)
            took = rig.until(lambda process=process: process.poll() is not None, 20)  # type: ignore[misc]
            if took is None:
                process.kill()
                process.wait()
            seconds.append(20.0 if took is None else took)
            report.require(process.returncode in (0, None) or took is None, f"exit {turn}: {process.returncode}")
            successor = rig.start_again(name)
            rig.until(lambda successor=successor: rig.is_ready(successor), 30)  # type: ignore[misc]
        ordered = sorted(seconds)
        p95 = ordered[math.ceil(0.95 * rounds) - 1]
        report.own |= {"terms": rounds, "exit_p95": round(p95, 1), "exit_longest": round(ordered[-1], 1)}
        report.hold("exit_p95", p95, 5)
        return rig.finish(report, heals_within=HEALS_WITHIN)


def event_order(trial: Trial) -> Report:
    """SIGKILLs of workers while connections go through several statuses.

    Each merchant begins without shipping methods (degraded), gets one (active), then sends a new key (a second run).
    Every change of status is in the events once, in order, each following on the one before.
    """
    merchants, kills = trial.size(24, 200), trial.size(8, 60)
    report = trial.report()
    settings = {"OCC_RECHECK_DEGRADED": "2", "OCC_CONFIRM_REJECTION": "2"}
    with Rig(trial, settings=settings, latency=LATENCY) as rig:
        rig.recorded_once = False  # passes of a re-validation repeat what was recorded
        rig.start()
        stores = [rig.simulator.add(f"m-{n}", shipping_methods=0, offers=SLOTS) for n in range(1, merchants + 1)]
        rig.expected = dict.fromkeys((store.name for store in stores), "active")
        rig.feed(stores, within=kills / 4)
        _kill_until(rig, kills // 3, run=1, status="degraded")
        for store in stores:
            store.change(shipping_methods=1)
        _kill_until(rig, kills // 3, run=1, status="active")
        for store in stores:
            store.change(application_key=make_application_key(subject=f"{store.name} again"))
        rig.feed(stores, within=kills / 6)
        _kill_until(rig, kills - 2 * (kills // 3), run=2, status="active")
        rig.finish(report, repeated_puts=kills / 2, heals_within=HEALS_WITHIN)
        events = rig.redis.xlen("occ:events")
        report.own |= {"kills": kills, "events": events}
        report.require(events >= 5 * merchants, f"only {events} events")
        return report


def _kill_until(rig: Rig, kills: int, *, run: int, status: str) -> None:
    """That many, and then until all connections are there."""
    for _ in range(kills):
        rig.go_on(rig.trial.dice.uniform(0.3, 1.1))
        rig.kill_worker()
    rig.until(
        lambda: all((one := rig.connection(name)) and (one.run, one.status) == (run, status) for name in rig.expected),
        60,
    )
