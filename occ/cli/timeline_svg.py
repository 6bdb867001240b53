"""A connection's history as a picture to share: a row for each step and slot, bars for attempts, dashes for waits.

Pure, and the same for the same history. One page of SVG without scripts, external styles or fonts of its own. Work is
to scale and long pauses are cut: attempts take tenths of seconds, waits days.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

from integrations.connections.record import Step
from occ.cli.plain_text import clock, date_and_clock, lasting, one_line

Tone = Literal["done", "waits", "ended"]

_ROWS = {Step.VALIDATE_KEY: "key", Step.CHECK_SHIPPING_METHODS: "shipping methods", Step.DISCONNECT: "disconnect"}
_WAITS = {"waits", "key_doubted", "new_key_doubted"}
_TROUBLED_WITHOUT_CAUSE = {
    "no_shipping_methods",
    "new_key_rejected",
    "slot_silent",
    "deliveries_failing",
    "store_shared",
}

_NAMES = 170
_PLOT = 640
_ENDS = 360
_MARGIN = 24
_TOP = 96
_ROW = 34
_BAR = 14
_LETTER, _WIDE_LETTER = 6.4, 7.2  # px: how wide a character of the small and the larger text is, on the safe side
_LONGEST_ID = 60
_SHORT = 10.0  # seconds, of which tenths matter

_COLOURS = {"done": "#2e7d32", "waits": "#c77700", "ended": "#c62828"}
_LEGEND = (("done", "done"), ("waits", "will be tried again"), ("ended", "ended with a finding"))
_INK, _GREY, _FAINT = "#1f2328", "#656d76", "#eceff2"

_LONGEST_PAUSE = 130.0
"""Pixels that a pause takes at most; what would take more is cut."""

_ROOM_FOR_AN_ATTEMPT = 9.0
_HALVINGS = 60
_FINEST = 20_000.0  # pixels a second: half a dozen attempts of a millisecond need no more


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one piece of work, times in seconds since the epoch. `words`: its outcome."""

    row: str
    start: float
    end: float
    number: int
    tone: Tone
    words: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the connection as a whole: a run began, something was requested."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class History:
    """Both in order of time."""

    attempts: tuple[Attempt, ...]
    marks: tuple[Mark, ...]

    @property
    def rows(self) -> list[str]:
        """The steps in their order, then slots in order of name."""
        present = {attempt.row for attempt in self.attempts}
        steps = [row for row in _ROWS.values() if row in present]
        return [*steps, *sorted(present - {*steps})]

    @property
    def span(self) -> tuple[float | None, float | None]:
        """When the first and the last thing happened."""
        times = [attempt.start for attempt in self.attempts] + [attempt.end for attempt in self.attempts]
        times += [mark.at for mark in self.marks]
        return min(times, default=None), max(times, default=None)


class TimeAxis:
    """Where a moment is, in pixels from the left.

    `busy`: from when to when something was done; `moments`: others that are to be seen. `width` is kept to as long as
    there is room for that many attempts.
    """

    def __init__(self, busy: Sequence[tuple[float, float]], moments: Sequence[float], width: float) -> None:
        times = sorted({*moments, *(time for interval in busy for time in interval)})
        self._times = times
        spans = list(pairwise(times))
        is_busy = _covered(spans, busy)
        wanted = max(width, _ROOM_FOR_AN_ATTEMPT * len(spans) / 2)
        scale = _scale(spans, is_busy, wanted)
        self._at = [0.0]
        for (start, end), at_work in zip(spans, is_busy, strict=True):
            self._at.append(self._at[-1] + _width(end - start, scale, busy=at_work))
        self.cuts = [
            (self._at[number], self._at[number + 1], end - start)
            for number, (start, end) in enumerate(spans)
            if not is_busy[number] and (end - start) * scale > _LONGEST_PAUSE
        ]
        """Pauses that were cut: from and to in pixels, and how many seconds they took."""
        self.width = max(width, self._at[-1])

    def x(self, at: float) -> float:
        """Pixels from the left; a moment outside of what is known is at its edge."""
        if not self._times:
            return 0.0
        number = bisect_right(self._times, at) - 1
        if number < 0:
            return 0.0
        if number >= len(self._times) - 1:
            return self._at[-1]
        start, end = self._times[number], self._times[number + 1]
        return self._at[number] + (self._at[number + 1] - self._at[number]) * (at - start) / (end - start)

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """Moments worth a label, with their pixels: the first, and where work goes on after a cut."""
        after_cuts = {right for _, right, _ in self.cuts}
        return [
            (time, x)
            for number, (time, x) in enumerate(zip(self._times, self._at, strict=False))
            if number == 0 or x in after_cuts
        ]


def timeline_svg(merchant_id: str, entries: Iterable[Mapping[str, Any]]) -> str:
    """The picture; entries as `Records.timeline` returns them, oldest first."""
    history = history_of(entries)
    axis = TimeAxis(
        [(attempt.start, attempt.end) for attempt in history.attempts], [mark.at for mark in history.marks], _PLOT
    )
    picture = _Picture(history, axis)
    return "\n".join([*picture.document(merchant_id), ""])


