"""Beats that are doubled or gone, and clocks that are wrong."""

import signal

from occ.local.commands import beat_command
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial
from tests.moved_clock import ClockedServer, MovedClock

RESUMES_WITHIN = 2.0
WRONG_BY = 300
# Kombu gives up a connection on which its blocking read did not come back, as after the server's clock was set back,
# after 12 s; a message that came on it is sent again when its lease has ended.
SET_WITHIN = 2 * HEALS_WITHIN
ALWAYS_UNAVAILABLE = {"*": [{"fault": "unavailable", "times": "always"}]}


def two_beats(trial: Trial) -> Report:
    """Two beats; one is killed; then both are gone for 60 s (short form: 5 s), then one is back.

    Nothing is lost, repeated or recorded twice; the inbox is read within 2 s of the return.
    """
    seconds = trial.size(5, 60)
    report = trial.report()
    with Rig(trial) as rig:
        rig.start(beats=2)
        first, second = (name for name in rig.processes if name.startswith("beat"))
        rig.feed(rig.add_merchants(20, "two-{n}"), within=2)
        rig.go_on(3)
        rig.struck()
        rig.kill(first, signal.SIGKILL)
        rig.feed(rig.add_merchants(20, "one-{n}"), within=2)
        rig.go_on(3)
        rig.kill(second, signal.SIGKILL)
        rig.feed(rig.add_merchants(20, "none-{n}"), within=seconds / 2)
        rig.go_on(seconds)
        waiting = rig.unfinished()
        report.require(bool(waiting), "the inbox was read without a beat")
        beat = rig.start_beat()
        rig.until(lambda: b"beat" in rig.output(beat), 20)
        rig.struck()
        resumed = rig.until(lambda: rig.connection(waiting[-1]) is not None, 20)
        report.own |= {"seconds_without": seconds, "resumed_within": resumed and round(resumed, 1)}
        report.hold("resumed_within", resumed, RESUMES_WITHIN)
        return rig.finish(report, heals_within=HEALS_WITHIN)


def clock_skew(trial: Trial) -> Report:
    """Workers whose clock is five minutes ahead, or behind: first one of two, then the only one; one is killed.

    Nothing is lost, repeated or late: leases and due times go by the server's clock.
    """
    merchants = trial.size(12, 200)
    report = trial.report()
    with Rig(trial) as rig:
        rig.start(workers=1)
        right = rig.workers[0]
        wrong = rig.start_worker(environment={"FAULTS_CLOCK": str(WRONG_BY)})
        rig.await_workers()
        feed_for = max(2, merchants / 10)
        rig.feed(rig.add_merchants(merchants, "beside-{n}"), within=feed_for)
        rig.go_on(1.5)
        rig.kill_worker(right, again=False)
        together = _ends(rig)
        rig.feed(rig.add_merchants(merchants, "ahead-{n}"), within=feed_for)
        ahead = _ends(rig)
        rig.kill_worker(rig.workers[0] if wrong not in rig.processes else wrong, again=False)
        rig.start_worker(environment={"FAULTS_CLOCK": str(-WRONG_BY)})
        rig.await_workers()
        rig.feed(rig.add_merchants(merchants, "behind-{n}"), within=feed_for)
        behind = _ends(rig)
        took = {"beside": together, "ahead_alone": ahead, "behind_alone": behind}
        report.own |= {f"{name}_took": seconds and round(seconds, 1) for name, seconds in took.items()}
        for name, seconds in took.items():
            report.hold(name, seconds, feed_for + HEALS_WITHIN + 10)
        return rig.finish(report, within=5, repeated_puts=1, heals_within=120)


def clocks(trial: Trial) -> Report:
    """The server's clock is set an hour back, then right again, an hour forward, and right again; then beat's.

    Each time merchants are being connected, some wait for their next attempt, and a worker is killed.

    Nothing is lost, repeated, done all at once or left standing: who was waiting goes on as if nothing had happened.
    """
    merchants = trial.size(8, 60)
    report = trial.report()
    with ClockedRig(trial) as rig:
        rig.start(beats=0)
        clock = MovedClock(rig.folder / "beat-clock")
        beat = rig.start_moved_beat(clock)
        resting = rig.add_merchants(merchants, "resting-{n}")
        rig.feed(resting, within=1)
        _ends(rig)
        looked_at = [store.calls.endpoints.total() for store in resting]
        for number, off_by in enumerate((-3600, 0, 3600, 0, -3600)):
            failing = rig.add_merchants(merchants, f"failing-{number}-{{n}}", faults=ALWAYS_UNAVAILABLE)
            rig.feed([*rig.add_merchants(merchants, f"step-{number}-{{n}}"), *failing], within=2)
            rig.go_on(1.5)
            rig.server.set_clock(off_by)
            rig.struck()
            rig.kill_worker()
            rig.go_on(1)
            for store in failing:
                store.heal()
            took = _ends(rig)
            report.own[f"server_{number}_took"] = took and round(took, 1)
            report.hold(f"server_{number}", took, SET_WITHIN)
        for off_by in (-3600, 3600):
            clock.set(off_by)
            rig.feed(rig.add_merchants(merchants, f"beat-{off_by}-{{n}}"), within=1)
            took = _ends(rig)
            report.own[f"beat_{off_by}_took"] = took and round(took, 1)
            report.hold(f"beat_{off_by}", took, SET_WITHIN)
        rig.kill(beat, signal.SIGKILL)
        rig.start_moved_beat(clock)
        rig.feed(rig.add_merchants(merchants, "beat-again-{n}"), within=1)
        report.hold("beat_again", _ends(rig), SET_WITHIN)
        looks = [store.calls.endpoints.total() for store in resting]
        report.require(looks == looked_at, "merchants at rest were looked at before their time")
        return rig.finish(report, within=5, repeated_puts=3, heals_within=120)


class ClockedRig(Rig):
    """Its server's clock can be set, and that of a beat."""

    server: ClockedServer

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial, settings={"OCC_RETRY_FIRST": "0.5", "OCC_RETRY_MAX": "2", "OCC_RETRY_ATTEMPTS": "1000"})
        self.server = ClockedServer(self.folder / "server")

    def start_moved_beat(self, clock: MovedClock) -> str:
        self._started += 1
        return self._start(f"beat-{self._started}", beat_command(), clock.environment)


def _ends(rig: Rig) -> float | None:
    rig.struck()
    sent = rig.until(lambda: all(name in rig.sent_at for name in rig.expected), 40)
    took = rig.until(lambda: not rig.unfinished(), HEALS_WITHIN + 12)
    return None if sent is None or took is None else sent + took
