"""Validators of the stored schemas, which refer to each other by file name."""

import json
import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.contract.golden import FOLDER


def loaded(name: str) -> dict[str, Any]:
    """A stored document."""
    document: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return document


def _pattern(
    validator: Draft202012Validator, pattern: str, instance: object, schema: object
) -> Iterator[ValidationError]:
    """As JSON Schema means it (ECMA 262): `$` is the end, and not also what stands before a last line feed."""
    if validator.is_type(instance, "string") and not re.search(pattern.replace("$", r"\Z"), str(instance)):
        yield ValidationError("does not match the pattern")


_Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def _resource(name: str) -> Resource[Any]:
    # Without `$schema`: jsonschema takes that for leave to go on with its own class.
    return DRAFT202012.create_resource({key: value for key, value in loaded(name).items() if key != "$schema"})


_REGISTRY: Registry[Any] = Registry().with_resources(
    (path.name, _resource(path.name)) for path in sorted(FOLDER.glob("*.schema.json"))
)


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """What holds values against a schema; references to stored schemas resolve."""
    return _Validator(schema, registry=_REGISTRY)  # type: ignore[no-any-return]


def of_file(name: str, definition: str | None = None) -> Draft202012Validator:
    """The validator of a stored schema, or of one of its definitions."""
    return validator({"$ref": f"{name}#/$defs/{definition}" if definition else name})


def problems(of: Draft202012Validator, value: object) -> list[str]:
    """What is wrong with a value, in words."""
    return [f"{error.json_path}: {error.message}" for error in of.iter_errors(value)]
