"""A worker that runs and takes nothing ends, so that its supervisor starts it anew; nothing is lost."""

from pathlib import Path

import pytest

from tasks.worker.watchdog import EXIT_STATUS
from tests.pipeline import Pipeline
from tests.waiting import wait_until

pytestmark = pytest.mark.end_to_end


def test_a_worker_that_hangs_ends_and_its_successor_does_the_work(tmp_path: Path) -> None:
    pace = {"OCC_LEASE": "5.5", "OCC_CALL_DEADLINE": "0.5", "OCC_CONNECT_TIMEOUT": "0.5"}
    with Pipeline(tmp_path, settings=pace) as pipeline:
        store = pipeline.simulator.add("m-1")
        name = pipeline.start_worker("--include", "tests.tasks.worker.hanging_consumer")
        pipeline.await_workers()
        for _ in range(5):
            pipeline.send(pipeline.request(store))
        hanging = pipeline.processes.pop(name)
        wait_until(lambda: hanging.poll() is not None, what="the worker to end")
        assert hanging.returncode == EXIT_STATUS
        assert b"it takes nothing" in pipeline.output(name)
        pipeline.start_worker()
        pipeline.start_beat()
        pipeline.await_end("m-1")
        assert pipeline.status("m-1")["status"] == "active"
