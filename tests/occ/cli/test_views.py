"""What is shown while connections change. Pure: the record moves by its real transitions, the time is the test's."""

import io
import json

import pytest
from rich.console import Console

from integrations.connections.causes import explain
from integrations.connections.record import Cause
from occ.cli.explanation import explained, is_stuck
from occ.cli.tables import connection_table, overview_table
from occ.cli.views import JsonLines, Lines
from occ.simulator.clocks import StoppedClock
from tests.integrations.oracle_commerce.by_hand import RecordsInMemory
from tests.integrations.oracle_commerce.fakes import SHIPPING, SLOTS, VALIDATE, slot
from tests.integrations.oracle_commerce.recorded import Worker

NOON = 1_795_435_200.0


@pytest.fixture
def records() -> RecordsInMemory:
    """A connection whose first request comes at noon."""
    return RecordsInMemory(StoppedClock(NOON))


@pytest.fixture
def worker(records: RecordsInMemory) -> Worker:
    """Works on it."""
    worker = Worker(records)
    worker.begin()
    return worker


def test_lines_tell_each_change_once(records: RecordsInMemory, worker: Worker) -> None:
    said: list[str] = []
    lines = Lines(said.append)

    def look() -> list[str]:
        said.clear()
        lines.show([records.connection], records.now)
        lines.show([records.connection], records.now)
        return list(said)

    assert look() == []
    worker.wait(VALIDATE, Cause("store_busy", "HTTP 429"), seconds=4)
    assert look() == [
        "12:00:00Z m-1 key: pending, attempt 1, next at 12:00:04Z - store_busy (HTTP 429): "
        + explain("store_busy").sentence
    ]
    records.stopped.advance(5)
    worker.claim(VALIDATE)
    assert look() == []
    records.stopped.advance(100)
    worker.prove_key()
    assert look() == ["12:01:45Z m-1 key: valid"]
    worker.count_shipping_methods(3)
    assert look() == ["12:01:45Z m-1 shipping methods: configured, 3 enabled"]
    for name in SLOTS:
        worker.register(name)
    assert look() == [
        *(f"12:01:45Z m-1 {name}: registered" for name in SLOTS),
        "12:01:45Z m-1 is active",
    ]


def test_a_doubted_key_is_not_yet_to_be_replaced(records: RecordsInMemory, worker: Worker) -> None:
    said: list[str] = []
    lines = Lines(said.append)
    worker.refuse_key()
    lines.show([records.connection], records.now)
    assert said == [
        "12:00:00Z m-1 key: doubted, next at 12:05:00Z - key_doubted (HTTP 401): " + explain("key_doubted").sentence
    ]
    records.stopped.advance(301)
    worker.refuse_key()
    lines.show([records.connection], records.now)
    assert said[1].startswith(
        "12:05:01Z m-1 key: rejected, next at 2026-11-24 12:05:01 UTC - key_rejected (HTTP 401): "
    )
    assert said[2] == "12:05:01Z m-1 is needs_reauthorisation"


def test_json_lines_are_status_objects_of_what_changed(records: RecordsInMemory, worker: Worker) -> None:
    said: list[str] = []
    lines = JsonLines(said.append)
    lines.show([records.connection], NOON)
    lines.show([records.connection], NOON + 1)
    worker.prove_key()
    lines.show([records.connection], NOON + 2)
    assert [json.loads(line)["credential"]["verdict"] for line in said] == ["pending", "valid"]


def test_the_table_of_a_connection_fits_into_eighty_columns(records: RecordsInMemory, worker: Worker) -> None:
    worker.prove_key()
    worker.count_shipping_methods(12)
    worker.wait(slot("order-update"), Cause("store_error", "HTTP 503"), seconds=95)
    worker.end(slot("shipment-update"), Cause("slot_refused", "HTTP 400, errorCode 10400"))
    worker.claim(slot("shipment-create"))
    shown = rendered(connection_table(records.connection, NOON), width=80)
    rows = [" ".join(line.split()) for line in shown]
    assert "m-1 is onboarding: run 1, https://ccadmin-z1a2.oracleoutsourcing.com" in rows
    assert "key valid" in rows
    assert "shipping methods configured 12 enabled" in rows
    assert "order-submit pending" in rows
    assert "order-update retrying 1 in 95 s store_error (HTTP 503)" in rows
    assert "shipment-create pending 1 now" in rows
    assert any(row.startswith("shipment-update failed 1 slot_refused (HTTP 400") for row in rows)
    assert any(row.startswith("shipment-update: The store refused our callback URL") for row in rows)


