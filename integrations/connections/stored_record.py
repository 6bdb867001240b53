"""How a record is written down, so that two releases can work on the same one: during an upgrade, or a rollback. Pure.

What this release does not know of a record, a newer one has written: it is carried along and written down again. What
has another name here than in the release before is read and written under both.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from integrations.connections.record import Carried, Connection

RECORD = TypeAdapter(Connection)

_OWN = "carried"  # what is carried stands in its own place, never under this name
_FORMER_NAMES = (
    # Of 0.1.0: where, what it was called, what it is called. To be removed with the release after the next.
    ((), "departure", "disconnection"),
    ((), "looks_in_trouble", "failed_revalidations"),
    (("credential",), "expiry_told", "expiry_reported"),
)


def record_text(connection: Connection) -> str:
    """The record as it is stored: JSON without what has its usual value."""
    document = RECORD.dump_python(connection, mode="json", exclude_defaults=True, exclude={_OWN})
    for path, value in connection.carried:
        place = _place(document, connection, path[:-1])
        if place is not None:
            place.setdefault(path[-1], value)
    for path, former, name in _FORMER_NAMES:
        place = _inside(document, path)
        if place is not None and name in place:
            place[former] = place[name]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def record_in(text: str) -> Connection:
    """The stored record again. Raises pydantic's ValidationError for one of a release that cannot be read."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return RECORD.validate_json(text)  # which says what is wrong with it
    for path, former, name in _FORMER_NAMES:
        place = _inside(document, path)
        if place is not None and former in place:
            was = place.pop(former)
            place.setdefault(name, was)
    document.pop(_OWN, None)
    carried = tuple(_unknown(Connection, document, ()))
    connection = RECORD.validate_python(document)
    return replace(connection, carried=carried) if carried else connection


def _unknown(kind: type, values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Carried]:
    """What `kind` has no field for, and where it stands."""
    inside = _parts(kind)
    for name, value in values.items():
        if name not in inside:
            yield (*path, name), value
            continue
        part, many = inside[name]
        if part is None or not isinstance(value, dict):
            continue
        for key, each in value.items() if many else ((None, value),):
            if isinstance(each, dict):
                yield from _unknown(part, each, (*path, name) if key is None else (*path, name, key))


@cache
def _parts(kind: type) -> Mapping[str, tuple[type | None, bool]]:
    """The fields of a part of the record: which have parts of their own, and whether by name."""
    hints = get_type_hints(kind)
    return {field.name: _part(hints[field.name]) for field in fields(kind)}


def _part(hint: Any) -> tuple[type | None, bool]:
    if get_origin(hint) is tuple:
        return None, False  # their order says nothing about which is which
    by_name = isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping)
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and is_dataclass(kind):
            return kind, by_name
    return None, False


def _inside(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    place: Any = document
    for name in path:
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else None


def _place(document: dict[str, Any], connection: Connection, path: tuple[str, ...]) -> dict[str, Any] | None:
    """Where to put what is carried; None if the part it belongs to is there no more."""
    place, part = document, connection
    for name in path:
        part = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)  # type: ignore[assignment]
        if part is None:
            return None
        place = place.setdefault(name, {})  # left out, as it has its usual value
    return place
