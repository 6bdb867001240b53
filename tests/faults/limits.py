"""What a worker's own machine gives it is not enough."""

from integrations.connections.causes import OutageKind, explain
from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial

THREADS = 64
FILES = 110  # far fewer than so many threads with a store and our server each
DEADLINE = 5.0  # seconds; so many threads on a busy machine may need one to see an answer that came in time


def files(trial: Trial) -> Report:
    """Workers whose threads need more files than they may open.

    None lost, no worker ends, and no store is blamed: what a call lacked was ours.
    """
    report = trial.report()
    settings = {"OCC_CONCURRENCY": str(THREADS), "OCC_CALL_DEADLINE": f"{DEADLINE:g}", "OCC_LEASE": f"{2 * DEADLINE:g}"}
    with Rig(trial, settings=settings, latency=0.3) as rig:
        rig.start(FAULTS_FILES=str(FILES))
        rig.feed(rig.add_merchants(trial.size(60, 400)), within=trial.size(2, 30))
        rig.struck()
        rig.until(lambda: not rig.unfinished(), trial.size(60, 300))
        rig.finish(report, repeated_puts=4, heals_within=trial.size(int(10 * HEALS_WITHIN), 300))
        lines = (entry for name in rig.merchant_ids for entry in rig.records.timeline(name))
        causes = [entry["cause"] for entry in lines if "cause" in entry]
        report.own |= {"short_of_files": causes.count("out_of_resources")}
        blamed = [cause for cause in causes if isinstance(explain(cause).evidence, OutageKind)]
        report.hold("stores_blamed", len(blamed), 0)
        return report