def test_a_table_obeys_neither_markup_nor_control_characters(records: RecordsInMemory, worker: Worker) -> None:
    worker.end(VALIDATE, Cause("edge_refused", "[bold]x[/bold]\x1b[2J"))
    shown = "\n".join(rendered(connection_table(records.connection, NOON), width=200))
    assert "[bold]x[/bold]\N{REPLACEMENT CHARACTER}[2J" in shown
    assert "\x1b" not in shown


def test_the_overview_shows_those_first_that_need_somebody(records: RecordsInMemory, worker: Worker) -> None:
    fine, amiss = RecordsInMemory(StoppedClock(NOON)), RecordsInMemory(StoppedClock(NOON))
    Worker(fine).connect("m-2")
    Worker(amiss).connect("m-3", failing={"order-update": Cause("slot_refused")})
    connections = [records.connection, fine.connection, amiss.connection]
    shown = rendered(overview_table(connections, NOON, most=2), width=100)
    merchants = [line.split()[0] for line in shown if line.strip().startswith("m-")]
    assert merchants == ["m-3", "m-1"]
    assert any("3 connections, 2 shown" in line for line in shown)


@pytest.mark.parametrize(
    ("act", "sentences"),
    [
        (lambda _: None, ["m-1 is being connected (onboarding).", "The application key has not been tried yet."]),
        (lambda worker: worker.claim(VALIDATE), ["Workers are on it now: validate_key."]),
        (
            lambda worker: worker.wait(VALIDATE, Cause("store_timeout"), seconds=8),
            ["The store did not answer in time.", "Nobody has to act.", "The next attempt is in 8 s"],
        ),
        (lambda worker: worker.refuse_key(), ["refused the application key once", "The next attempt is in 5 min"]),
        (
            lambda worker: worker.end(VALIDATE, Cause("not_an_admin_host")),
            [
                "m-1 is not working yet (degraded).",
                "The merchant must act. Next try in 60 min.",
                "The next re-validation is in 60 min",
            ],
        ),
        (
            lambda worker: (worker.prove_key(), worker.count_shipping_methods(0)),
            [
                "The store has no enabled shipping method.",
                "The merchant must act. Next try in 60 min.",
                "The next re-validation is in 60 min",
            ],
        ),
        (lambda worker: worker.finish(), ["m-1 is connected (active).", "Enabled shipping methods: 2."]),
    ],
)
def test_every_state_is_explained(act: object, sentences: list[str], records: RecordsInMemory, worker: Worker) -> None:
    assert callable(act)
    act(worker)
    told = "\n".join(explained(records.connection, records.now))
    assert [sentence for sentence in sentences if sentence not in told] == []


def test_work_that_nobody_takes_is_noticed(records: RecordsInMemory, worker: Worker) -> None:
    assert not is_stuck(records.connection, NOON + 5)
    assert is_stuck(records.connection, NOON + 15)
    assert "are workers and beat running?" in "\n".join(explained(records.connection, NOON + 15))
    worker.wait(VALIDATE, Cause("store_busy"), seconds=60)
    assert not is_stuck(records.connection, NOON + 65)
    assert is_stuck(records.connection, NOON + 75)
    records.stopped.advance(75)
    worker.prove_key()
    worker.claim(SHIPPING)
    assert not is_stuck(records.connection, records.now + 30)


def rendered(table: object, width: int) -> list[str]:
    """The table as text, line by line."""
    screen = io.StringIO()
    Console(file=screen, width=width).print(table)
    return screen.getvalue().splitlines()
