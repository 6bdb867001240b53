"""A request that could not be recorded goes back to its queue; a step message of an earlier release is still read."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.exceptions import Reject

from integrations.errors import TransientError
from integrations.oracle_commerce.accept import Door
from integrations.sealing.keyring import SealingKey
from tasks import doors
from tests.pipeline import REPOSITORY


def task(**headers: object) -> Any:
    return SimpleNamespace(request=SimpleNamespace(**{"id": "task-1", **headers}))


@pytest.mark.parametrize("error", [TransientError("server_full"), redis.ConnectionError("gone")])
def test_a_request_that_could_not_be_recorded_goes_back_to_the_queue(error: Exception) -> None:
    def answer(*_: object) -> dict[str, object]:
        raise error

    with pytest.raises(Reject) as rejected:
        doors.from_queue(answer, task(), (), {"merchant_id": "m-1"})
    assert rejected.value.requeue is True  # type: ignore[attr-defined]


def test_a_request_comes_with_the_trace_of_its_producer() -> None:
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    taken: list[object] = []

    def answer(request: object, origin: doors.Origin) -> dict[str, object]:
        taken.append((request, origin))
        return {}

    doors.from_queue(answer, task(traceparent=trace, id="a-message"), (), {"merchant_id": "m-1"})
    doors.from_queue(answer, task(traceparent="nonsense", id="\n"), ("a", "b"), {})
    assert taken == [
        ({"merchant_id": "m-1"}, doors.Origin(Door.CELERY, trace, "a-message")),
        (["a", "b"], doors.Origin(Door.CELERY)),
    ]


CALLS = """
import json
from tasks import tasks
calls = [
    (tasks.revalidate, {"run": 2, "attempt": 1}),
    (tasks.disconnect, {"run": 2, "slot": "order-submit", "attempt": 1}),
    (tasks.revalidate, {}),
    (tasks.revalidate, {"run": "2"}),
    (tasks.disconnect, {"forget": "now"}),
    (tasks.disconnect, {"run": 2, "slot": 7}),
]
print(json.dumps([task.run(merchant_id="m-1", **rest) for task, rest in calls]))
"""


REPORTS = """
import json
from celery.exceptions import Reject
from tasks import tasks
calls = [
    ((), {"merchant_id": "m-1", "slot": "order-submit", "at": 1}),
    ((), {"reports": [{"merchant_id": "m-1", "slot": "order-submit"}, {"merchant_id": "m-2", "slot": "order-submit"}]}),
    ((), {"merchant_id": "m-1"}),
    (("m-1",), {}),
]
print(json.dumps([task.run(*args, **report) for task, (args, report) in ((tasks.heard, call) for call in calls)]))
"""


OF_TOMORROW = """
import json
from tasks import tasks
steps = [tasks.validate_key, tasks.revalidate_key, tasks.check_shipping_methods]
steps += [tasks.register_slot, tasks.disconnect_slot]
about = {"merchant_id": "m-1", "run": 1, "attempt": 1, "of_tomorrow": {"x": 1}}
slots = {"occ.register_slot", "occ.disconnect_slot"}
print(json.dumps([it.run(**about, **({"slot": "order-update"} if it.name in slots else {})) for it in steps]))
"""


@pytest.mark.server
def test_what_a_newer_release_adds_to_a_message_is_ignored(redis_url: str) -> None:
    nothing = {"outcome": "nothing_to_do", "reason": "unknown_connection"}
    assert answers_of(OF_TOMORROW, redis_url) == [nothing] * 5


@pytest.mark.server
def test_reports_come_one_by_one_or_many_at_once_and_of_whom_nobody_knows_are_harmless(redis_url: str) -> None:
    answers = answers_of(REPORTS, redis_url)
    assert answers[:2] == [
        {"outcome": "accepted", "reports": 0, "unknown": 1},
        {"outcome": "accepted", "reports": 0, "unknown": 2},
    ]
    assert [(answer["outcome"], answer["code"]) for answer in answers[2:]] == [
        ("refused", "bad_slot"),
        ("refused", "not_an_object"),
    ]


@pytest.mark.server
def test_a_step_sent_under_the_name_of_a_request_is_still_run_and_all_else_is_a_request(redis_url: str) -> None:
    *steps, _, _, _, _ = answers = answers_of(CALLS, redis_url)
    assert steps == [{"outcome": "nothing_to_do", "reason": "unknown_connection"}] * 2
    assert [answer["outcome"] for answer in answers[2:]] == ["refused"] * 4, "nobody has connected m-1"


def answers_of(calls: str, redis_url: str) -> list[dict[str, Any]]:
    """What tasks answer in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", calls],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "OCC_REDIS_URL": redis_url,
            "OCC_SEALING_KEYS": SealingKey.generate().export(),
            "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers
