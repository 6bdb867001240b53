"""The AsyncAPI document is one, and says of channels and messages what is so."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from jsonschema import Draft7Validator

from integrations.deliveries.receiver import Receiver
from integrations.egress.deadline import Deadline
from integrations.egress.session import GuardedSession
from integrations.sealing.signing import SigningSecret
from tests.contract.shapes import EVENT_TYPES
from tests.contract.test_outcomes import one_of_each_kind
from tests.contract.validators import loaded, validator

DOCUMENT = loaded("asyncapi.json")


def payload(channel: str, message: str) -> dict[str, Any]:
    """The schema of a stream entry, with what is in its one field as an object instead of text."""
    schema: dict[str, Any] = DOCUMENT["channels"][channel]["messages"][message]["payload"]["schema"]
    ((field, text),) = schema["properties"].items()
    return {
        "properties": {field: {"$ref": text["contentSchema"]["$ref"].removeprefix("./")}},
        "required": schema["required"],
    }


def test_the_channels_are_both_doors_the_events_and_their_deliveries() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses == {"occ", "occ:inbox", "occ:events", "/"}
    for operation in DOCUMENT["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in DOCUMENT["channels"]
    received = {
        operation["channel"]["$ref"]
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "receive"
    }
    assert received == {"#/channels/queue", "#/channels/inbox"}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_entry_of_each_event_fits_its_message(kind: str) -> None:
    event = json.loads(json.dumps(one_of_each_kind()[kind]))
    schema = validator(payload("events", kind))
    assert schema.is_valid({"event": event})
    assert not schema.is_valid({"event": {**event, "type": "occ.connection.other"}})


class Listening:
    """A session that keeps what it is to send."""

    def request(self, method: str, url: str, **sent: Any) -> Any:
        self.sent = {"method": method, "url": url, **sent}
        return SimpleNamespace(status=204, headers={})


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_a_delivery_of_each_event_fits_its_message(kind: str) -> None:
    session, event = Listening(), one_of_each_kind()[kind]
    secrets = [SigningSecret.parse(f"whsec_{text * 8}") for text in ("QUJD", "REVG")]
    receiver = Receiver(cast("GuardedSession", session), "https://crm.example.com/events", secrets)
    receiver.deliver(str(event["id"]), json.dumps(event), 1_795_446_120, Deadline.after(5))
    message = DOCUMENT["channels"]["deliveries"]["messages"][kind]
    assert session.sent["method"] == DOCUMENT["operations"]["deliver"]["bindings"]["http"]["method"]
    assert session.sent["headers"]["Content-Type"] == message["contentType"]
    headers = DOCUMENT["components"]["schemas"][message["headers"]["$ref"].rpartition("/")[2]]["schema"]
    assert validator(headers).is_valid(session.sent["headers"])
    assert not validator(headers).is_valid({**session.sent["headers"], "webhook-signature": "v0,"})
    body = {"$ref": message["payload"]["schema"]["$ref"].removeprefix("./")}
    assert validator(body).is_valid(json.loads(session.sent["content"]))


@pytest.mark.parametrize("asked", ["revalidate", "disconnect"])
def test_an_entry_of_the_inbox_fits_its_message(asked: str) -> None:
    schema = validator(payload("inbox", asked))
    assert schema.is_valid({asked: {"merchant_id": "m-1"}})
    assert not schema.is_valid({asked: {"merchant_id": "m 1"}})
    assert not schema.is_valid({"request": {"merchant_id": "m-1"}})


def test_a_report_in_the_inbox_fits_its_message() -> None:
    schema = validator(payload("inbox", "heard"))
    assert schema.is_valid({"heard": {"merchant_id": "m-1", "slot": "order-submit"}})
    assert not schema.is_valid({"heard": {"merchant_id": "m-1"}})


@pytest.mark.end_to_end
def test_it_fits_the_schema_of_asyncapi(node_project: Path) -> None:
    schemas = node_project / "node_modules" / "@asyncapi" / "specs" / "schemas"
    schema = json.loads((schemas / "3.0.0-without-$id.json").read_text(encoding="utf-8"))
    checks = Draft7Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in checks.iter_errors(DOCUMENT)] == []
    assert not checks.is_valid({**DOCUMENT, "channels": {"queue": {"adress": "occ"}}}), "it would notice"
