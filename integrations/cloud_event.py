"""The envelope of our events: CloudEvents 1.0 as JSON, with the `sequence` extension. Pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

_END_OF_THE_CALENDAR = 253402300799.0


SOURCE = "occ-connect"
"""Where events come from, unless an environment is told to call itself otherwise."""


def event_text(event: Mapping[str, object], source: str) -> str:
    """An event as it is kept and delivered. `source`: who this environment says it is."""
    return json.dumps({**event, "source": source})


def cloud_event(
    type_: str, *, event_id: str, subject: str, now: float, sequence: int, data: Mapping[str, object]
) -> dict[str, object]:
    """One event. `sequence` grows from event to event of one subject."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": type_,
        "subject": subject,
        "time": timestamp(now),
        "sequence": f"{sequence:012d}",
        "datacontenttype": "application/json",
        "data": data,
    }


def operator_event(what: str, *, number: int, now: float, data: Mapping[str, object]) -> dict[str, object]:
    """One event for operators; `number` grows with each of them."""
    event_id = f"operator:{int(now)}.{number}"  # no merchant id holds a colon
    return cloud_event(
        f"occ.operator.{what}", event_id=event_id, subject="operator", now=now, sequence=number, data=data
    )


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-23T15:02:00.000+00:00`; a time beyond the calendar as its end."""
    return datetime.fromtimestamp(min(seconds, _END_OF_THE_CALENDAR), UTC).isoformat(timespec="milliseconds")
