"""What a change writes is worked out before anything is written: due times, timeline, events, one document of it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.connections.change import Change, Keys, Note
from integrations.connections.commit import Commit, commit_of, next_version
from integrations.connections.record import Connection, Slot, Step, Work
from integrations.connections.stored_record import record_in
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import NOON

WAITS = Slot(work=Work(NOON + 60, NOON + 60))
REGISTERING = replace(healthy(slots={"order-submit": WAITS}), step=Step.REGISTER_SLOT, work=None)


def commit(before: Connection | None, change: Change, *, version_read: int = 6) -> Commit:
    return commit_of("m-1", before, change, version_read=version_read, now=NOON, change_id="0123456789abcdef")


def document(made: Commit) -> dict[str, object]:
    text = made.document("id-1", timeline_length=200, events_kept=1000)
    read: dict[str, object] = json.loads(text)
    return read


def test_only_due_times_that_changed_are_written() -> None:
    """The tick puts members off: what this change did not move must stand."""
    before = replace(REGISTERING, slots={"order-submit": WAITS, "order-update": WAITS})
    moved = replace(WAITS, work=Work(NOON + 90, NOON + 90.5))
    after = replace(before, slots={"order-submit": moved, "order-update": Slot()})
    assert commit(before, Change(after)).due == {"m-1|order-submit": f"{NOON + 90.5:.6f}", "m-1|order-update": ""}
    assert commit(before, Change(before)).due == {}


def test_a_store_that_is_left_is_written_along_with_its_work() -> None:
    former = replace(REGISTERING, merchant_id="m-1@1")
    made = commit(healthy(), Change(replace(healthy(), work=None), former=former))
    assert made.due["m-1@1|order-submit"] == f"{NOON + 60:.6f}"
    written = document(made)["former"]
    assert isinstance(written, dict)
    assert (written["merchant_id"], written["is"]) == ("m-1@1", "left")
    assert record_in(written["record"]) == former


def test_a_change_of_the_record_alone_tells_nobody_anything() -> None:
    before = healthy()
    made = commit(before, Change(replace(before, updated_at=NOON + 1)))
    assert (made.all_events, made.timeline, made.news) == ([], [], None)
    written = document(made)
    assert {"news", "former"}.isdisjoint(written)
    assert (written["version"], written["was"], written["is"]) == ("6", "active", "active")


def test_a_new_status_is_told_with_the_version_that_is_written() -> None:
    made = commit(None, Change(healthy(), (Note("run_started"),)), version_read=0)
    assert made.news is not None
    assert (made.news.was, made.news.status, made.news.trouble) == ("", "active", False)
    assert [event["id"] for event in made.all_events] == ["m-1.1700000000000.01234567"]
    assert [entry["what"] for entry in made.timeline] == ["run_started"]
    written = document(made)["timeline"]
    assert isinstance(written, list)
    assert [json.loads(entry) for entry in written] == made.timeline


@pytest.mark.parametrize("keys", [Keys(), Keys(promote=True), Keys(current="sealed", forget_candidate=True)])
def test_keys_that_stay_as_they_are_are_not_named(keys: Keys) -> None:
    named = document(commit(healthy(), Change(healthy(), keys=keys)))["keys"]
    assert isinstance(named, dict)
    assert Keys(**named) == keys
    assert all(named.values())


def test_no_key_is_shown_with_the_commit() -> None:
    assert "sealed-secret" not in repr(commit(healthy(), Change(healthy(), keys=Keys(current="sealed-secret"))))


@given(st.integers(0, 10**13), st.floats(0, 10**10), st.floats(0, 3600))
def test_a_version_passes_those_that_were_lost_though_it_begins_before_them(
    read: int, now: float, lost_for: float
) -> None:
    lost = next_version(read, now)
    assert lost > read
    assert next_version(read, now + lost_for + 0.001) >= lost
    assert next_version(lost, now) > lost
