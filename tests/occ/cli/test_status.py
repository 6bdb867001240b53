"""`occ status`, `occ timeline` and `occ explain` on connections in all states."""

import json
import re

import pytest

from integrations.connections.record import Cause
from integrations.connections.records import Records
from integrations.connections.status import status_object
from integrations.silence.heard import HeardSlots, Report
from tests.integrations.oracle_commerce.fakes import VALIDATE, slot
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]


def test_one_connection_is_one_object(occ: Occ, worker: Worker, records: Records) -> None:
    worker.connect()
    connection = records.load("m-1").connection
    assert connection is not None
    ended = occ("status", "m-1", "--json")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.object == json.loads(json.dumps(status_object(connection)))


def test_an_explanation_is_that_object_with_the_sentences_in_it(occ: Occ, worker: Worker) -> None:
    worker.connect(failing={"order-update": Cause("slot_refused")})
    told = occ("explain", "m-1", "--json").object
    sentences = told.pop("explanation")
    assert told == occ("status", "m-1", "--json").object
    ago = re.compile(r"\d+ s ago")  # a second may pass between the two
    assert ago.sub("", sentences) == ago.sub("", occ("explain", "m-1").stdout.rstrip("\n"))
    assert "slot_refused" in sentences


def test_all_connections_are_an_object_a_line(occ: Occ, worker: Worker) -> None:
    worker.connect("m-2", failing={"order-update": Cause("slot_refused")})
    worker.begin("m-3")
    worker.connect("m-1")
    ended = occ("status", "--json")
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(entry["merchant_id"], entry["status"]) for entry in told] == [
        ("m-1", "active"),
        ("m-2", "degraded"),
        ("m-3", "onboarding"),
    ]
    assert ended.exit_code == 0


def test_all_connections_are_listed_with_what_needs_attention(occ: Occ, worker: Worker) -> None:
    worker.connect("m-1")
    worker.connect("m-2", failing={"order-update": Cause("slot_refused"), "order-submit": Cause("slot_not_offered")})
    lines = [line.split() for line in occ("status").stdout.splitlines()]
    assert lines[0] == ["STATUS", "SLOTS", "NEXT", "CHECK", "MERCHANT", "ATTENTION"]
    assert lines[1][:2] + lines[1][5:] == ["active", "4/4", "m-1"]
    assert lines[2][:2] + lines[2][5:] == [
        *("degraded", "2/4", "m-2"),
        *("order-submit:", "slot_not_offered,", "order-update:", "slot_refused"),
    ]


@pytest.mark.parametrize(
    ("options", "merchants"),
    [
        (["--status", "degraded"], ["m-2"]),
        (["--status", "degraded", "--status", "active"], ["m-1", "m-2"]),
        (["--finding", "slot_refused"], ["m-2"]),
        (["--host", "ccadmin-z1a2.*"], ["m-1", "m-2", "m-3"]),
        (["--host", "ccadmin-z1a2.*", "--status", "onboarding"], ["m-3"]),
        (["--host", "elsewhere.*"], []),
    ],
)
def test_those_that_match_are_listed(options: list[str], merchants: list[str], occ: Occ, worker: Worker) -> None:
    worker.connect("m-1")
    worker.connect("m-2", failing={"order-update": Cause("slot_refused")})
    worker.begin("m-3")
    told = [json.loads(line)["merchant_id"] for line in occ("status", *options, "--json").stdout.splitlines()]
    assert told == merchants
    for_people = occ("status", *options)
    assert len(for_people.stdout.splitlines()) == (len(merchants) + 1 if merchants else 0)
    assert for_people.stderr == ("" if merchants else "No connection matches.\n")


def test_a_merchant_and_a_filter_do_not_go_together(occ: Occ) -> None:
    assert occ("status", "m-1", "--status", "active").exit_code == 2


def test_a_store_that_was_left_is_read_by_its_own_id(occ: Occ, worker: Worker) -> None:
    worker.connect("m-1")
    worker.begin("m-1", "https://ccadmin-z9.oracleoutsourcing.com")
    assert occ("status", "m-1@1", "--json").object["store_url"] == "https://ccadmin-z1a2.oracleoutsourcing.com"
    told = occ("explain", "m-1@1").stdout
    assert told.startswith("m-1@1, a former store of m-1, is being disconnected.")
    assert "The next attempt is now" in told or "Work has been waiting" in told
    assert "`occ explain m-1@1` shows the details." in occ("explain", "m-1").stdout
    assert occ("timeline", "m-1@1").exit_code == 0
    assert occ("status", "m-1@7").exit_code == 4
    assert "`occ explain m-1` lists them" in occ("explain", "m-1@7").stderr


@pytest.mark.parametrize("name", ["m-1@", "@1", "m-1@x", "m-1@1@1"])
def test_only_a_run_makes_the_id_of_a_store_that_was_left(name: str, occ: Occ) -> None:
    assert occ("status", name).exit_code == 2


def test_no_connection_at_all_is_told_to_people_only(occ: Occ) -> None:
    assert occ("status").stderr == "No connections yet; `occ connect` creates one.\n"
    for_programs = occ("status", "--json")
    assert (for_programs.exit_code, for_programs.stdout, for_programs.stderr) == (0, "", "")


