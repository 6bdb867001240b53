"""A timeline sorted into lanes: the attempts at each step and slot, and the marks that concern the whole. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from integrations.connections.record import Step

Tone = Literal["done", "waits", "ended"]

_LANES = {Step.VALIDATE_KEY: "key", Step.CHECK_SHIPPING_METHODS: "shipping methods", Step.DISCONNECT: "disconnect"}
_WAITS = {"waits", "key_doubted", "new_key_doubted"}
_TROUBLED_WITHOUT_CAUSE = {"no_shipping_methods", "new_key_rejected"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one piece of work, times in seconds since the epoch. `words`: what came of it, `cause` its code."""

    lane: str
    start: float
    end: float
    number: int
    tone: Tone
    words: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the connection as a whole: a run began, somebody asked for something."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class History:
    """Both in order of time."""

    attempts: tuple[Attempt, ...]
    marks: tuple[Mark, ...]

    @property
    def lanes(self) -> list[str]:
        """The steps in their order, then slots in order of name."""
        present = {attempt.lane for attempt in self.attempts}
        steps = [lane for lane in _LANES.values() if lane in present]
        return [*steps, *sorted(present - {*steps})]

    @property
    def span(self) -> tuple[float | None, float | None]:
        """When the first and the last thing happened."""
        times = [attempt.start for attempt in self.attempts] + [attempt.end for attempt in self.attempts]
        times += [mark.at for mark in self.marks]
        return min(times, default=None), max(times, default=None)


def history_of(entries: Iterable[Mapping[str, Any]]) -> History:
    """Entries as `Records.timeline` returns them; those of a newer release are shown under the words they bring."""
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
    lane = str(entry.get("slot") or _LANES.get(Step(step) if step in {*Step} else Step.REGISTER_SLOT, step))
    cause = str(entry.get("cause", ""))
    return Attempt(lane, start, end, number, _tone(entry), _words(entry, lane, number), cause)


def _tone(entry: Mapping[str, Any]) -> Tone:
    if entry["what"] in _WAITS:
        return "waits"
    return "ended" if "cause" in entry or entry["what"] in _TROUBLED_WITHOUT_CAUSE else "done"


def _words(entry: Mapping[str, Any], lane: str, number: int) -> str:
    what, cause = str(entry["what"]), str(entry.get("cause", ""))
    if what.endswith("_done"):
        words = f"{entry['enabled']} enabled" if "enabled" in entry else "valid" if lane == "key" else "done"
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
