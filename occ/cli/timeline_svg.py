"""A connection's history as a picture to share: a lane for each step and slot, bars for attempts, dashes for waits.

Pure, and the same for the same history. One page of SVG without scripts, styles from elsewhere or fonts of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from occ.cli.history import Attempt, History, history_of
from occ.cli.plain_text import clock, date_and_clock, lasting, one_line
from occ.cli.time_axis import TimeAxis

_NAMES = 170
_PLOT = 640
_ENDS = 360
_MARGIN = 24
_TOP = 96
_LANE = 34
_BAR = 14
_LETTER, _WIDE_LETTER = 6.4, 7.2  # px: how wide a character of the small and the larger text is, on the safe side
_LONGEST_ID = 60
_SHORT = 10.0  # seconds, of which tenths matter

_COLOURS = {"done": "#2e7d32", "waits": "#c77700", "ended": "#c62828"}
_LEGEND = (("done", "did what it should"), ("waits", "to be tried again"), ("ended", "ended with a finding"))
_INK, _GREY, _FAINT = "#1f2328", "#656d76", "#eceff2"


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
        self._lanes = history.lanes
        self._bottom = _TOP + len(self._lanes) * _LANE
        self._right = _NAMES + axis.width

    def document(self, merchant_id: str) -> Iterator[str]:
        width, height = round(self._right + _ENDS), self._bottom + 76
        told = f"What happened to {_short(merchant_id)}"
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label={quoteattr(one_line(told))} '
            'font-family="system-ui, sans-serif" font-size="13">'
        )
        yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
        yield _text(_MARGIN, 34, _short(merchant_id), size=18, weight=600)
        yield _text(_MARGIN, 54, self._subtitle(), fill=_GREY, size=12)
        yield from self._background()
        yield from self._marks()
        for number, lane in enumerate(self._lanes):
            yield from self._lane(lane, _TOP + number * _LANE + _LANE / 2)
        yield from self._legend(self._bottom + 54)
        yield "</svg>"

    def _subtitle(self) -> str:
        first, last = self._history.span
        if first is None or last is None:
            return "nothing has happened yet"
        return f"from {date_and_clock(first)}, {_lasting(last - first)}"

    def _background(self) -> Iterator[str]:
        for number, _ in enumerate(self._lanes):
            y = _TOP + number * _LANE
            yield f'<line x1="{_MARGIN}" x2="{_n(self._right + _ENDS - _MARGIN)}" y1="{y}" y2="{y}" stroke="{_FAINT}"/>'
        height = len(self._lanes) * _LANE
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
        """What concerns the connection as a whole: a line through all lanes, with its words where there is room."""
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

    def _lane(self, lane: str, y: float) -> Iterator[str]:
        yield _text(_MARGIN, y + 4.5, _fitted(lane, _NAMES - _MARGIN - 12), weight=500)
        attempts = [attempt for attempt in self._history.attempts if attempt.lane == lane]
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
