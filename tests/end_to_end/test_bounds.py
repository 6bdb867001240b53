"""Everything in Redis has a row in the table of bounds: whatever the pipeline does, and whatever key the code names."""

import json
import re
import time
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from occ.simulator.application_keys import make_application_key
from tests.pipeline import REPOSITORY, Pipeline, running
from tests.receiving import SECRET, ReceiverServer
from tests.waiting import wait_until

SIZING = REPOSITORY / "docs" / "sizing.md"
KEY = re.compile(r"(?<![\w.:/-])occ:[a-z][a-z:-]*")
NO_KEYS = {"occ:", "occ:connect"}
ALL_OF_A_KIND = {"occ*", "celery*"}
"""Rows for what producers write; a key of ours is not to be found in these alone."""


def rows() -> list[str]:
    """The keys of the table, as patterns."""
    table = SIZING.read_text(encoding="utf-8").partition("## What bounds each key")[2].partition("\n## ")[0]
    lines = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [key for line in lines for key in re.findall(r"`([^`]+)`", line)]


def without_a_row(keys: set[str]) -> set[str]:
    known = [pattern for pattern in rows() if pattern not in ALL_OF_A_KIND]
    beside = re.compile(r"(occ(\.\w+)?|celery)(\x06\x16|:)\d")
    return {key for key in keys if not any(fnmatchcase(key, one) for one in known) and not beside.fullmatch(key)}


def test_every_key_that_the_code_names_has_a_row() -> None:
    named: set[str] = set()
    for folder in ("integrations", "tasks"):
        for file in (REPOSITORY / folder).rglob("*"):
            if file.suffix in {".py", ".lua"}:
                named |= set(KEY.findall(file.read_text(encoding="utf-8")))
    keys = {f"{key}m-1" if key.endswith(":") else key.rstrip(":-") for key in named}
    assert len(keys) > 30
    assert without_a_row(keys - NO_KEYS - {"occ:m-1"}) == set()


@pytest.mark.end_to_end
@pytest.mark.server
def test_every_key_that_the_pipeline_writes_has_a_row(tmp_path: Path) -> None:
    settings = {"OCC_RECEIVER_SECRETS": SECRET, "OCC_RECEIVER_NETWORKS": "127.0.0.0/8"}
    settings |= {"OCC_OUTAGE_SHARE": "0.5", "OCC_OUTAGE_MERCHANTS": "2", "OCC_OUTAGE_WINDOW": "60"}
    seen: set[str] = set()
    with (
        ReceiverServer(clock=time.time) as receiver,
        running(Pipeline(tmp_path, settings=settings | {"OCC_RECEIVER_URL": receiver.url}), workers=1) as pipeline,
    ):

        def look() -> None:
            seen.update(str(key) for key in pipeline.redis.scan_iter(count=1000))

        def until_ended(*names: str, run: int = 1) -> None:
            for name in names:
                wait_until(
                    lambda name=name: (
                        (one := pipeline.connection(name)) is not None  # type: ignore[misc]
                        and one.run >= run
                        and one.status != "onboarding"
                    ),
                    what=name,
                    meanwhile=look,
                )

        stores = [pipeline.simulator.add(f"m-{number}") for number in range(4)]
        for store in stores[:2]:
            pipeline.post(
                pipeline.request(store, request_id="request-1") if store is stores[0] else pipeline.request(store)
            )
        for store in stores[2:]:
            pipeline.send(pipeline.request(store))
        until_ended(*(store.name for store in stores))
        elsewhere = pipeline.simulator.add("m-0-elsewhere")
        pipeline.post(pipeline.request(elsewhere, "m-0"))  # a move
        pipeline.redis.xadd("occ:inbox", {"heard": json.dumps({"merchant_id": "m-1", "slot": "order-submit"})})
        pipeline.redis.xadd("occ:inbox", {"disconnect": json.dumps({"merchant_id": "m-2"})})
        pipeline.redis.xadd("occ:inbox", {"request": "no request"})
        pipeline.redis.lpush("occ", "no message")
        pipeline.redis.lpush("celery", "another program's")
        pipeline.producer.send_task("occ.revalidate", kwargs={"merchant_id": "m-3"}, queue="occ", countdown=3600)
        failing = [pipeline.simulator.add(f"failing-{number}") for number in range(3)]
        for store in failing:
            store.fail("*", {"fault": "unavailable", "times": "always"})
            pipeline.post(pipeline.request(store))
        pipeline.post(pipeline.request(stores[3], application_key=make_application_key()))  # refused: in the clear
        until_ended("m-0", run=2)
        for key in ("occ:heard:m-1", "occ:scheduled", "occ:quarantine", "occ:refused", "occ:timeline:m-0@1"):
            wait_until(lambda key=key: pipeline.redis.exists(key) == 1, what=key, meanwhile=look)  # type: ignore[misc]
        look()
    assert without_a_row(seen) == set()
    assert len(seen) > 40
