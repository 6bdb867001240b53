"""What a producer asks for beside the task: settled before Celery sees it, or set aside with a sentence."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.worker.broker.options import NOT_BEFORE, settle_options

NOW = 1_800_000_000.0
BODY = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat()


def settled(body: object = BODY, **headers: object) -> tuple[str | None, dict[str, Any]]:
    given: dict[str, Any] = {"task": "occ.connect", "eta": None, "expires": None, "timelimit": [None, None], **headers}
    return settle_options(given, body, NOW), given


def test_an_eta_is_taken_from_celery_and_kept_for_the_task() -> None:
    problem, headers = settled(eta=at(3600))
    assert problem is None
    assert headers["eta"] is None
    assert headers[NOT_BEFORE] == at(3600)


def test_time_limits_of_a_producer_end_no_process() -> None:
    assert settled(timelimit=[0.001, 0.001])[1]["timelimit"] == [None, None]


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"expires": at(-1)}, "it has expired"),
        ({"expires": at(60), "eta": at(3600)}, "it expires before it is to be carried out"),
        ({"expires": at(60)}, None),
        ({"expires": at(3600), "eta": at(60)}, None),
    ],
)
def test_what_expires_is_carried_out_in_time_or_set_aside(headers: dict[str, object], problem: str | None) -> None:
    found, left = settled(**headers)
    assert found == problem
    if problem is None:
        assert left["expires"] is None


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain"])
def test_what_is_linked_is_set_aside_with_a_remedy(name: str) -> None:
    problem, _ = settled(body=[[], {}, {name: [{"task": "theirs.report"}]}])
    assert problem is not None
    assert "follow the events instead" in problem
