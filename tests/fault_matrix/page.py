"""The matrix as a page for people: docs/faults.md."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from integrations.connections.causes import CAUSES, explain
from tests.fault_matrix.course import Look, State
from tests.fault_matrix.faults import FAULTY, Occasion, scripted
from tests.fault_matrix.matrix import Result, quiet, results_of, struck
from tests.fault_matrix.sections import SECTIONS, Section
from tests.usual import PACE

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

NO_FAULT_OF_A_STORE: Mapping[str, str] = MappingProxyType(
    {
        "credential_forgotten": "Somebody asked for it: disconnect, and forget the key now.",
        "credential_unusable": "The private key that the application key was sealed for is gone from our settings.",
        "made_way": "So many stores were slow at once that nobody could wait for one more.",
        "out_of_resources": "As many files, threads or bytes of memory were in use as the system lets us have.",
        "slot_being_written": "Merchants of ours share a store, and one of them was just writing to the slot.",
        "store_shared": "Two merchants of ours were connected to the same store.",
        "token_renewal_pending": "Two of our workers wanted an access token at the same moment.",
        "deliveries_failing": "What receives the store's deliveries failed, or could not be reached.",
        "slot_silent": "Nobody reported a delivery for far longer than ever. Why, cannot be told from here.",
        "not_shown_yet": "We were asked to disconnect within 20 seconds of a registration.",
        "worker_lost": "A worker of ours died with the work, again and again.",
        "record_unreadable": "A newer release of ours wrote the record.",
        "internal_error": "A defect of ours, or our server was not there.",
    }
)
"""Codes that nothing a store does leads to, and what does."""

_HEAD = (
    "Fault",
    "When",
    "Connection, slot in the end",
    "Cause (met on the way)",
    "Tried again",
    "Events",
    "Who acts",
    "Once it is over",
)
_NOTHING = "-"


def matrix() -> dict[Section, list[Result]]:
    """Everything, run anew."""
    return {section: results_of(section) for section in SECTIONS}


def page(results_by_section: Mapping[Section, list[Result]]) -> str:
    """The whole page."""
    everything = [result for results in results_by_section.values() for result in results]
    parts = [_introduction()]
    parts += [_section(section, results) for section, results in results_by_section.items()]
    parts += [_codes(codes_in(everything)), _other_codes()]
    return "\n".join(parts)


def codes_in(results: Iterable[Result]) -> set[str]:
    """Every code that was found, or met on the way."""
    looks = [look for result in results for look in (*result.looks, *([result.healed] if result.healed else []))]
    found = {code for look in looks for code, _ in look.state.findings}
    return found | {code for look in looks for code in look.met}


def _section(section: Section, results: Sequence[Result]) -> str:
    """One table: faults that come to the same on every occasion share their rows."""
    alike: dict[tuple[tuple[tuple[str, ...], str], ...], list[str]] = {}
    for fault, of_fault in groupby(results, key=lambda result: result.fault):
        rows = tuple(_merged(section, list(of_fault)))
        alike.setdefault(rows, []).append(fault.name)
    lines = [f"## {section.title}", "", section.about, "", _line(_HEAD), _line(["---"] * len(_HEAD))]
    for rows, names in alike.items():
        for number, (cells, occasions) in enumerate(rows):
            lines.append(_line(["; ".join(names) if not number else '"', occasions, *cells]))
    return "\n".join([*lines, ""])


def _merged(section: Section, results: list[Result]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The rows of one fault: occasions with the same cells are one."""
    occasions: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        occasions.setdefault(tuple(_cells(section, result)), []).append(result.occasion)
    yield from ((cells, ", ".join(names)) for cells, names in occasions.items())


def _cells(section: Section, result: Result) -> Iterator[str]:
    end = result.end
    found = _distinct(code for code, _ in end.state.findings)
    met = [code for code in _distinct(code for look in result.looks for code in look.met) if code not in found]
    yield _standing(section, end.state) + ("; **somebody else's URL lost**" if result.lost else "")
    yield " ".join([*map(_code, found), *([f"({' '.join(map(_code, met))})"] if met else [])]) or _NOTHING
    yield _tried_again(result) or _NOTHING
    yield _events(result.looks) or _NOTHING
    yield ", ".join(_distinct(explain(code).actor for code in found)) or ("nobody" if met else _NOTHING)
    yield _afterwards(section, result)


def _standing(section: Section, state: State) -> str:
    return f"{state.status}, {_slots(section, state)}{', new key unproven' if state.has_candidate else ''}"


def _slots(section: Section, state: State) -> str:
    of_fault = state.slots[FAULTY]
    status = of_fault.status.replace("_", " ")
    others = {slot.status for slot in state.slots.values()}
    return f"slot {status}" if section.of_slot and len(others) > 1 else f"slots {status}"