class _Picture:
    def __init__(self, history: History, axis: TimeAxis) -> None:
        self._history = history
        self._axis = axis
        self._rows = history.rows
        self._bottom = _TOP + len(self._rows) * _ROW
        self._right = _NAMES + axis.width

    def document(self, merchant_id: str) -> Iterator[str]:
        width, height = round(self._right + _ENDS), self._bottom + 76
        title = f"What happened to {_short(merchant_id)}"
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label={quoteattr(one_line(title))} '
            'font-family="system-ui, sans-serif" font-size="13">'
        )
        yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
        yield _text(_MARGIN, 34, _short(merchant_id), size=18, weight=600)
        yield _text(_MARGIN, 54, self._subtitle(), fill=_GREY, size=12)
        yield from self._background()
        yield from self._marks()
        for number, row in enumerate(self._rows):
            yield from self._row(row, _TOP + number * _ROW + _ROW / 2)
        yield from self._legend(self._bottom + 54)
        yield "</svg>"

    def _subtitle(self) -> str:
        first, last = self._history.span
        if first is None or last is None:
            return "nothing has happened yet"
        return f"from {date_and_clock(first)}, {_lasting(last - first)}"

    def _background(self) -> Iterator[str]:
        for number, _ in enumerate(self._rows):
            y = _TOP + number * _ROW
            yield f'<line x1="{_MARGIN}" x2="{_n(self._right + _ENDS - _MARGIN)}" y1="{y}" y2="{y}" stroke="{_FAINT}"/>'
        height = len(self._rows) * _ROW
        for left, right, seconds in self._axis.cuts:
            place = f'x="{_n(_NAMES + left)}" y="{_TOP}" width="{_n(right - left)}" height="{height}"'
            yield f'<rect {place} fill="#f6f8fa"/>'
            yield _text(
                _NAMES + (left + right) / 2, self._bottom + 16, lasting(seconds), fill=_GREY, size=11, anchor="middle"
            )
        free = 0.0
        for at, x in self._axis.ticks:
            if x >= free:
                yield _text(_NAMES + x, self._bottom + 32, clock(at), fill=_GREY, size=11)
                free = x + 9 * _LETTER + 8

    def _marks(self) -> Iterator[str]:
        """What concerns the connection as a whole: a line through all rows, with its words where there is room."""
        free = 0.0
        for mark in self._history.marks:
            x = _NAMES + self._axis.x(mark.at)
            title = f"<title>{_escaped(f'{clock(mark.at)} {mark.words}')}</title>"
            yield (
                f'<line x1="{_n(x)}" x2="{_n(x)}" y1="{_TOP - 12}" y2="{self._bottom}" stroke="{_GREY}" '
                f'stroke-dasharray="1 3">{title}</line>'
            )
            if x >= free:
                yield _text(x, _TOP - 18, mark.words, fill=_GREY, size=11)
                free = x + len(mark.words) * _LETTER + 8

    def _row(self, row: str, y: float) -> Iterator[str]:
        yield _text(_MARGIN, y + 4.5, _fitted(row, _NAMES - _MARGIN - 12), weight=500)
        attempts = [attempt for attempt in self._history.attempts if attempt.row == row]
        for attempt, following in zip(attempts, [*attempts[1:], None], strict=True):
            yield from self._wait(attempt, following, y)
            yield self._bar(attempt, y)
        if attempts:
            last = attempts[-1]
            x = self._right + 14
            yield _text(x, y + 4.5, _fitted(last.words, _ENDS - 14 - _MARGIN), fill=_COLOURS[last.tone], size=12.5)

    def _bar(self, attempt: Attempt, y: float) -> str:
        left, right = self._ends(attempt)
        took = f", took {attempt.end - attempt.start:.2f} s" if attempt.end > attempt.start else ""
        number = f"attempt {attempt.number}: " if attempt.number else ""
        title = _escaped(f"{clock(attempt.end)} {number}{attempt.words}{took}")
        return (
            f'<rect x="{_n(left)}" y="{_n(y - _BAR / 2)}" width="{_n(right - left)}" height="{_BAR}" rx="3" '
            f'fill="{_COLOURS[attempt.tone]}"><title>{title}</title></rect>'
        )

    def _wait(self, attempt: Attempt, following: Attempt | None, y: float) -> Iterator[str]:
        """Dashes to the next attempt, with the cause of the wait; to the edge if that is still to come."""
        if attempt.tone != "waits":
            return
        _, left = self._ends(attempt)
        right = self._ends(following)[0] if following else _NAMES + self._axis.width
        if right - left < 1:
            return
        yield (
            f'<line x1="{_n(left)}" x2="{_n(right)}" y1="{_n(y)}" y2="{_n(y)}" stroke="{_COLOURS["waits"]}" '
            'stroke-width="1.5" stroke-dasharray="4 4"/>'
        )
        if len(attempt.cause) * _LETTER + 8 < right - left:
            yield _text((left + right) / 2, y - 4, attempt.cause, fill=_COLOURS["waits"], size=10.5, anchor="middle")

    def _ends(self, attempt: Attempt) -> tuple[float, float]:
        left, right = _NAMES + self._axis.x(attempt.start), _NAMES + self._axis.x(attempt.end)
        return left, max(right, left + 5)  # however short it was, it is seen

    def _legend(self, y: float) -> Iterator[str]:
        x = float(_MARGIN)
        for tone, words in _LEGEND:
            yield f'<rect x="{_n(x)}" y="{_n(y - 9)}" width="14" height="10" rx="3" fill="{_COLOURS[tone]}"/>'
            yield _text(x + 20, y, words, fill=_GREY, size=11)
            x += 20 + len(words) * _LETTER + 24
        yield _text(x, y, "Times are UTC. Bars are to scale, long pauses are not.", fill=_GREY, size=11)


