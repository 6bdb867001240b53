"""The command line beside real workers and a simulated store: what is asked for is done."""

import subprocess
import sys
from pathlib import Path

import pytest

from occ.simulator import SimulatedStore
from tests.occ.cli.conftest import PROJECT, Ended
from tests.pipeline import Pipeline, running
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

THEIRS = "https://oms.example.net/in"
OURS = "https://hooks.example.com/occ/m-1/order-submit"


def occ(pipeline: Pipeline, *arguments: str) -> Ended:
    command = [sys.executable, "-m", "occ.cli", *arguments]
    ended = subprocess.run(
        command, check=False, cwd=PROJECT, env=pipeline.environment, capture_output=True, text=True, timeout=60
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def calls_of(store: SimulatedStore) -> int:
    return len(store.calls.entries)


def await_rest(pipeline: Pipeline, store: SimulatedStore, calls: int) -> None:
    """Until so many calls came, and the record has what came of them."""
    wait_until(lambda: calls_of(store) >= calls, what=f"{calls} calls")
    pipeline.await_end("m-1")


def test_a_slot_is_mended_explained_and_left(tmp_path: Path) -> None:
    with running(Pipeline(tmp_path), workers=1) as pipeline:
        store = pipeline.simulator.add("m-1")
        pipeline.post(pipeline.request(store))
        pipeline.await_end("m-1")
        calls = calls_of(store)

        assert occ(pipeline, "revalidate", "m-1").stdout == "m-1: re-validation requested\n"
        await_rest(pipeline, store, calls + 6)
        assert calls_of(store) == calls + 6

        store.give_up_delivery("order-submit", [OURS])
        store.rival_writes("order-submit", THEIRS, how="replace")
        assert occ(pipeline, "revalidate", "--host", "127.*", "--json").object["outcome"] == "accepted"
        wait_until(lambda: OURS in store.urls("order-submit"), what="the slot to be mended")
        wait_until(lambda: bool(pipeline.status("m-1")["slots"]["order-submit"].get("drift")), what="record")
        told = occ(pipeline, "explain", "m-1").stdout
        assert "order-submit: our callback URL was missing; repaired " in told
        assert "the store gave up on 1 delivery." in told
        assert occ(pipeline, "replay", "m-1").stdout == "m-1: order-submit: 1 requested\n"
        assert "1 missed event was requested from the store" in occ(pipeline, "explain", "m-1").stdout

        assert occ(pipeline, "disconnect", "m-1", "--yes").stdout == "m-1: disconnection requested\n"
        wait_until(lambda: pipeline.status("m-1")["status"] == "disconnected", what="the end")
        assert store.urls("order-submit") == [THEIRS]
        assert "The application key has been forgotten." in occ(pipeline, "explain", "m-1").stdout
