"""Messages of the release in which two requests and their steps shared a name are still understood."""

import pytest

from tasks.tasks import _is_a_step


@pytest.mark.parametrize(
    "message",
    [
        {"merchant_id": "m-1", "run": 3, "attempt": 1},
        {"merchant_id": "m-1", "run": 3, "slot": "order-submit", "attempt": 2},
        {"merchant_id": "m-1@2", "run": 2, "slot": None},
    ],
)
def test_a_step_under_the_name_of_a_request_is_a_step(message: dict[str, object]) -> None:
    assert _is_a_step(message)


@pytest.mark.parametrize(
    "message",
    [
        {"merchant_id": "m-1"},
        {"merchant_id": "m-1", "repair": True},
        {"merchant_id": "m-1", "forget": "now", "request_id": "r-1"},
        {"merchant_id": "m-1", "run": "3"},
        {"merchant_id": 1, "run": 3},
        {"run": 3},
    ],
)
def test_a_request_is_none(message: dict[str, object]) -> None:
    assert not _is_a_step(message)
