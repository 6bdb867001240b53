"""How the end of a task shows to those who watch: Flower, `celery events`, whatever else reads Celery's events.

A task of ours that finds a store refusing us has done its work: it returns an outcome, its message is acknowledged, and
nothing is retried by Celery. But whoever watches wants to see that something failed where it failed. So the event says
so, and only the event (docs/adr/0015-a-failed-outcome-is-a-failed-task-to-those-who-watch.md).
"""

import ast
from collections.abc import Mapping
from typing import Any

from integrations.connections.causes import CAUSES
from integrations.connections.record import SlotStatus

SUCCEEDED, FAILED, RETRIED = "task-succeeded", "task-failed", "task-retried"

_FAILED = {"ended", "refused", SlotStatus.FAILED, SlotStatus.CONTESTED, SlotStatus.LEFT_BEHIND, SlotStatus.NOT_OFFERED}
_RETRIED = {"waits", SlotStatus.RETRYING}
_LONGEST = 4000


def summary_in(shown: object) -> dict[str, Any] | None:
    """The summary that a task returned, from Python's way of writing it; None if it is something else, or cut off."""
    if not isinstance(shown, str) or len(shown) > _LONGEST:
        return None
    try:
        value = ast.literal_eval(shown)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(isinstance(name, str) for name in value) else None


def end_of(summary: Mapping[str, Any] | None) -> tuple[str, dict[str, str]]:
    """The event for a task that returned this, and what it says beside the result: a plain reason."""
    outcome = summary.get("outcome") if summary else None
    if summary is None or not isinstance(outcome, str) or outcome not in _FAILED | _RETRIED:
        return SUCCEEDED, {}
    if outcome == SlotStatus.NOT_OFFERED and summary.get("required") is False:
        return SUCCEEDED, {}
    return (FAILED if outcome in _FAILED else RETRIED), {"exception": _reason(outcome, summary)}


def _reason(outcome: str, summary: Mapping[str, Any]) -> str:
    code = str(summary.get("cause") or summary.get("code") or summary.get("reason") or "")
    sentence = CAUSES[code].sentence if code in CAUSES else summary.get("remedy")
    return ": ".join(str(part) for part in (outcome.replace("_", " "), code, sentence) if part)
