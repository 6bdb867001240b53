"""The JSON Schema of what producers send and what other systems read, built from the code where there is code.

An object may gain fields, and a list of codes may gain codes, without a new version: whoever reads must let unknown
ones pass. `closed` makes of a schema what is promised today and nothing else; the tests hold the code against it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from integrations.connections.causes import CAUSES, Actor, OutageKind
from integrations.connections.drift import Drift
from integrations.connections.events import TROUBLED
from integrations.connections.record import ConnectionStatus, KeyVerdict, ShippingVerdict, SlotStatus
from integrations.oracle_commerce.reports import MAX_SLOT_LENGTH, MOST_AT_ONCE
from integrations.oracle_commerce.request import MAX_FIELD_LENGTH, MAX_REQUEST_ID, MERCHANT_ID
from integrations.oracle_commerce.store_url import MAX_STORE_URL
from integrations.sealing.keyring import KEY_ID

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
STATUS_EVENTS = tuple(f"occ.connection.{status}" for status in ConnectionStatus)
TROUBLES = sorted(TROUBLED)


def document(title: str, schema: Schema, **definitions: Schema) -> Schema:
    """A schema as it stands in a file."""
    return {"$schema": DIALECT, "title": title, **schema, **({"$defs": definitions} if definitions else {})}


def closed(schema: Any) -> Any:
    """The same with nothing left open: no unknown field, no unknown code."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema and any("enum" in option for option in schema["anyOf"]):
        return next(option for option in schema["anyOf"] if "enum" in option)
    inside = {name: closed(part) for name, part in schema.items()}
    return {"additionalProperties": False, **inside} if "properties" in schema and "type" in schema else inside


# --- Words ------------------------------------------------------------------------------------------------------------


def _object(properties: Mapping[str, Schema], *, optional: Iterable[str] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "properties": dict(properties), "required": required, **more}


def _one_of(words: type[StrEnum] | Iterable[str]) -> Schema:
    return {"enum": [str(word) for word in words]}


def _one_of_at_least(words: type[StrEnum] | Iterable[str]) -> Schema:
    """There may be more of them tomorrow."""
    return {"anyOf": [_one_of(words), {"type": "string"}]}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_CODE: Schema = {"$ref": "#/$defs/code"}
_CODES = {**_one_of_at_least(CAUSES), "description": "why; stable, more may come"}
_TIME: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}(Z|\\+00:00)$",
}
_MERCHANT: Schema = {
    "type": "string",
    "pattern": f"^{MERCHANT_ID.pattern}$",
    "description": "1 to 128 letters, digits, dots, dashes, underscores or tildes; starts with a letter or digit",
}

_TRACEPARENT: Schema = {
    "description": "the trace this belongs to, as W3C Trace Context writes it; anything else counts as none",
    "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
}

_REQUEST_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_REQUEST_ID,
    "description": "by which you find the request again: in events, in `occ request`; a new one for each request",
}

# --- What producers send ----------------------------------------------------------------------------------------------

CONNECT = document(
    "Connect a merchant's store",
    _object(
        {
            "merchant_id": _MERCHANT,
            "store_url": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_STORE_URL,
                "description": "the admin host; path, case and a missing scheme are normalised",
                "examples": ["https://ccadmin-z1a2.oracleoutsourcing.com"],
            },
            "application_key": {
                "type": "string",
                "maxLength": MAX_FIELD_LENGTH,
                "pattern": f"^sealed\\.v1\\.{KEY_ID.pattern}\\.([A-Za-z0-9_-]{{4}})*[A-Za-z0-9_-]{{2,4}}={{0,2}}$",
                "description": "sealed.v1.<key id>.<base64url of the box>, sealed for this merchant: docs/sealing.md",
            },
            "traceparent": _TRACEPARENT,
            "request_id": _REQUEST_ID,
        },
        optional=["traceparent", "request_id"],
        additionalProperties=False,
    ),
)

REVALIDATE = document(
    "Re-validate a connection now",
    _object(
        {
            "merchant_id": _MERCHANT,
            "repair": {
                "type": "boolean",
                "description": "true: put back what somebody keeps undoing, accept changed settings as they are",
            },
            "traceparent": _TRACEPARENT,
            "request_id": _REQUEST_ID,
        },
        optional=["repair", "traceparent", "request_id"],
        additionalProperties=False,
    ),
)

DISCONNECT = document(
    "Disconnect a merchant",
    _object(
        {
            "merchant_id": _MERCHANT,
            "forget": {
                "enum": ["now", "end"],
                "description": "now: forget the key at once, leave what is in the store; end: clean up first",
            },
            "traceparent": _TRACEPARENT,
            "request_id": _REQUEST_ID,
        },
        optional=["forget", "traceparent", "request_id"],
        additionalProperties=False,
    ),
)

