"""The AsyncAPI document: both doors and the events, described with the schemas beside it."""

from typing import Any

from integrations.connections.records import EVENTS
from integrations.messages.quarantine import INBOX, INBOX_FIELD
from tasks.queues import REQUESTS
from tests.contract.golden import TASKS
from tests.contract.shapes import EVENT, EVENT_TYPES, Schema

VERSION = "1.2.0"
"""The minor number grows with what is added. What takes something away is a new major, in a folder of its own."""

_FORMAT = "application/schema+json;version=draft-2020-12"
_FIELDS = {"connect": INBOX_FIELD, "revalidate": "revalidate", "disconnect": "disconnect", "heard": "heard"}


def _payload(schema: Schema) -> Schema:
    return {"schemaFormat": _FORMAT, "schema": schema}


def _entry(field: str, schema: Schema, media_type: str) -> Schema:
    """A stream entry with one field that holds JSON."""
    text = {"type": "string", "contentMediaType": media_type, "contentSchema": schema}
    return {"type": "object", "properties": {field: text}, "required": [field]}


def _in_queue(name: str, task: str) -> dict[str, Any]:
    return {
        "name": task,
        "title": f"{task} in Celery's form",
        "contentType": "application/json",
        "payload": _payload({"$ref": f"./celery-message.schema.json#/$defs/{name}"}),
    }


def _in_inbox(name: str, field: str) -> dict[str, Any]:
    return {
        "name": field,
        "title": f"A stream entry with the field {field}",
        "contentType": "application/json",
        "payload": _payload(_entry(field, {"$ref": f"./{name}.schema.json"}, "application/json")),
    }


def _event(kind: str) -> dict[str, Any]:
    schema = {"$ref": f"./event.schema.json#/$defs/{kind}"}
    return {
        "name": kind,
        "title": EVENT["$defs"][kind]["title"],
        "contentType": "application/cloudevents+json",
        "payload": _payload(_entry("event", schema, "application/cloudevents+json")),
    }


def _delivery(kind: str) -> dict[str, Any]:
    return {
        "name": kind,
        "title": EVENT["$defs"][kind]["title"],
        "contentType": "application/cloudevents+json",
        "headers": {"$ref": "#/components/schemas/deliveryHeaders"},
        "payload": _payload({"$ref": f"./event.schema.json#/$defs/{kind}"}),
    }


_DELIVERY_HEADERS: Schema = {
    "type": "object",
    "properties": {
        "webhook-id": {"type": "string", "minLength": 1, "description": "the event's id, the same each time it comes"},
        "webhook-timestamp": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "seconds since the epoch, of this attempt",
        },
        "webhook-signature": {
            "type": "string",
            "pattern": "^v1,[A-Za-z0-9+/]+=*( v1,[A-Za-z0-9+/]+=*)*$",
            "description": "v1,<base64 of HMAC-SHA256 over id.timestamp.body>; several while a secret is changed",
        },
    },
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}


def _channel(
    address: str, description: str, messages: dict[str, dict[str, Any]], *, server: str = "redis"
) -> dict[str, Any]:
    servers = [{"$ref": f"#/servers/{server}"}]
    return {"address": address, "description": description, "servers": servers, "messages": messages}


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


ASYNCAPI: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {
        "title": "occ-connect",
        "version": VERSION,
        "description": "Connects merchants' Oracle Commerce Cloud stores and keeps them connected.",
        "license": {"name": "Apache-2.0"},
    },
    "defaultContentType": "application/json",
    "servers": {
        "redis": {
            "host": "redis.example.com:6379",
            "protocol": "redis",
            "description": "The server of OCC_REDIS_URL; the queue is at OCC_BROKER_URL where that is another one.",
        },
        "receiver": {
            "host": "crm.example.com",
            "protocol": "https",
            "description": "Yours, at OCC_RECEIVER_URL, if you would rather be called than read a stream.",
        },
    },
    "channels": {
        "queue": _channel(
            REQUESTS,
            "A Redis list, written with LPUSH: the door for Celery producers.",
            {name: _in_queue(name, task) for name, task in TASKS.items()},
        ),
        "inbox": _channel(
            INBOX,
            "A Redis stream, written with XADD: the door for every language.",
            {name: _in_inbox(name, field) for name, field in _FIELDS.items()},
        ),
        "events": _channel(
            EVENTS,
            "A Redis stream, read with consumer groups: at least once, in order per merchant, bounded by "
            "OCC_MAX_EVENTS. Every entry has one field, `event`.",
            {kind: _event(kind) for kind in EVENT_TYPES},
        ),
        "deliveries": _channel(
            "/",
            "A POST for each event to the path of OCC_RECEIVER_URL, signed as Standard Webhooks has it: at least once, "
            "in order per merchant. What is not answered with 2xx comes again.",
            {kind: _delivery(kind) for kind in EVENT_TYPES},
            server="receiver",
        ),
    },
    "operations": {
        "takeFromQueue": _operation("receive", "queue", "Take requests from Celery producers"),
        "takeFromInbox": _operation("receive", "inbox", "Take requests from the inbox"),
        "tell": _operation("send", "events", "Tell other systems what has changed"),
        "deliver": {
            **_operation("send", "deliveries", "Tell the receiver, if there is one, the same"),
            "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
        },
    },
    "components": {"schemas": {"deliveryHeaders": _payload(_DELIVERY_HEADERS)}},
}
