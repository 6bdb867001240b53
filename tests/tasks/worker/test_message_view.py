import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from celery import Celery, Task
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.message import Message
from kombu.utils.json import dumps

from tasks.worker.message_view import Request, ids_of, ids_of_task, named
from tests.examples import examples

CANARY = "c4nary-hunter2"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"


class Quiet(Task):  # type: ignore[type-arg]
    Request = "tasks.worker.message_view:Request"


app = Celery("test", broker="memory://", task_cls=Quiet, set_as_current=False)


@app.task(name="occ.connect", shared=False)
def connect(merchant_id: str, store_url: str, application_key: str) -> None: ...


class Flower:
    """Stands where worker events go out."""

    enabled = True

    def __init__(self) -> None:
        self.seen: list[object] = []

    def send(self, name: str, **fields: object) -> None:
        self.seen.append({"name": name, **fields})


def received(args: Any = (), kwargs: Any = None, flower: Flower | None = None, **headers: object) -> Request:
    """The message of a foreign producer, as it is when a worker has just fetched it."""
    description: dict[str, object] = {"argsrepr": CANARY, "kwargsrepr": CANARY}
    protocol: dict[str, object] = {
        "lang": "php",
        "task": "occ.connect",
        "id": "task-1",
        "retries": 0,
        "eta": None,
        "expires": None,
    }
    all_headers: Any = {**protocol, **description, **headers}
    message = Message(
        body=dumps([args, kwargs or {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
        headers=all_headers,
        properties={"correlation_id": "task-1"},
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={"exchange": "", "routing_key": "occ"},
    )
    request = Request(message, app=app, task=app.tasks["occ.connect"], hostname="w1", eventer=flower)
    assert isinstance(request, Request)
    return request


def everything_shown(request: Request) -> str:
    return " ".join(
        map(
            str,
            [
                request,
                repr(request),
                request.name,
                request.argsrepr,
                request.kwargsrepr,
                request.info(),
                request.info(safe=True),
            ],
        )
    )


REQUEST = {"merchant_id": "m-1", "store_url": "https://ccadmin-test.example.com", "application_key": CANARY}


def test_only_ids_and_the_store_are_shown_of_a_message() -> None:
    request = received(kwargs=REQUEST)
    assert request.argsrepr == "root_id:task-1"
    assert request.kwargsrepr == "{'merchant_id': 'm-1', 'store_url': 'https://ccadmin-test.example.com'}"
    assert CANARY not in everything_shown(request)


def test_a_request_begins_a_chain_whatever_it_was_part_of_where_it_came_from() -> None:
    flower = Flower()
    request = received(kwargs=REQUEST, flower=flower, root_id="theirs", parent_id="theirs-too")
    assert (request.root_id, request.parent_id) == ("task-1", None)


def test_a_step_stays_in_its_chain() -> None:
    step = received(kwargs={"merchant_id": "m-1", "run": 1}, root_id="1795446120000-0", parent_id="a-task")
    assert (step.root_id, step.parent_id) == ("1795446120000-0", "a-task")
    assert step.argsrepr == "root_id:1795446120000-0"


@pytest.mark.parametrize("root_id", ["x" * 129, "a\nb", JWT, None])
def test_a_root_that_is_no_id_is_not_shown_among_the_arguments(root_id: str | None) -> None:
    assert received(kwargs={"run": 1}, root_id=root_id).argsrepr == "root_id:none"


def test_the_task_still_gets_what_was_sent() -> None:
    request = received(kwargs=REQUEST)
    assert request.kwargs == REQUEST
    assert json.loads(request.body)[1] == REQUEST


def test_arguments_without_names_are_shown_by_their_names() -> None:
    request = received(args=["m-1", "https://ccadmin-test.example.com", CANARY])
    assert request.kwargsrepr == "{'merchant_id': 'm-1', 'store_url': 'https://ccadmin-test.example.com'}"
    assert CANARY not in everything_shown(request)


def test_what_goes_on_to_the_process_that_runs_the_task_describes_it_as_shown() -> None:
    headers = received(kwargs=REQUEST, shadow=CANARY).request_dict
    assert headers["argsrepr"] == "root_id:task-1"
    assert CANARY not in headers["kwargsrepr"]
    assert headers["shadow"] is None


def test_a_producer_cannot_have_a_task_shown_under_another_name() -> None:
    request = received(kwargs=REQUEST, shadow=CANARY)
    assert request.name == "occ.connect"
    assert CANARY not in everything_shown(request)


@pytest.mark.parametrize(
    "store_url",
    [f"https://user:{CANARY}@store.example.com", f"https://store.example.com/?key={CANARY}", f"https://store.example.com/{CANARY}",
     f"{CANARY} ", 5, None, [CANARY], "https://" + "a" * 500],
)  # fmt: skip
def test_a_store_url_that_holds_more_than_a_host_is_not_shown(store_url: object) -> None:
    request = received(kwargs={**REQUEST, "store_url": store_url})
    assert request.kwargsrepr == "{'merchant_id': 'm-1'}"
    assert CANARY not in everything_shown(request)


@pytest.mark.parametrize(
    ("summary", "told"),
    [
        ({"outcome": "registered"}, {"name": "task-succeeded"}),
        ({"outcome": "failed", "cause": "x"}, {"name": "task-failed", "exception": "failed: x"}),
        ({"outcome": "waits", "cause": "x"}, {"name": "task-retried", "exception": "waits: x"}),
    ],
)
def test_flower_hears_how_a_task_really_ended(summary: dict[str, object], told: dict[str, object]) -> None:
    flower = Flower()
    request = received(flower=flower)
    request.send_event("task-succeeded", result=repr(summary), runtime=0.5)
    assert flower.seen == [{"uuid": "task-1", "result": repr(summary), "runtime": 0.5, **told}]


def test_what_flower_hears_is_redacted() -> None:
    flower = Flower()
    request = received(kwargs=REQUEST, flower=flower)
    request.send_event(
        "task-failed", exception=f"ValueError('Bearer {CANARY}')", traceback=f"token='{CANARY}'", runtime=0.5
    )
    request.send_event("task-succeeded", result=f"{{'access_token': '{CANARY}', 'outcome': 'connected'}}")
    assert CANARY not in str(flower.seen)
    assert "connected" in str(flower.seen)
    assert "'runtime': 0.5" in str(flower.seen)


def test_the_ids_of_a_message_are_known_by_its_task_id_while_it_is_held() -> None:
    request = received(kwargs={"merchant_id": "m-1", "run": 3, "slot": "order-submit", "attempt": 2}, id="task-9")
    ids = {"merchant_id": "m-1", "run": 3, "slot": "order-submit", "attempt": 2}
    assert ids_of_task(["something", None, 5, "task-9"]) == {"task": "occ.connect", "task_id": "task-9", **ids}
    assert ids_of_task(["task-8"]) == {}
    del request
    assert ids_of_task(["task-9"]) == {}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("m-1", True),
        (3, True),
        ("Müller & Söhne", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a\nb", False),
        ("\x1b[2J", False),
        ("a\u202eb", False),
        (True, False),
        (1.5, False),
        (None, False),
        (["m-1"], False),
        ({"a": 1}, False),
        (b"m-1", False),
    ],
)
def test_ids_are_short_printable_texts_or_whole_numbers(value: object, shown: bool) -> None:
    assert ids_of({"merchant_id": value}) == ({"merchant_id": value} if shown else {})


def test_a_key_in_the_place_of_an_id_is_redacted() -> None:
    assert ids_of({"merchant_id": JWT}) == {"merchant_id": "[redacted]"}


@pytest.mark.parametrize("arguments", [{}, {"other": 1}, {1: 2}, {"application_key": CANARY, "Merchant_id": "m-1"}])
def test_other_arguments_are_no_ids(arguments: Mapping[Any, Any]) -> None:
    assert ids_of(arguments) == {}


ANYTHING = st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
NAMES = st.sampled_from(["merchant_id", "run", "slot", "attempt", "store_url", "x"])


@settings(max_examples=examples(40))
@given(ANYTHING, st.dictionaries(NAMES, ANYTHING))
def test_no_message_is_too_malformed_to_be_described(args: object, kwargs: dict[str, object]) -> None:
    request = received(args=args, kwargs=kwargs)
    assert request.argsrepr == f"root_id:{request.root_id or 'none'}"
    everything_shown(request)
    assert isinstance(named(request.task, args, kwargs), dict)
    pickle.dumps(request.request_dict)