_REPORT = _object(
    {
        "merchant_id": _MERCHANT,
        "slot": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_SLOT_LENGTH,
            "description": "as in the callback URL",
        },
        "at": {
            "oneOf": [
                {"type": "number", "minimum": 0, "maximum": 253402300799},
                {"type": "string", "format": "date-time"},
                {"type": "null"},
            ],
            "description": "when the delivery came: seconds since the epoch, or ISO 8601; just now if left out",
        },
        "request_id": _REQUEST_ID,
    },
    optional=["at", "request_id"],
    additionalProperties=False,
)

HEARD = document(
    "A slot was heard from: a delivery of the store has arrived at its callback URL",
    {"anyOf": [_REPORT, {"type": "array", "items": _REPORT, "maxItems": MOST_AT_ONCE}]},
)

# --- What other systems read ------------------------------------------------------------------------------------------

_LAST_REQUEST: Schema = {
    **_TEXT,
    "maxLength": MAX_REQUEST_ID,
    "description": "of the last accepted request that changed anything; missing if that carried none",
}
_FINDING = _object(
    {
        "code": _CODE,
        "actor": {**_one_of(Actor), "description": "who can mend it; nobody: waiting is all there is to do"},
        "explanation": {"type": "string", "description": "for people, may be shown to the merchant; may be reworded"},
        "detail": _or_null({"type": "string", "description": "evidence for operators"}),
        "slot": _or_null(_TEXT),
        "next_attempt_at": _or_null(_TIME),
    }
)

_SLOT = _object(
    {
        "status": _one_of(SlotStatus),
        "attempts": _COUNT,
        "cause": _or_null(_CODE),
        "next_attempt_at": _or_null(_TIME),
        "drift": {"type": "array", "items": _one_of_at_least(Drift), "minItems": 1},
        "missed_events": _COUNT,
        "given_up": _object({"deliveries": _COUNT, "first_at": _TIME, "last_at": _TIME, "error": _TEXT}),
        "heard": _object(
            {
                "last_at": _TIME,
                "deliveries": _COUNT,
                "longest_pause": {**_COUNT, "description": "seconds, in the last six to twelve weeks"},
                "silent": {"type": "boolean"},
                "silent_at": _or_null({**_TIME, "description": "when it counts as silent unless it is heard from"}),
            }
        ),
    },
    optional=["drift", "missed_events", "given_up", "heard"],
)

STATUS = document(
    "A connection, as `occ status --json` shows it",
    _object(
        {
            "merchant_id": {"type": "string", "description": "<merchant>@<run> for a store that a merchant has left"},
            "store_url": _TEXT,
            "run": {"type": "integer", "minimum": 1},
            "status": _one_of(ConnectionStatus),
            "request_id": _LAST_REQUEST,
            "credential": _object(
                {
                    "verdict": _one_of(KeyVerdict),
                    "fingerprint": _TEXT,
                    "expires_at": _or_null(_TIME),
                    "candidate": {"type": "string", "description": "fingerprint of a new key that is proving itself"},
                },
                optional=["candidate"],
            ),
            "shipping_methods": _object({"verdict": _one_of(ShippingVerdict), "enabled": _or_null(_COUNT)}),
            "slots": {"type": "object", "additionalProperties": _SLOT},
            "findings": {"type": "array", "items": _FINDING},
            "due_at": _or_null(_TIME),
            "updated_at": _TIME,
        },
        optional=["request_id"],
    ),
    code=_CODES,
)

_ABOUT: dict[str, Schema] = {
    "merchant_id": _TEXT,
    "store_url": _TEXT,
    "run": {"type": "integer", "minimum": 1},
    "request_id": _LAST_REQUEST,
}
_EVENT_FINDING = _object({"code": _CODE, "slot": _or_null(_TEXT), "actor": _one_of(Actor)})
_SILENCE: dict[str, Schema] = {
    "silent": {**_COUNT, "description": "merchants whose slots fell silent within a day"},
    "heard": {**_COUNT, "description": "about how many merchants were heard from in the last hours"},
    "share": {"type": "number", "minimum": 0, "maximum": 1, "description": "of the silent ones among both"},
    "since": _TIME,
}
_OUTAGE: dict[str, Schema] = {
    "kind": _one_of_at_least(OutageKind),
    "share": {"type": "number", "minimum": 0, "maximum": 1, "description": "of the merchants asked, how many failed"},
    "failing": _COUNT,
    "asked": _COUNT,
    "since": _TIME,
}


def _about(**data: Schema) -> Schema:
    """What an event about a connection holds, which is also what it is about."""
    return _object({**_ABOUT, **data}, optional=["request_id"])


def _status_data(status: Schema, previous: Schema) -> Schema:
    findings = {"type": "array", "items": _EVENT_FINDING}
    return _about(status=status, previous_status=previous, findings=findings)


def _any_status() -> Schema:
    return _or_null(_one_of(ConnectionStatus))


