"""Queue messages as foreign producers send them: right ones, the known poison, and mutations of a right one."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

QUEUE = "occ"
NOTE = "test.note"

Path = tuple[str | int, ...]


def task_message(
    *args: object, task: str = NOTE, headers: dict[str, object] | None = None, **kwargs: object
) -> dict[str, Any]:
    """A protocol 2 message as the documentation describes it, with its body not yet encoded."""
    return {
        "body": [list(args), kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": "6f1b0c1e-0000-4000-8000-000000000001",
            "root_id": "6f1b0c1e-0000-4000-8000-000000000001",
            "parent_id": None,
            "group": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "producer",
            "ignore_result": True,
        }
        | (headers or {}),
        "properties": {
            "correlation_id": "6f1b0c1e-0000-4000-8000-000000000001",
            "reply_to": None,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "6f1b0c1e-0000-4000-8000-000000000002",
        },
    }


def encoded(message: Any) -> bytes:
    """The message as it lies in the queue."""
    message = copy.deepcopy(message)
    if isinstance(message, dict) and "body" in message and not isinstance(message["body"], str):
        message["body"] = base64.b64encode(json.dumps(message["body"]).encode()).decode()
    return json.dumps(message).encode()


def good(mark: object = "good") -> bytes:
    """A message the worker of the tests can run: it notes `mark`."""
    return encoded(task_message(mark=mark))


def _with(change: Callable[[dict[str, Any]], object]) -> bytes:
    message = task_message(mark="poison")
    change(message)
    return encoded(message)


def _without(name: str) -> bytes:
    message = task_message(mark="poison")
    del message[name]
    return encoded(message)


def _headers(**changes: object) -> bytes:
    return encoded(task_message(mark="poison", headers=changes))


def _fields(**changes: object) -> bytes:
    return encoded(task_message(mark="poison") | {name.replace("_", "-"): value for name, value in changes.items()})


NO_MESSAGES = {
    "empty string": b"",
    "not JSON": b"not JSON",
    "a JSON list": b"[]",
    "an empty object": b"{}",
    "no properties": _without("properties"),
    "no body": _without("body"),
    "bad base64": _fields(body="A"),
}
NO_TASKS = {
    "body not a triple": _fields(body=[[], {}]),
    "time limit not a pair": _headers(timelimit=[1]),
    "body not JSON": _fields(body=base64.b64encode(b"not JSON").decode()),
    "pickle": _fields(content_type="application/x-python-serialize"),
    "yaml": _fields(content_type="application/x-yaml"),
    "bad eta": _headers(eta="tomorrow"),
    "bad expires": _headers(expires=["soon"]),
    "empty headers": _with(lambda message: message["headers"].clear()),
    "args not a list": _fields(body=["args", {}, {}]),
    "retries not a count": _headers(retries="many"),
}
UNKNOWN_TASK = {"unknown task": encoded(task_message(task="test.nobody_has_this"))}
POISON = NO_MESSAGES | NO_TASKS | UNKNOWN_TASK
"""The matrix of known poison: each of these ended a stock worker, was lost, or was silently wrong."""

MORE_POISON = {
    "not UTF-8": b"\xff\xfe{}",
    "a number of too many digits": b"[" + b"9" * 5000 + b"]",
    "endless nesting": b"[" * 50_000,
    "deep nesting": _headers(extra=json.loads("[" * 300 + "]" * 300)),
    "half a character": _headers(id="\ud800"),
    "a type Kombu cannot rebuild": _fields(headers={"__type__": "datetime", "__value__": "x"}),
    "a compressed body": _headers(compression="application/x-gzip"),
    "priority that is no number": _with(lambda message: message["properties"].update(priority="high")),
    "infinite priority": _with(lambda message: message["properties"].update(priority=float("inf"))),
    "delivery info not an object": _with(lambda message: message["properties"].update(delivery_info=["occ"])),
    "unknown body encoding": _with(lambda message: message["properties"].update(body_encoding="rot13")),
    "body not text": json.dumps(task_message(mark="poison")).encode(),
    "headers a list": _fields(headers=[1]),
    "content type a number": _fields(content_type=5),
    "content encoding unknown": _fields(content_encoding="koi8-r"),
    "data that is not decoded": _fields(content_type="application/data"),
    "empty body": _fields(body=""),
    "kwargs not an object": _fields(body=[[], [], {}]),
    "embed not an object": _fields(body=[[], {}, 5]),
    "callbacks not a list": _fields(body=[[], {}, {"callbacks": 5}]),
    "a chain of numbers": _fields(body=[[], {}, {"chain": [1]}]),
    "chord not a signature": _fields(body=[[], {}, {"chord": "x"}]),
    "embed that overrides": _fields(body=[[], {}, {"delivery_info": 5}]),
    "id a number": _headers(id=5),
    "id very long": _headers(id="x" * 1000),
    "task not text": _headers(task=["test.note"]),
    "empty eta": _headers(eta=""),
    "negative time limit": _headers(timelimit=[-1, None]),
    "endless time limit": _headers(timelimit=[float("inf"), None]),
    "stamps that are no list": _headers(stamped_headers=5),
    "stamps that are no object": _headers(stamped_headers=["a"], stamps=["a"]),
    "a header that hides a method": _headers(get=5),
    "a header that belongs in the body": _headers(chord=5),
    "protocol 1": encoded(
        task_message() | {"headers": {}, "body": {"task": NOTE, "id": "1", "args": [], "kwargs": {"mark": "poison"}}}
    ),
}

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.sampled_from(
        [
            "",
            "x" * 300,
            "\ud800",
            "base64",
            "utf-16",
            "2026-13-45",
            "\0",
            2**70,
            [None],
            [[], {}],
            [[], {}, {}, {}],
            {"__type__": "datetime", "__value__": "x"},
            {"__type__": ["x"], "__value__": 1},
            {"args": [], "kwargs": {}},
            json.loads("[" * 80 + "]" * 80),
        ]
    ),
)


def _paths(value: object, path: Path = ()) -> list[Path]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, part in inside for found in _paths(part, (*path, key)))]


def _edited(value: Any, path: Path, edit: str, junk: Any) -> Any:
    if not path:
        return {"replace": junk, "delete": None, "wrap": [value]}.get(edit, {**value, "extra": junk})
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if edit == "delete":
        del parent[path[-1]]
    elif edit == "add" and isinstance(parent[path[-1]], dict):
        parent[path[-1]][junk if isinstance(junk, str) else "extra"] = junk
    else:
        parent[path[-1]] = [parent[path[-1]]] if edit == "wrap" else junk
    return value


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A message that was right until something in it was replaced, left out, wrapped, added, cut or flipped."""
    message: Any = task_message(mark="generated")
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(message, dict):
            break
        path = draw(st.sampled_from(_paths(message)))
        message = _edited(
            message,
            path,
            draw(st.sampled_from(["replace", "replace", "delete", "wrap", "add"])),
            copy.deepcopy(draw(_JUNK)),
        )
    text = encoded(message)
    if draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.sampled_from([b"", b"\0", b"\xff", b'"', b"}", b"\\ud800"])) + text[cut + 1 :]
    return text


def generated(count: int, random_seed: int) -> list[bytes]:
    """`count` different mutations, always the same for a seed."""
    found: dict[bytes, None] = {}

    @seed(random_seed)
    @settings(
        max_examples=2 * count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations())
    def collect(message: bytes) -> None:
        found.setdefault(message)

    collect()
    assert len(found) >= count
    return list(found)[:count]
