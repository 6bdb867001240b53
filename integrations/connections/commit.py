"""What a change writes, worked out before anything is written. Pure.

The record, its timeline, the events for other systems, the due times and the list by status are one atomic write:
`commit.lua` does it if nobody changed the record meanwhile.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from integrations.cloud_event import SOURCE, event_text
from integrations.connections.change import Change, Keys, Note
from integrations.connections.events import TROUBLED, other_events, status_event
from integrations.connections.record import Connection
from integrations.connections.status import counted_as
from integrations.connections.stored_record import record_text
from integrations.connections.timeline import is_news, timeline_entry

_KEYS = tuple(each.name for each in fields(Keys))


@dataclass(frozen=True, slots=True)
class StatusNews:
    """That a connection has a new status. Whether other systems hear of it now depends on what is held, and on outages.

    `was`: the status before, "" of a connection that is new. `trouble`: an outage holds this back.
    """

    event: Mapping[str, object]
    status: str
    was: str
    trouble: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """What one change writes.

    `now`: the time, epoch seconds. `notes`: the new lines of the timeline, oldest first. `due`: due times by
    member of the due set, epoch seconds as text; "" takes the member out. Only what changed is there: the tick may have
    put other members off, and that must stand.
    """

    merchant_id: str
    version_read: int
    version: int
    before: Connection | None
    after: Connection
    former: Connection | None
    keys: Keys = field(repr=False)
    now: float
    notes: tuple[Note, ...]
    news: StatusNews | None
    events: tuple[Mapping[str, object], ...]
    due: Mapping[str, str]

    @property
    def timeline(self) -> list[dict[str, object]]:
        """The new entries of the timeline, oldest first."""
        return [timeline_entry(note, self.after, self.now) for note in self.notes]

    @property
    def all_events(self) -> list[dict[str, object]]:
        """The events in their order, if nothing is held."""
        return [*([dict(self.news.event)] if self.news else []), *map(dict, self.events)]

    def document(self, change_id: str, *, timeline_length: int, events_kept: int, event_source: str = SOURCE) -> str:
        """What `commit.lua` takes, as JSON. `change_id`: the same when the client sends it again."""
        counted = (
            counted_as(connection) if connection else "" for connection in (self.before, self.after, self.former)
        )
        was, is_now, former_is = counted
        document: dict[str, object] = {
            "change": change_id,
            "merchant_id": self.merchant_id,
            "version": str(self.version_read),
            "next_version": str(self.version),
            "now": f"{self.now:.6f}",
            "record": record_text(self.after),
            "keys": {name: value for name in _KEYS if (value := getattr(self.keys, name))},
            "timeline": [json.dumps(entry, separators=(",", ":")) for entry in self.timeline],
            "timeline_length": str(timeline_length),
            "events": [event_text(event, event_source) for event in self.events],
            "events_kept": str(events_kept),
            "due": self.due,
            "was": was,
            "is": is_now,
        }
        if self.former is not None:
            former = {"merchant_id": self.former.merchant_id, "record": record_text(self.former), "is": former_is}
            document["former"] = former
        if self.news is not None:
            news = self.news
            document["news"] = {
                "event": event_text(news.event, event_source),
                "status": news.status,
                "was": news.was,
                "trouble": news.trouble,
            }
        return json.dumps(document)


def commit_of(
    merchant_id: str, before: Connection | None, change: Change, *, version_read: int, now: float, change_id: str = ""
) -> Commit:
    """What a change of the record as it was read writes. `now`: the time, epoch seconds."""
    after, former, version = change.connection, change.former, next_version(version_read, now)
    return Commit(
        merchant_id=merchant_id,
        version_read=version_read,
        version=version,
        before=before,
        after=after,
        former=former,
        keys=change.keys,
        now=now,
        notes=tuple(note for note in change.notes if is_news(note, before, after)),
        news=_status_news(before, after, version=version, now=now, change_id=change_id),
        events=tuple(other_events(before, after, version=version, now=now, change_id=change_id)),
        due=due_changes(before, after) | (due_changes(None, former) if former else {}),
    )


def next_version(version: int, now: float) -> int:
    """The version of a record after a change. It grows, and past every version before: also past those of writes that a
    failover has lost, for it is never below the time in milliseconds.
    """
    return max(version + 1, int(now * 1000))


def due_changes(before: Connection | None, after: Connection) -> dict[str, str]:
    """The due times that a change sets, and, as "", those it takes out."""
    was, is_now = before.due() if before else {}, after.due()
    changes = {slot: f"{due:.6f}" for slot, due in is_now.items() if was.get(slot) != due}
    changes |= {slot: "" for slot in was if slot not in is_now}
    return {due_member(after.merchant_id, slot): due for slot, due in changes.items()}


def due_member(merchant_id: str, slot: str | None) -> str:
    """The name of work in the due set."""
    return merchant_id if slot is None else f"{merchant_id}|{slot}"


def _status_news(
    before: Connection | None, after: Connection, *, version: int, now: float, change_id: str
) -> StatusNews | None:
    event = status_event(before, after, version=version, now=now, change_id=change_id)
    if event is None:
        return None
    trouble = before is not None and after.status in TROUBLED
    return StatusNews(event, after.status, before.status if before else "", trouble)
