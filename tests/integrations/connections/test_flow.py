"""The order of the steps, as the specification has it."""

import pytest

from integrations.connections.lifecycle import flow
from integrations.connections.record import Step
from integrations.oracle_commerce.steps import STEPS


def test_the_key_comes_first_then_shipping_methods_then_the_slots() -> None:
    assert flow.FIRST is Step.VALIDATE_KEY
    assert flow.after(Step.VALIDATE_KEY) is Step.CHECK_SHIPPING_METHODS
    assert flow.after(Step.CHECK_SHIPPING_METHODS) is Step.REGISTER_SLOT


@pytest.mark.parametrize("step", [Step.REGISTER_SLOT, Step.DISCONNECT])
def test_nothing_follows_the_slots(step: Step) -> None:
    with pytest.raises(ValueError, match=r"slots|not in"):
        flow.after(step)


def test_every_step_is_known_at_the_store() -> None:
    assert {*flow.ORDER, Step.DISCONNECT} == set(Step) == set(STEPS)
