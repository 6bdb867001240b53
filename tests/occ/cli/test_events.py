"""`occ events`: which events are printed, and where a reader goes on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from integrations.connections.record import Cause
from occ.cli.events import EVENT_TYPES
from tests.contract import shapes
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import PROJECT, Ended, Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]


def told(ended: Ended) -> list[tuple[str, str]]:
    """Merchant and type of each."""
    assert ended.exit_code == 0, ended.stderr
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    return [(event["subject"], event["type"].removeprefix("occ.connection.")) for event in events]


@pytest.fixture
def _three(worker: Worker) -> None:
    worker.connect("m-1")
    worker.connect("m-2", failing={"order-update": Cause("slot_refused")})
    worker.begin("m-3")


ALL = [("m-1", "onboarding"), ("m-1", "active"), ("m-2", "onboarding"), ("m-2", "degraded"), ("m-3", "onboarding")]


@pytest.mark.usefixtures("_three")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ALL),
        (["--last", "2"], ALL[-2:]),
        (["--type", "degraded"], ALL[3:4]),
        (["--type", "occ.connection.onboarding", "--last", "2"], [ALL[2], ALL[4]]),
        (["--type", "active", "--type", "degraded"], [ALL[1], ALL[3]]),
        (["--merchant", "m-1"], ALL[:2]),
        (["--merchant", "m-1", "--last", "1"], ALL[1:2]),
        (["--merchant", "m-1", "--merchant", "m-3", "--after", "0"], [*ALL[:2], ALL[4]]),
        (["--type", "recovered"], []),
    ],
)
def test_the_latest_that_match_are_printed_oldest_first(
    options: list[str], expected: list[tuple[str, str]], occ: Occ
) -> None:
    assert told(occ("events", "--json", *options)) == expected


@pytest.mark.usefixtures("_three")
def test_a_reader_goes_on_where_it_was(occ: Occ) -> None:
    positions = [json.loads(line)["streamid"] for line in occ("events", "--json").stdout.splitlines()]
    assert len(set(positions)) == len(ALL)
    for number, position in enumerate(positions, 1):
        assert told(occ("events", "--json", "--after", position, "--last", "1")) == ALL[number:]


@pytest.mark.usefixtures("_three")
def test_people_read_who_what_and_why(occ: Occ) -> None:
    lines = occ("events", "--merchant", "m-2").stdout.splitlines()
    assert [line.split("  ")[2:] for line in lines] == [
        ["m-2", "onboarding"],
        ["m-2", "degraded", "order-update: slot_refused"],
    ]


def test_no_event_is_no_output(occ: Occ) -> None:
    assert occ("events") == Ended(0, "", "")
    assert occ("events", "--after", "0") == Ended(0, "", "")


@pytest.mark.parametrize(
    "options", [["--after", "yesterday"], ["--after", "-1"], ["--type", "degradd"], ["--last", "0"]]
)
def test_what_cannot_be_meant_is_wrong_usage(options: list[str], occ: Occ) -> None:
    assert occ("events", *options).exit_code == 2


def test_a_misspelt_type_is_refused_with_those_that_look_alike(occ: Occ) -> None:
    assert "did you mean degraded?" in occ("events", "--type", "occ.connection.degradd").stderr


def test_the_types_are_those_of_the_contract_and_of_the_docs() -> None:
    assert {*EVENT_TYPES} == {*shapes.EVENT_TYPES}
    page = (PROJECT / "docs" / "events.md").read_text(encoding="utf-8")
    assert set(re.findall(r"occ\.(?:connection|slot|operator)\.[a-z_]+", page)) <= {*EVENT_TYPES}
    assert [name for name in EVENT_TYPES if f"`{name.rpartition('.')[2]}`" not in page and name not in page] == []


@pytest.fixture
def following() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "occ.cli", "events", "--follow", "--type", "active", "--json"]
    process = subprocess.Popen(
        command, cwd=PROJECT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_followed_are_those_there_are_and_those_to_come(worker: Worker, following: "subprocess.Popen[str]") -> None:
    assert following.stdout is not None
    worker.connect("m-1")
    assert json.loads(following.stdout.readline())["subject"] == "m-1"
    worker.connect("m-2")
    assert json.loads(following.stdout.readline())["subject"] == "m-2"
    following.terminate()
    assert following.wait(10) != 0
