"""Beats that are doubled or gone, and clocks that are wrong."""

import signal

from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

RESUMES_WITHIN = 2.0
WRONG_BY = 300


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


def _ends(rig: Rig) -> float | None:
    rig.struck()
    sent = rig.until(lambda: all(name in rig.sent_at for name in rig.expected), 40)
    took = rig.until(lambda: not rig.unfinished(), HEALS_WITHIN + 12)
    return None if sent is None or took is None else sent + took