def _tried_again(result: Result) -> str:
    first = result.looks[0]
    by_policy = [wait for wait in first.waits if wait.longest > wait.shortest]
    fixed = _distinct(_duration(wait.longest) for wait in first.waits if wait.longest == wait.shortest)
    parts = []
    if by_policy:
        shortest = min(wait.shortest for wait in by_policy)
        parts.append(f"{len(by_policy) + 1} tries{f' at least {_duration(shortest)} apart' if shortest else ''}")
    parts += [f"again after {wait}" for wait in fixed]
    pauses = _pauses_that_matter(result)
    if pauses:
        parts.append(f"{'again' if result.occasion is Occasion.DISCONNECT else 'looks'} {_series(pauses)}")
    if result.occasion is Occasion.DISCONNECT and result.end.state.findings:
        parts.append(f"key forgotten after {_duration(round(result.end.began_at - first.began_at))}")
    return "; ".join(parts)


def _pauses_that_matter(result: Result) -> list[float]:
    """All pauses where there is trouble in the end; else those before looks that still had something to tell."""
    looks = result.looks
    in_trouble = looks[-1].state.findings
    last = len(looks) if in_trouble else max((at for at, look in enumerate(looks) if look.events), default=0)
    return [look.pause for look in looks[:last] if look.pause is not None]


def _series(pauses: list[float]) -> str:
    runs = [(pause, len(list(same))) for pause, same in groupby(pauses)]
    told = [_duration(pause) for pause, _ in runs]
    if runs[-1][1] > 1:
        return ", ".join([*([f"after {', '.join(told[:-1])}"] if told[1:] else []), f"every {told[-1]}"])
    more = ", ..." if len(pauses) > 1 and pauses[-1] == 2 * pauses[-2] else ""
    return f"after {', '.join(told)}{more}"


def _events(looks: Sequence[Look]) -> str:
    names = [_event(event) for look in looks for event in look.events]
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    return ", ".join(f"{name}{f' x {times}' if times > 1 else ''}" for name, times in runs)


def _event(event: Mapping[str, Any]) -> str:
    name = event["type"].removeprefix("occ.connection.")
    return f"`{name}` ({', '.join(event['data']['drift'])})" if name == "drifted" else _code(name)


def _afterwards(section: Section, result: Result) -> str:
    healed = result.healed
    if healed is None:
        return _NOTHING
    told = [_standing(section, healed.state)]
    told += [_code(code) for code in _distinct(code for code, _ in healed.state.findings)]
    events = _events([healed])
    return "; ".join([" ".join(told), *([events] if events else [])])


def _introduction() -> str:
    with quiet():
        _, course = struck(SECTIONS[1], scripted("", 503), Occasion.ONBOARDING)
        course.until_resting_alike()
    waits, pauses = course.looks[0].waits, [look.pause for look in course.looks if look.pause is not None]
    tries = len(waits) + 1
    return INTRODUCTION.format(
        tries=tries,
        waits=", ".join(_duration(wait.longest) for wait in waits),
        pauses=_series(pauses),
        second_look=_duration(PACE.second_look),
    )


INTRODUCTION = """\
# Faults: what each comes to

Written by `./run fault-matrix`, checked by a test: every row was run, with the steps, transitions and policies as they
are, against the simulated store, until nothing changed any more. Settings are the defaults.

* **When**: during *onboarding*; in the *re-validation* of a connection that works; while *a new key* has to prove
  itself; during *disconnect*.
* **Connection, slot in the end**: as `occ status` shows them. In the sections about slots the fault is one slot's; its
  neighbour is `registered` (or `removed`) throughout, or the row says "slots".
* **Cause**: what the finding says, explained below; in brackets what was met on the way and is no finding any more.
* **Tried again**: "{tries} tries" follow each other after random waits of up to
  {waits}; "at least" is what the store asked for in
  Retry-After. A *look* is a whole re-validation; "..." goes on {pauses}.
  Nothing there: only the usual look once a day, and the second one {second_look} after a registration.
* **Events**: `occ.connection.<name>`, once each unless there is a number; in brackets what has drifted. Those about a
  new status carry the findings, each with code and actor.
* **Who acts**: the actor of each finding in the end.
* **Once it is over**: what the next look after the end of the fault finds. During disconnect: the next try after the
  first that failed. A slot that was written three times within a day, also if nobody saw the end of it, is written
  again when that day is over, or when somebody requests a repair.

When many stores fail alike at the same time it is not the stores: events about them are held, and operators get one.
"""


def _codes(codes: set[str]) -> str:
    lines = ["## Causes", "", _line(["Code", "Who acts", "What the merchant may be told"]), _line(["---"] * 3)]
    lines += [_line([_code(code), told.actor, told.sentence]) for code, told in CAUSES.items() if code in codes]
    return "\n".join([*lines, ""])


def _other_codes() -> str:
    lines = ["### Causes that no fault of a store leads to", ""]
    lines += [_line(["Code", "Who acts", "What the merchant may be told", "When"]), _line(["---"] * 4)]
    lines += [
        _line([_code(code), explain(code).actor, explain(code).sentence, reason])
        for code, reason in NO_FAULT_OF_A_STORE.items()
    ]
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text}`"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length and seconds % length == 0 and seconds != 86400.0:
            return f"{seconds / length:.0f} {unit}"
    return "24 h" if seconds == 86400.0 else f"{seconds:.0f} s"
