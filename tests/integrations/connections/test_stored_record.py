"""Two releases work on one record: what one does not know, or calls otherwise, is still there for the other."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from integrations.connections.change import Moment
from integrations.connections.lifecycle.disconnection import begin
from integrations.connections.record import Connection
from integrations.connections.stored_record import record_in, record_text
from tests.integrations.oracle_commerce.fakes import NOON, SHIPPING, VALIDATE, claimed, slot, started, success
from tests.usual import PACE

AT = Moment(NOON, PACE)


def active() -> Connection:
    connection = started(AT)
    for target in (VALIDATE, SHIPPING, *map(slot, connection.slots)):
        connection = success(claimed(connection, target, AT), target, AT).connection
    return connection


def places(document: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where a newer release could have a field more: in every object but the list of slots."""
    found = [] if path == ("slots",) else [path]
    for name, value in document.items():
        if isinstance(value, dict):
            found += places(value, (*path, name))
    return found


def at(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        document = document[name]
    return document


@given(st.data())
def test_what_a_newer_release_has_written_is_carried_through_our_changes(data: st.DataObject) -> None:
    document = json.loads(record_text(active()))
    path = data.draw(st.sampled_from(places(document)))
    value = data.draw(
        st.one_of(st.integers(), st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.integers()))
    )
    at(document, path)["of_tomorrow"] = value
    connection = record_in(json.dumps(document))
    assert connection == active()
    ours = replace(connection, updated_at=NOON + 5, wrote_to_store=True)
    assert at(json.loads(record_text(ours)), path)["of_tomorrow"] == value
    assert record_in(record_text(record_in(record_text(ours)))).carried == connection.carried


def test_what_belongs_to_a_part_that_is_gone_goes_with_it() -> None:
    document = json.loads(record_text(active()))
    document["slots"]["order-update"]["of_tomorrow"] = 1
    document["of_tomorrow"] = 2
    connection = record_in(json.dumps(document))
    fewer = replace(connection, slots={name: it for name, it in connection.slots.items() if name != "order-update"})
    written = json.loads(record_text(fewer))
    assert written["of_tomorrow"] == 2
    assert "order-update" not in written["slots"]


def as_in_0_1_0(connection: Connection) -> str:
    """What the release before calls otherwise, under its names alone."""
    document = json.loads(record_text(connection))
    for path, name in (((), "disconnection"), ((), "failed_revalidations"), (("credential",), "expiry_reported")):
        at(document, path).pop(name, None)
    return json.dumps(document)


def leaving() -> Connection:
    connection = begin(active(), AT)
    credential = replace(connection.credential, expiry_reported=7)
    return replace(connection, credential=credential, failed_revalidations=3)


def test_a_record_of_the_release_before_says_that_a_merchant_has_left() -> None:
    text = as_in_0_1_0(leaving())
    assert {"departure", "looks_in_trouble"} <= json.loads(text).keys()
    connection = record_in(text)
    assert connection == leaving()
    assert connection.disconnection is not None
    assert connection.carried == ()


def test_the_release_before_can_read_what_we_write() -> None:
    document = json.loads(record_text(leaving()))
    assert document["departure"] == document["disconnection"]
    assert document["looks_in_trouble"] == 3
    assert document["credential"]["expiry_told"] == 7


def test_a_slot_that_is_no_record_of_ours_is_refused() -> None:
    document = json.loads(record_text(active()))
    document["slots"]["order-update"]["verdict"] = "of_tomorrow"
    for text in (json.dumps(document), "", "[]", "{}", "null"):
        with pytest.raises(ValidationError):
            record_in(text)


def test_a_record_without_anything_unusual_is_as_short_as_before() -> None:
    document = json.loads(record_text(active()))
    assert "carried" not in document
    assert "disconnection" not in document
