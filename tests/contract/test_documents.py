"""The stored documents are those the code makes, and well-formed."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.contract.__main__ import DOCUMENTS, written
from tests.contract.golden import FOLDER
from tests.contract.validators import loaded, of_file

SCHEMAS = [name for name in DOCUMENTS if name.endswith(".schema.json")]


def references(document: Any) -> set[str]:
    """Everything a document refers to."""
    if isinstance(document, list):
        return {found for part in document for found in references(part)}
    if not isinstance(document, dict):
        return set()
    own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
    return own | {found for part in document.values() for found in references(part)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_stored_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == written(DOCUMENTS[name]), "python -m tests.contract"


def test_nothing_else_is_stored() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(DOCUMENTS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(loaded(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_leads_somewhere(name: str) -> None:
    for reference in references(loaded(name)):
        file, _, pointer = reference.partition("#")
        target: Any = loaded(file.removeprefix("./") or name)
        for step in filter(None, pointer.split("/")):
            assert step in target, reference
            target = target[step]


@pytest.mark.parametrize("name", SCHEMAS)
def test_patterns_mean_the_same_in_every_language(name: str) -> None:
    """No look-around and no classes like \\d, which engines read differently; anchored at both ends."""
    for pattern in re.findall(r'"pattern": "(.*)"', (FOLDER / name).read_text(encoding="utf-8")):
        assert json.loads(f'"{pattern}"').startswith("^")
        assert pattern.endswith("$")
        assert not re.search(r"\(\?|\\\\[dwsbDWSB]|\$.", pattern)


def test_who_reads_lets_pass_what_is_not_known_yet() -> None:
    """New fields, codes and types of events are no new version."""
    status = of_file("status.schema.json")
    finding = {
        "code": "a_new_one",
        "actor": "nobody",
        "explanation": "",
        "detail": None,
        "slot": None,
        "next_attempt_at": None,
    }
    value = {
        "merchant_id": "m-1",
        "store_url": "https://x",
        "run": 1,
        "status": "active",
        "credential": {"verdict": "valid", "fingerprint": "f", "expires_at": None, "new": 1},
        "shipping_methods": {"verdict": "configured", "enabled": 1},
        "slots": {},
        "findings": [finding],
        "due_at": None,
        "updated_at": "2026-11-23T15:02:00.000Z",
        "new": {},
    }
    assert status.is_valid(value)
    event = {
        "specversion": "1.0",
        "id": "m-1.1",
        "source": "occ-connect",
        "type": "occ.connection.new",
        "subject": "m-1",
        "time": "2026-11-23T15:02:00.000+00:00",
        "sequence": "000000000001",
        "datacontenttype": "application/json",
        "data": {},
    }
    assert of_file("event.schema.json").is_valid(event)
    assert not of_file("event.schema.json").is_valid({**event, "type": "occ.connection.active"}), "that one has data"
