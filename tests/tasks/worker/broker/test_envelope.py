"""The checks in front of kombu and celery, without either."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings

from tasks.worker.broker.envelope import content_problem, message_problem, task_problem
from tests.examples import examples
from tests.tasks.worker.broker.messages import (
    MORE_POISON,
    NO_MESSAGES,
    NO_TASKS,
    POISON,
    UNKNOWN_TASK,
    encoded,
    good,
    mutations,
    task_message,
)


def problem_of(raw: bytes) -> str | None:
    """What the transport and the consumer together have to say about a message."""
    try:
        text = raw.decode()
        envelope = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    problem = message_problem(envelope, text)
    if problem:
        return problem
    problem = content_problem(envelope.get("content-type"), envelope.get("content-encoding"))
    if problem:
        return problem
    body = envelope["body"]
    try:
        body_text = base64.b64decode(body).decode() if envelope["properties"].get("body_encoding") == "base64" else body
        payload: Any = json.loads(body_text)
    except (ValueError, RecursionError):
        return "body not JSON"
    return task_problem(envelope.get("headers") or {}, payload, body_text)


def test_a_right_message_has_no_problem() -> None:
    assert problem_of(good()) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"eta": "2026-11-23T10:00:00+00:00", "expires": "2026-11-23T10:00:00Z"},
        {"timelimit": [30, 20.5]},
        {"retries": 3},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "stamped_headers": ["a"]},
        {"root_id": None, "argsrepr": None},
    ],
)
def test_what_producers_may_add_has_no_problem(headers: dict[str, object]) -> None:
    assert problem_of(encoded(task_message(headers=headers))) is None


def test_only_two_headers_and_the_body_are_needed() -> None:
    message = {
        "body": json.dumps([["m-1"], {}, None]),
        "content-type": "application/json",
        "headers": {"task": "occ.connect", "id": "1"},
        "properties": {},
    }
    assert problem_of(encoded(message)) is None


@pytest.mark.parametrize("name", NO_MESSAGES | NO_TASKS)
def test_known_poison_has_a_problem(name: str) -> None:
    assert problem_of(POISON[name])


@pytest.mark.parametrize("name", MORE_POISON.keys() - {"a type Kombu cannot rebuild"})
def test_poison_nobody_reported_yet_has_a_problem(name: str) -> None:
    assert problem_of(MORE_POISON[name])


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"_private": 1}, "headers hold a reserved name"),
        ({"retries": True}, "headers.retries is not a count"),
        ({"retries": -1}, "headers.retries is not a count"),
        ({"retries": 1.0}, "headers.retries is not a count"),
        ({"timelimit": [True, None]}, "headers.timelimit is not a pair of seconds"),
    ],
)
def test_what_would_shadow_an_attribute_or_count_wrongly_has_a_problem(
    headers: dict[str, object], problem: str
) -> None:
    assert problem_of(encoded(task_message(headers=headers))) == problem


def test_a_priority_is_a_number_and_no_boolean() -> None:
    message = task_message()
    message["properties"]["priority"] = True
    assert problem_of(encoded(message)) == "properties.priority is not a number"


def test_an_unknown_task_is_well_formed() -> None:
    assert problem_of(UNKNOWN_TASK["unknown task"]) is None


@settings(max_examples=examples(300))
@given(mutations())
def test_any_message_gets_an_answer_that_does_not_quote_it(message: bytes) -> None:
    problem = problem_of(message)
    assert problem is None or len(problem) < 80


@pytest.mark.parametrize("where", ["headers", "properties", "body"])
def test_a_problem_never_quotes_a_secret(where: str) -> None:
    message = task_message()
    secret = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    if where == "headers":
        message["headers"] |= {"eta": secret, "retries": secret}
    elif where == "properties":
        message["properties"]["priority"] = secret
    else:
        message["body"] = [secret, {}, {}]
    problem = problem_of(encoded(message))
    assert problem
    assert "eyJ" not in problem