def _text(
    x: float, y: float, words: str, *, fill: str = _INK, size: float = 13, weight: int = 400, anchor: str = "start"
) -> str:
    style = f'fill="{fill}" font-size="{size:g}"'
    style += f' font-weight="{weight}"' if weight != 400 else ""  # noqa: PLR2004 - the weight of any text
    style += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" {style}>{_escaped(words)}</text>'


def _lasting(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < _SHORT else lasting(seconds)


def _fitted(words: str, width: float) -> str:
    most = int(width / _WIDE_LETTER)
    return words if len(words) <= most else words[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _short(merchant_id: str) -> str:
    return merchant_id if len(merchant_id) <= _LONGEST_ID else merchant_id[:_LONGEST_ID] + "\N{HORIZONTAL ELLIPSIS}"


def _escaped(words: str) -> str:
    """No markup, and none of the characters that XML forbids even when they are written as numbers."""
    return escape(one_line(words))


def _n(number: float) -> str:
    """A coordinate: a tenth of a pixel is enough, and the same on every machine."""
    return f"{number:.1f}".removesuffix(".0")


def history_of(entries: Iterable[Mapping[str, Any]]) -> History:
    """Entries as `Records.timeline` returns them; unknown ones are shown under their own words."""
    attempts: list[Attempt] = []
    marks: list[Mark] = []
    for entry in entries:
        if "step" in entry:
            attempts.append(_attempt(entry))
        else:
            marks.append(_mark(entry))
    return History(tuple(sorted(attempts, key=lambda attempt: attempt.start)), tuple(marks))


def _attempt(entry: Mapping[str, Any]) -> Attempt:
    end = float(entry["at"])
    start = min(float(entry.get("started_at", end)), end)
    step, number = str(entry["step"]), int(entry.get("attempt") or 0)
    row = str(entry.get("slot") or _ROWS.get(Step(step) if step in {*Step} else Step.REGISTER_SLOT, step))
    cause = str(entry.get("cause", ""))
    return Attempt(row, start, end, number, _tone(entry), _words(entry, row, number), cause)


def _tone(entry: Mapping[str, Any]) -> Tone:
    if entry["what"] in _WAITS:
        return "waits"
    return "ended" if "cause" in entry or entry["what"] in _TROUBLED_WITHOUT_CAUSE else "done"


def _words(entry: Mapping[str, Any], row: str, number: int) -> str:
    what, cause = str(entry["what"]), str(entry.get("cause", ""))
    if what.endswith("_done"):
        words = f"{entry['enabled']} enabled" if "enabled" in entry else "valid" if row == "key" else "done"
    else:
        words = what.removeprefix("slot_").replace("_", " ")
    if cause and what != cause:
        words += f": {cause}"
    words += f", {_ordinal(number)} attempt" if number > 1 else ""
    return f"{words} ({entry['detail']})" if entry.get("detail") else words


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in {11, 12, 13} else "th"
    return f"{number}{suffix}"


def _mark(entry: Mapping[str, Any]) -> Mark:
    what = str(entry.get("what", ""))
    run = entry.get("run")
    words = f"run {run} begins" if what == "run_started" else what.replace("_", " ")
    return Mark(float(entry["at"]), words)


def _covered(spans: Sequence[tuple[float, float]], busy: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each span lies in a busy interval. Both ends of all intervals are ends of spans."""
    covered: list[bool] = []
    intervals = sorted(busy)
    number, until = 0, float("-inf")
    for start, _ in spans:
        while number < len(intervals) and intervals[number][0] <= start:
            until = max(until, intervals[number][1])
            number += 1
        covered.append(start < until)
    return covered


def _width(seconds: float, scale: float, *, busy: bool) -> float:
    return seconds * scale if busy else min(seconds * scale, _LONGEST_PAUSE)


def _scale(spans: Sequence[tuple[float, float]], is_busy: Sequence[bool], wanted: float) -> float:
    """Pixels a second that make it as wide as wanted, or the finest."""

    def total(scale: float) -> float:
        return sum(_width(end - start, scale, busy=busy) for (start, end), busy in zip(spans, is_busy, strict=True))

    low, high = 0.0, _FINEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) < wanted else (low, middle)
    return low
