"""What the timeline tells of a slot: when our callback URL was put back, and since when it may have been gone. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from integrations.connections.drift import Drift
from integrations.connections.record import Connection, SlotStatus
from occ.cli.plain_text import ago

_DRIFT = MappingProxyType(
    {
        Drift.URL_MISSING: "our callback URL was missing",
        Drift.URL_DUPLICATED: "our callback URL was in it more than once",
        Drift.URL_CHANGED: "our callback URL had been changed",
        Drift.FORMER_URL: "it still carried our callback URL of before",
        Drift.SLOT_GONE: "the store no longer offers it",
        Drift.PREVIEW_ONLY: "only its preview twin carried our callback URL",
        Drift.SETTINGS_LOST: "a header or the basic authentication was gone",
        Drift.SECRET_RESET: "its secret had been reset",
    }
)


@dataclass(frozen=True, slots=True)
class Repair:
    """Our callback URL was put back at `at`. `missed`: deliveries the store had given up on; None if it did not tell.

    `in_order_before`: when all was well for the last time; None in a line of a release that did not tell.
    """

    at: float
    drift: tuple[str, ...]
    missed: int | None
    in_order_before: float | None


def repairs_of(slot: str, timeline: Iterable[Mapping[str, Any]]) -> list[Repair]:
    """The repairs of a slot, oldest first, from a timeline in that order."""
    return [
        Repair(float(line["at"]), tuple(line.get("drift", ())), line.get("missed_events"), line.get("in_order_before"))
        for line in timeline
        if line.get("slot") == slot and line.get("what") == "slot_repaired"
    ]


def slots_explained(connection: Connection, timeline: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    """What had changed in slots, who put it back, and what was missed; in sentences."""
    missed_any = False
    for name, slot in connection.slots.items():
        if slot.verdict is SlotStatus.CONTESTED:
            yield f"{name}: {_in_words(slot.drift) or 'somebody keeps undoing us'}, and is left alone since."
            continue
        repairs = repairs_of(name, timeline)
        if not repairs:
            continue
        last, often = repairs[-1], len(slot.recent_repairs(now))
        back = f"put back {often} times within a day, last" if often > 1 else "put back"
        yield f"{name}: {_in_words(last.drift) or 'it had drifted'}, {back} {ago(last.at, now)}{_missed(last)}."
        missed_any = missed_any or last.missed is not None
    if missed_any:
        yield (
            "A store tries nothing while our callback URL is out of the slot, so only what it tried can be counted; "
            f"`occ replay {connection.merchant_id}` asks for that again."
        )


def _in_words(drift: Sequence[str]) -> str:
    return ", ".join(_DRIFT.get(Drift(one), one) if one in set(Drift) else one for one in drift)


def _missed(repair: Repair) -> str:
    if repair.missed is None:
        return "; the store does not tell what it gave up delivering"
    deliveries = "1 delivery" if repair.missed == 1 else f"{repair.missed} deliveries"
    return f"; {deliveries} the store gave up on"
