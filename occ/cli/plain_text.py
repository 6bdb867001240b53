"""Texts for a terminal or a file: no control characters, times in UTC, columns that line up. Pure."""

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from integrations.connections.status import iso

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def printable(text: str) -> str:
    """The text without control, format and private characters, which a terminal would obey. Line ends stay."""
    return "".join(
        c if c == "\n" or not unicodedata.category(c).startswith("C") else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def one_line(text: str) -> str:
    """The same on one line."""
    return printable(" ".join(text.split()))


def clock(seconds: float) -> str:
    """The time of day, as 15:02:09Z."""
    return _utc(seconds).strftime("%H:%M:%SZ")


def clock_near(seconds: float, now: float) -> str:
    """The time of day; with its date if it is not today's or tonight's."""
    return clock(seconds) if abs(seconds - now) < _DAY / 2 else date_and_clock(seconds)


def date_and_clock(seconds: float) -> str:
    """Date and time, as 2026-11-23 15:02:09 UTC."""
    return _utc(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(seconds: float) -> str:
    """A duration in its largest sensible unit: 4 s, 5 min, 2 h, 3 d."""
    if seconds < 2 * _MINUTE:
        return f"{max(0, round(seconds))} s"
    if seconds < 2 * _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    if seconds < 2 * _DAY:
        return f"{round(seconds / _HOUR)} h"
    return f"{round(seconds / _DAY)} d"


def from_now(at: float | None, now: float) -> str:
    """A coming moment seen from now; empty if there is none."""
    if at is None:
        return ""
    return "now" if at <= now else f"in {lasting(at - now)}"


def ago(at: float, now: float) -> str:
    """A past moment seen from now."""
    return f"{lasting(now - at)} ago"


def counted(number: int, one: str, several: str) -> str:
    """A number with its noun: 1 delivery, 2 deliveries."""
    return f"{number} {one if number == 1 else several}"


def duration_text(seconds: float) -> str:
    """A duration as it is typed: 2d, 6h, 90s."""
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g}{letter}"
    return f"{seconds:g}s"


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as lines; every column but the last is as wide as its widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)] if rows else []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _utc(seconds: float) -> datetime:
    """`iso` already copes with times beyond the calendar."""
    return datetime.fromisoformat(iso(seconds) or "").astimezone(UTC)
