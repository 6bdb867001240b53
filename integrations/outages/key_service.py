"""Whether it is the merchant's key that is refused, or every key: the platform's login may be what fails. Pure.

One refused key says nothing of that. So a verdict asks what the same login said of others since the doubt: it stands
where others were accepted; where most were refused as well, it waits, and operators hear of an outage. Where too few
others have been looked at meanwhile, some are: the witnesses. Counting is in `refusals.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from integrations.connections.causes import OutageKind
from integrations.outages import outage as outage_module
from integrations.outages.outage import DAY, Outage, Rules, Tally

WITNESSES = 3
"""How many others are looked at when a key is refused and nobody else's was tried."""

PROBE_EVERY = 60.0
"""Seconds between two others who are looked at while an outage of the login is on."""

_ENOUGH = 3
_SMALL_FLEET = 4  # merchants; of so few, two are enough


@dataclass(frozen=True, slots=True)
class Tried:
    """How many merchants' keys a login accepted, and how many it refused, in a span of time; each counts once."""

    accepted: int
    refused: int

    @property
    def most_are_refused(self) -> bool:
        """Whether more were refused than accepted."""
        return self.refused > self.accepted


class Verdict(Enum):
    """What becomes of a refusal that may make a verdict on a key."""

    STANDS = "others are accepted, or there are no others"
    WAITS = "others are refused as well"
    ASKS = "nobody else's key was tried: witnesses first"


def beginning(tried: Tried, fleet: int, now: float) -> Outage | None:
    """The outage of the platform's login, if there is one. `fleet`: how many connections there are.

    Much fewer merchants are enough than for other outages: where one key is refused, others are tried at once.
    """
    enough = _ENOUGH if fleet > _SMALL_FLEET else 2
    if tried.refused < enough or not tried.most_are_refused:
        return None
    asked = tried.accepted + tried.refused
    return Outage(OutageKind.KEY, now, tried.refused / asked, tried.refused, asked)


def goes_on(rules: Rules, tried: Tried, tallies: Sequence[Tally], outage: Outage, now: float, *, waiting: int) -> bool:
    """Whether an outage of the login is still on: while most keys are refused, or as large a share as would begin one
    by half the usual rule.

    Where no key was tried there is nothing to judge by: it goes on while merchants wait for its end, a day at most.
    """
    if tried.most_are_refused or outage_module.beginning(_half(rules), tallies, now) is not None:
        return True  # whatever would begin one: `tallies` reach back further than `tried`
    nobody_was_tried = not tried.accepted + tried.refused
    return nobody_was_tried and waiting > 0 and now - outage.since < DAY


def _half(rules: Rules) -> Rules:
    return replace(rules, share=rules.share / 2)


def verdict(others: Tried, *, outage_is_on: bool, witnesses: int) -> Verdict:
    """Whether a second refusal counts. `others`: what was tried since the first; `witnesses`: how many could be asked.

    Where most of all that were tried are refused, waiting costs little: it is bounded (`key_verdicts.py`).
    """
    if outage_is_on:
        return Verdict.WAITS
    if others.accepted > others.refused:
        return Verdict.STANDS
    if witnesses:
        return Verdict.ASKS
    return Verdict.WAITS if others.refused else Verdict.STANDS