@pytest.mark.parametrize("command", ["status", "timeline", "explain"])
def test_an_unknown_merchant_has_an_exit_code_of_its_own(command: str, occ: Occ) -> None:
    ended = occ(command, "nobody")
    assert (ended.exit_code, ended.stdout) == (4, "")
    assert ended.stderr.startswith("Error: merchant_id: there is no such connection")


@pytest.mark.parametrize("command", ["status", "timeline"])
def test_an_unknown_merchant_is_an_object_for_programs(command: str, occ: Occ) -> None:
    ended = occ(command, "nobody", "--json")
    assert (ended.exit_code, ended.error["code"], ended.error["field"]) == (4, "unknown_merchant", "merchant_id")


def test_watching_an_unknown_merchant_ends_at_once(occ: Occ) -> None:
    assert occ("status", "nobody", "--watch").exit_code == 4


def test_one_connection_is_described_part_by_part(occ: Occ, worker: Worker) -> None:
    worker.connect(failing={"order-update": Cause("slot_refused", "HTTP 400")})
    described = [" ".join(line.split()) for line in occ("status", "m-1").stdout.splitlines()]
    assert described[0] == "m-1 is degraded: run 1, https://ccadmin-z1a2.oracleoutsourcing.com"
    assert "key valid" in described
    assert "shipping methods configured 2 enabled" in described
    assert "order-submit registered 1" in described
    assert "order-update failed 1 slot_refused (HTTP 400)" in described
    assert described[-1].startswith("order-update: The store refused our callback URL for this webhook.")


def test_what_was_heard_of_slots_is_told(occ: Occ, worker: Worker, records: Records) -> None:
    worker.connect()
    now = records.load("m-1").now()
    heard = HeardSlots(records, ["order-submit", "order-update"])
    heard.take([Report("m-1", "order-submit", now - 7 * 60), Report("m-1", "order-submit", now - 4 * 60)])
    slots = occ("status", "m-1", "--json").object["slots"]
    assert slots["order-submit"]["heard"].items() >= {"deliveries": 2, "silent": False, "silent_at": None}.items()
    assert 179 <= slots["order-submit"]["heard"]["longest_pause"] <= 181
    assert "heard" not in slots["order-update"]
    assert json.loads(occ("status", "--json").stdout)["slots"] == slots
    described = [" ".join(line.split()) for line in occ("status", "m-1").stdout.splitlines()]
    assert "order-submit registered 1 heard from 4 min ago" in described
    assert "order-update registered 1" in described
    explained = occ("explain", "m-1").stdout
    assert "order-submit: last heard from 4 min ago; 2 deliveries reported, longest pause" in explained


@pytest.mark.parametrize("command", [["status"], ["status", "m-1"], ["explain", "m-1"], ["timeline", "m-1"]])
def test_a_terminal_obeys_nothing_that_a_store_said(command: list[str], occ: Occ, worker: Worker) -> None:
    worker.connect(failing={"order-update": Cause("slot_refused", "\x1b]0;owned\x07\x9b31m\u202e[red]x\r\nroot#")})
    shown = occ(*command).stdout
    assert shown.isprintable() or not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(shown)
    assert not any(line.startswith("root#") for line in shown.splitlines())


def test_the_timeline_tells_each_step_on_a_line(occ: Occ, worker: Worker) -> None:
    worker.begin()
    worker.wait(VALIDATE, Cause("store_busy", "HTTP 429"), seconds=0.0)
    worker.prove_key()
    lines = occ("timeline", "m-1").stdout.splitlines()
    assert [line.split("  ")[1:3] for line in lines] == [
        ["run 1", "run_started"],
        ["run 1", "waits"],
        ["run 1", "validate_key_done"],
    ]
    assert "attempt 1  store_busy (HTTP 429)  until=20" in lines[1]
    assert [line.split("  ")[2] for line in occ("timeline", "m-1", "--last", "1").stdout.splitlines()] == [
        "validate_key_done"
    ]


def test_the_timeline_for_programs_has_times_they_can_read(occ: Occ, worker: Worker) -> None:
    worker.begin()
    worker.wait(VALIDATE, Cause("store_busy"), seconds=5.0)
    started, waits = (json.loads(line) for line in occ("timeline", "m-1", "--json").stdout.splitlines())
    assert (started["what"], waits["what"], waits["cause"]) == ("run_started", "waits", "store_busy")
    assert all(waits[name].endswith("Z") for name in ("at", "started_at", "until"))
    assert waits["step"] == VALIDATE.step


def test_an_explanation_tells_who_acts_and_what_comes_next(occ: Occ, worker: Worker) -> None:
    worker.connect(failing={"order-update": Cause("slot_refused", "HTTP 400")})
    told = occ("explain", "m-1").stdout
    assert told.startswith("m-1 is not fully connected (degraded).")
    assert "Slots registered: order-submit, shipment-create, shipment-update; last checked " in told
    assert "The operator of this installation must act." in told
    assert re.search(r"The next re-validation is in \d+ min", told)  # an hour, or sooner: the daily one may come first


def test_a_slot_that_waits_is_told_with_its_next_attempt(occ: Occ, worker: Worker) -> None:
    worker.begin()
    worker.prove_key()
    worker.count_shipping_methods(1)
    worker.wait(slot("order-submit"), Cause("store_error", "HTTP 503"), seconds=30.0)
    (line,) = (line for line in occ("status", "m-1").stdout.splitlines() if line.startswith("order-submit "))
    assert line.split()[1:4] == ["retrying", "1", "in"]
    assert "store_error (HTTP 503)" in line
