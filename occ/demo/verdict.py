"""Whether a merchant of the demo ended as its part says, by its record and by what its store has seen. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from integrations.connections.findings import findings_of
from integrations.connections.record import Connection, SlotStatus
from occ.demo.merchants import SLOTS, Part, SlotEnd


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one merchant.

    `connection` and `refusal` as the records tell them, `counts` as the simulator does; `urls` is what each slot of the
    store carries, `callback_urls` what we would put there; `waits` is how often the run had to wait for an attempt.
    """

    connection: Connection | None = None
    refusal: Mapping[str, Any] | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    urls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    callback_urls: Mapping[str, str] = field(default_factory=dict)
    waits: int = 0

    @property
    def came_of_calls(self) -> Mapping[str, int]:
        """How often each answer (`login 503`) and each fault (`hang`) happened."""
        return {**self.counts.get("statuses", {}), **self.counts.get("faults", {})}


def differences(part: Part, seen: Seen) -> list[str]:
    """What is not as the part says, a sentence each; empty if all is."""
    found = [*_in_request(part, seen), *_in_record(part, seen), *_in_calls(part, seen), *_in_slots(part, seen)]
    return [f"{part.name}: {difference}" for difference in found]


def _in_request(part: Part, seen: Seen) -> Iterator[str]:
    if part.refusal is None:
        if seen.refusal is not None:
            yield f"its request was refused ({seen.refusal.get('code')}), and should not be"
        return
    if seen.connection is not None:
        yield "its request was taken on, and should be refused"
    if seen.refusal is None:
        yield "no refusal of its request was kept"
        return
    about = seen.refusal.get("field"), seen.refusal.get("code")
    if about != (part.refusal.field, part.refusal.code):
        yield f"its request was refused for {about[0]}: {about[1]}, not {part.refusal.field}: {part.refusal.code}"
    if part.refusal.named not in str(seen.refusal.get("remedy")):
        yield f"the remedy does not name {part.refusal.named}"


def _in_record(part: Part, seen: Seen) -> Iterator[str]:
    if part.refusal is not None:
        return
    if seen.connection is None:
        yield "there is no connection"
        return
    if seen.connection.status is not part.status:
        yield f"it is {seen.connection.status}, not {part.status}"
    codes = tuple(finding.code for finding in findings_of(seen.connection))
    if codes != part.findings:
        yield f"it has the findings {_listed(codes)}, not {_listed(part.findings)}"
    for name in SLOTS:
        slot = seen.connection.slots.get(name)
        end = (slot.status, slot.cause.code if slot.cause else None) if slot else None
        if end != part.end_of(name):
            yield f"{name} is {_described(end)}, not {_described(part.end_of(name))}"


def _in_calls(part: Part, seen: Seen) -> Iterator[str]:
    calls = dict(seen.counts.get("endpoints", {}))
    if part.calls is not None and calls != dict(part.calls):
        yield f"its store got {_counted(calls)}, not {_counted(part.calls)}"
    for what, least in part.met.items():
        if (times := seen.came_of_calls.get(what, 0)) < least:
            yield f"its store answered {what} {times} times, not {least} or more"
    for undercut in seen.counts.get("retry_after_undercut", []):
        yield f"it was called {undercut['by']:.3f} s before the time its store had asked for"


def _in_slots(part: Part, seen: Seen) -> Iterator[str]:
    for lost in seen.counts.get("foreign_urls_lost", []):
        yield f"{lost['slot']} lost {lost['url']}"
    for lost in seen.counts.get("foreign_settings_lost", []):
        yield f"{lost['slot']} lost somebody's {lost['field']}"
    if seen.counts.get("secret_resets"):
        yield "the secret of its slots was reset"
    for name in SLOTS:
        wanted = list(part.foreign_urls.get(name, ()))
        if part.refusal is None and part.end_of(name)[0] is SlotStatus.REGISTERED:
            wanted.append(seen.callback_urls.get(name, ""))
        if sorted(seen.urls.get(name, ())) != sorted(wanted):
            yield f"{name} carries {_listed(seen.urls.get(name, ()))}, not {_listed(wanted)}"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts) or "none"


def _counted(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{endpoint} x{number}" for endpoint, number in calls.items()) or "nothing"


def _described(end: SlotEnd | None) -> str:
    if end is None:
        return "missing"
    status, cause = end
    return f"{status} ({cause})" if cause else str(status)