_DATA: dict[str, tuple[str, Schema]] = {
    **{
        f"occ.connection.{status}": (
            f"The connection became {status.replace('_', ' ')}",
            _status_data({"const": str(status)}, _any_status()),
        )
        for status in ConnectionStatus
    },
    "occ.connection.recovered": (
        "The connection works again after trouble that was told of",
        _status_data({"const": str(ConnectionStatus.ACTIVE)}, _one_of(TROUBLES)),
    ),
    "occ.connection.key_expiring": (
        "The application key ends soon",
        _about(days=_COUNT, expires_at=_TIME),
    ),
    "occ.connection.reauthorised": (
        "A new application key has proven itself and taken the old one's place",
        _about(fingerprint=_TEXT),
    ),
    "occ.connection.reauthorisation_failed": (
        "A new application key was turned down; the old one goes on working",
        _about(fingerprint=_TEXT, code=_CODE),
    ),
    "occ.connection.drifted": (
        "A slot is no longer as we left it",
        _about(
            slot=_TEXT,
            drift={"type": "array", "items": _one_of_at_least(Drift), "minItems": 1},
            repaired={"type": "boolean"},
            missed_events=_or_null(_COUNT),
        ),
    ),
    "occ.connection.store_shared": (
        "Other connections of ours lead to the same store, or none does any more",
        _about(
            **{"with": {"type": "array", "items": _TEXT, "description": "merchant ids, four at most; empty: no more"}}
        ),
    ),
    "occ.slot.heard": (
        "A delivery of the slot was received: the first since the connect, or the first after a silence",
        _about(slot=_TEXT, heard_at=_TIME, silent_since=_or_null(_TIME)),
    ),
    "occ.slot.silent": (
        "A slot is not heard from for far longer than ever before; evidence, no verdict",
        _about(slot=_TEXT, heard_last=_TIME, longest_pause=_COUNT),
    ),
    "occ.slot.deliveries_failing": (
        "The store has given up deliveries to our callback URL",
        _about(slot=_TEXT, given_up=_COUNT, first_at=_TIME, last_at=_TIME, error=_TEXT),
    ),
    "occ.slot.deliveries_cleared": (
        "Nothing that was given up is left: it was sent again, or is a week old",
        _about(slot=_TEXT),
    ),
    "occ.request.refused": (
        "A request was refused; nothing of it was done",
        _object(
            {
                "request": _one_of_at_least(("connect", "revalidate", "disconnect", "heard")),
                "door": _one_of_at_least(("celery", "inbox")),
                "merchant_id": _or_null({**_MERCHANT, "description": "if the request named one"}),
                "request_id": _or_null({**_REQUEST_ID, "description": "if the request carried one that can be taken"}),
                "stream_id": _or_null({**_TEXT, "description": "of the entry, as XADD answered it"}),
                "message_id": _or_null({**_TEXT, "description": "of the Celery message"}),
                "field": {**_TEXT, "description": "of the request; request: the whole of it"},
                "code": {**_TEXT, "description": "what is wrong; stable, more may come"},
                "remedy": {**_TEXT, "description": "for people; may be reworded"},
            }
        ),
    ),
    "occ.operator.outage_started": ("Many stores fail alike: it is us, or all of Oracle", _object(_OUTAGE)),
    "occ.operator.outage_ended": (
        "The outage is over",
        _object({**_OUTAGE, "ended_at": _TIME, "held": {**_COUNT, "description": "merchants whose news was held"}}),
    ),
    "occ.operator.silence_started": (
        "Slots of many merchants fell silent at once: it is what receives their deliveries",
        _object(_SILENCE),
    ),
    "occ.operator.silence_ended": ("That is over", _object({**_SILENCE, "ended_at": _TIME})),
}

EVENT_TYPES = tuple(_DATA)


def _attributes(kind: Schema, data: Schema) -> dict[str, Schema]:
    return {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "description": "the same however often the event is delivered"},
        "source": {
            "type": "string",
            "format": "uri-reference",
            "minLength": 1,
            "description": "occ-connect, unless OCC_EVENT_SOURCE names the environment",
        },
        "type": kind,
        "subject": {"type": "string", "description": "the merchant id, or operator"},
        "time": _TIME,
        "sequence": {
            "type": "string",
            "pattern": "^[0-9]{12,}$",
            "description": "never falls from one event of a subject to the next; has gaps; several may share one",
        },
        "datacontenttype": {"const": "application/json"},
        "data": data,
    }


EVENT = document(
    "An event of the stream occ:events (CloudEvents 1.0); one of a type that is not known here may be ignored",
    {
        **_object(_attributes({"type": "string"}, {"type": "object"})),
        "allOf": [
            {
                "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in EVENT_TYPES
        ],
    },
    code=_CODES,
    **{kind: {"title": title, **_object(_attributes({"const": kind}, data))} for kind, (title, data) in _DATA.items()},
)
