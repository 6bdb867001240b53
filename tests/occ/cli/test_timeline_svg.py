"""The picture of a timeline: all that happened is in it, to scale where it matters, and nothing can break out."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.connections.record import Cause
from occ.cli.timeline_svg import TimeAxis, history_of, timeline_svg
from tests.integrations.oracle_commerce.fakes import VALIDATE, slot
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import Occ

NOON = 1_795_435_200.0
SVG = "{http://www.w3.org/2000/svg}"


def line(what: str, at: float, **fields: object) -> dict[str, object]:
    return {"at": NOON + at, "run": 1, "what": what, **fields}


def attempt(what: str, start: float, end: float, lane: str, number: int = 1, **fields: object) -> dict[str, object]:
    """What the records keep of an attempt at a slot, or at the key."""
    about = {"step": "validate_key"} if lane == "key" else {"step": "register_slot", "slot": lane}
    return line(what, end, **about, attempt=number, started_at=NOON + start, **fields)


STORY = [
    line("run_started", 0, store_url="http://127.1.0.1:8800", fingerprint="f" * 16),
    attempt("validate_key_done", 0.1, 0.3, "key"),
    attempt("waits", 0.4, 0.6, "order-submit", cause="store_busy", detail="HTTP 429", until=NOON + 3600),
    attempt("slot_failed", 0.4, 0.8, "order-update", cause="slot_refused", detail="HTTP 400"),
    attempt("slot_registered", 3600, 3600.2, "order-submit", 2, wrote=True),
]


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - our own


def drawn(entries: Sequence[Mapping[str, Any]], merchant_id: str = "m-1") -> ET.Element:
    return parsed(timeline_svg(merchant_id, entries))


def words(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def titles(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}title")]


def test_every_lane_tells_how_it_ended() -> None:
    told = words(drawn(STORY))
    assert told[0] == "m-1"
    for lane, end in (
        ("key", "valid"),
        ("order-submit", "registered, 2nd attempt"),
        ("order-update", "failed: slot_refused (HTTP 400)"),
    ):
        assert told.index(lane) < told.index(end)
    assert "run 1 begins" in told
    assert "store_busy" in told
    assert "60 min" in told


def test_every_attempt_is_a_bar_with_its_particulars() -> None:
    assert titles(drawn(STORY))[1:] == [
        "12:00:00Z attempt 1: valid, took 0.20 s",
        "12:00:00Z attempt 1: waits: store_busy (HTTP 429), took 0.20 s",
        "13:00:00Z attempt 2: registered, 2nd attempt, took 0.20 s",
        "12:00:00Z attempt 1: failed: slot_refused (HTTP 400), took 0.40 s",
    ]


def test_what_was_heard_of_a_slot_is_in_its_row() -> None:
    heard = {"step": "register_slot", "slot": "order-submit"}
    story = [
        *STORY,
        line("slot_heard", 4000, **heard),
        line("slot_silent", 90_000, **heard, heard_last=NOON + 5000, longest_pause=600),
    ]
    picture = drawn(story)
    assert "silent" in words(picture)
    bars = {title.text: bar.get("fill") for bar in picture.iter(f"{SVG}rect") for title in bar.iter(f"{SVG}title")}
    assert bars["13:06:40Z heard"] == bars["12:00:00Z attempt 1: valid, took 0.20 s"]
    assert bars["13:00:00Z silent"] == bars["12:00:00Z attempt 1: failed: slot_refused (HTTP 400), took 0.40 s"]


def test_neither_urls_nor_fingerprints_are_in_a_picture_to_share() -> None:
    assert "127.1.0.1" not in timeline_svg("m-1", STORY)
    assert "f" * 16 not in timeline_svg("m-1", STORY)


def test_the_same_history_is_the_same_picture() -> None:
    assert timeline_svg("m-1", STORY) == timeline_svg("m-1", [dict(reversed(entry.items())) for entry in STORY])


def test_no_history_is_a_picture_too() -> None:
    assert "nothing has happened yet" in words(drawn([]))


TEXT = st.text(st.characters(codec=None), max_size=40)
ENTRY = st.fixed_dictionaries(
    {"at": st.floats(0, 1e10), "what": TEXT},
    optional={
        "run": st.integers(),
        "step": st.sampled_from(["validate_key", "check_shipping_methods", "register_slot", "disconnect"]) | TEXT,
        "slot": TEXT,
        "attempt": st.integers(0, 200),
        "cause": TEXT,
        "detail": TEXT,
        "started_at": st.floats(0, 1e10),
    },
)


@given(st.lists(ENTRY, max_size=20), TEXT)
def test_whatever_a_history_holds_it_is_one_page_without_scripts_or_links(
    entries: list[dict[str, Any]], merchant_id: str
) -> None:
    picture = drawn(entries, merchant_id)
    assert {element.tag for element in picture.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "rect", "line", "text", "title")
    }
    assert not any(name.startswith("on") or "href" in name for element in picture.iter() for name in element.attrib)


def test_markup_and_control_characters_are_shown_not_obeyed() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m&\x00"
    picture = drawn([attempt("slot_failed", 0, 1, "order-submit", cause="slot_refused", detail=hostile)], hostile)
    assert words(picture)[0].startswith("<script>alert(1)</script>\N{REPLACEMENT CHARACTER}[31m&")


# --- Axis -------------------------------------------------------------------------------------------------------------

TIMES = st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e5)), min_size=1, max_size=40)


@given(TIMES, st.lists(st.floats(0, 1e9), max_size=10))
def test_what_is_later_is_never_further_left(intervals: list[tuple[float, float]], moments: list[float]) -> None:
    busy = [(start, start + seconds) for start, seconds in intervals]
    axis = TimeAxis(busy, moments, 600)
    times = sorted([time for interval in busy for time in interval] + moments)
    places = [axis.x(time) for time in times]
    assert places == sorted(places)
    assert places[0] == 0.0
    assert places[-1] <= axis.width + 1e-6


def test_work_is_to_scale_and_a_day_of_waiting_takes_little_room() -> None:
    axis = TimeAxis([(0, 1), (86_400, 86_402)], [], 600)
    assert axis.x(86_402) - axis.x(86_400) == pytest.approx(2 * (axis.x(1) - axis.x(0)), rel=1e-3)
    ((left, right, seconds),) = axis.cuts
    assert (round(right - left), seconds) == (130, 86_399)
    assert [time for time, _ in axis.ticks] == [0, 86_400]


def test_attempts_of_a_newer_release_are_shown_under_the_words_they_bring() -> None:
    history = history_of([line("stars_aligned", 1, step="align_stars", attempt=1)])
    assert [(it.row, it.words, it.tone) for it in history.attempts] == [("align_stars", "stars aligned", "done")]


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.usefixtures("installation")
def test_the_picture_goes_into_a_file_or_to_standard_output(occ: Occ, worker: Worker, tmp_path: Path) -> None:
    worker.begin()
    worker.wait(VALIDATE, Cause("store_busy"), seconds=0.0)
    worker.prove_key()
    worker.count_shipping_methods(1)
    worker.register("order-submit")
    worker.end(slot("order-update"), Cause("slot_refused"))
    file = tmp_path / "m-1.svg"
    ended = occ("timeline", "m-1", "--svg", str(file))
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert "failed: slot_refused" in words(parsed(file.read_text(encoding="utf-8")))
    assert occ("timeline", "m-1", "--svg", "-").stdout == file.read_text(encoding="utf-8")


@pytest.mark.server
@pytest.mark.usefixtures("installation")
def test_a_file_that_cannot_be_written_is_named(occ: Occ, worker: Worker, tmp_path: Path) -> None:
    worker.begin()
    ended = occ("timeline", "m-1", "--svg", str(tmp_path / "missing" / "m-1.svg"))
    assert ended.exit_code != 0
    assert re.search(r"Could not open file", ended.stderr)
    assert occ("timeline", "m-1", "--svg", "-", "--json").exit_code == 2
    assert occ("timeline", "nobody", "--svg", "-").exit_code == 4
