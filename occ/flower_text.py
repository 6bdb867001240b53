"""How a task reads in Flower: whose it was, what came of it, and why, in words instead of Python's.

For display only: Flower's search goes on looking at what the worker sent (`kwargs:merchant_id=m-1`).
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from integrations.connections.causes import CAUSES, Actor
from integrations.connections.record import SlotStatus
from tasks.worker.message_view import IDS

_LONGEST = 4000
_TROUBLED = {
    *(SlotStatus.RETRYING, SlotStatus.FAILED, SlotStatus.NOT_OFFERED, SlotStatus.CONTESTED, SlotStatus.LEFT_BEHIND),
    *("waits", "ended", "refused"),
}
_ACTS = {
    Actor.MERCHANT: "The merchant acts.",
    Actor.OPERATOR: "The operator of this installation acts.",
    Actor.ORACLE: "Oracle, or whoever runs the store, acts; we keep trying.",
    Actor.NOBODY: "Nobody has to act.",
}


def in_words(task: Any) -> Any:
    """Flower's hook: gets a copy of the task, and returns it as it is to be shown. What is not ours stays as it is."""
    if str(getattr(task, "name", "")).startswith("occ."):
        ids, outcome = _mapping(task.kwargs), _mapping(task.result)
        if ids is not None and ids.keys() & set(IDS):
            task.kwargs = _about(ids)
            task.args = "none" if task.args == "()" else task.args
        if outcome is not None and "outcome" in outcome:
            task.result = "\n".join(_lines(outcome))
            if task.state == "SUCCESS" and outcome["outcome"] in _TROUBLED:
                # The task has done its work, and the work did not succeed. A green badge would hide that; a word that
                # is none of Celery's does not promise to be found under its tabs.
                task.state = str(outcome["outcome"]).replace("_", " ").upper()
    return task


def _mapping(shown: object) -> dict[str, object] | None:
    """The mapping that a worker described; None if it was something else, or was cut off."""
    if not isinstance(shown, str) or len(shown) > _LONGEST:
        return None
    try:
        value = ast.literal_eval(shown)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(isinstance(name, str) for name in value) else None


def _about(ids: Mapping[str, object]) -> str:
    """What tells tasks apart comes first: a list shows the beginning only."""
    parts = [str(ids[name]) for name in ("merchant_id", "slot") if name in ids]
    parts += [f"{name} {ids[name]}" for name in ("attempt", "run") if name in ids]
    parts += [f"{name}: {value}" for name, value in ids.items() if name not in IDS]
    return " · ".join(parts)


def _lines(outcome: Mapping[str, object]) -> Iterator[str]:
    """First the line that a list has room for, then what people should know beyond it."""
    words, cause = str(outcome["outcome"]).replace("_", " "), outcome.get("cause")
    because = cause or outcome.get("reason") or outcome.get("code")
    first = f"{words}: {because}" if because else words
    if "events" in outcome:
        first += f", {outcome['events']} delivered" if because else f": {outcome['events']}"
    if "connection" in outcome:
        first += f", connection {outcome['connection']}"
    if "next_attempt_at" in outcome:
        first += f", next {_clock(str(outcome['next_attempt_at']))}"
    if cause in CAUSES:
        explanation = CAUSES[str(cause)]
        yield f"{first}."  # a list shows all on one line
        yield explanation.sentence
        yield _ACTS[explanation.actor]
    elif "remedy" in outcome:
        yield f"{first}."
        yield f"{outcome.get('field')}: {outcome['remedy']}"
    else:
        yield first


def _clock(iso: str) -> str:
    """Without fractions of a second, as 2026-11-23 15:02:09Z."""
    day, _, rest = iso.partition("T")
    return f"{day} {rest[:8]}Z" if rest else iso
