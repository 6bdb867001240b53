"""Many slots that fall silent at once are no trouble of their stores: it is the receiver. Pure.

As with outages, it takes a share of the merchants and a number of them, `OCC_OUTAGE_SHARE` and `OCC_OUTAGE_MERCHANTS`.
The share is that of the silent ones among these and those that were heard from lately.
"""

from dataclasses import dataclass

from integrations.cloud_event import operator_event, timestamp

DAY = 86400.0
"""Seconds: those found silent within so long count as silent at once."""


@dataclass(frozen=True, slots=True)
class Rule:
    """From which share, and from how many merchants on, silence is shared. A share of 0: never."""

    share: float
    merchants: int


@dataclass(frozen=True, slots=True)
class Tally:
    """How many merchants were found silent lately, and how many were heard from in the last hours."""

    silent: int
    heard: int

    @property
    def share(self) -> float:
        """Of the silent ones."""
        return self.silent / (self.silent + self.heard) if self.silent else 0.0


def is_on(tally: Tally, rule: Rule, *, was_on: bool) -> bool:
    """Whether so many are silent that it is the receiver; it is over when their share is under half of that."""
    if not rule.share:
        return False
    if was_on:
        return tally.silent > 0 and tally.share >= rule.share / 2
    return tally.silent >= rule.merchants and tally.share >= rule.share


def started_event(tally: Tally, number: int, now: float) -> dict[str, object]:
    """The CloudEvent for operators; `number` grows with each of them."""
    return _operator_event("silence_started", tally, number, now, {"since": timestamp(now)})


def ended_event(tally: Tally, number: int, now: float, *, since: float) -> dict[str, object]:
    """The same at its end. Merchants whose slots are still silent then get an event each."""
    return _operator_event("silence_ended", tally, number, now, {"since": timestamp(since), "ended_at": timestamp(now)})


def _operator_event(what: str, tally: Tally, number: int, now: float, times: dict[str, object]) -> dict[str, object]:
    about = {"silent": tally.silent, "heard": tally.heard, "share": round(tally.share, 3)}
    return operator_event(what, number=number, now=now, data={**about, **times})
