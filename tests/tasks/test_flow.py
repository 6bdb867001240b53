"""The order of the steps, as the specification has it."""

from integrations.connections.record import Step
from integrations.oracle_commerce.steps import STEPS
from tasks.flow import FLOW


def test_the_key_comes_first_then_shipping_methods_then_the_slots() -> None:
    assert FLOW.first is Step.VALIDATE_KEY
    assert FLOW.after(Step.VALIDATE_KEY) is Step.CHECK_SHIPPING_METHODS
    assert FLOW.after(Step.CHECK_SHIPPING_METHODS) is Step.REGISTER_SLOT


def test_nothing_follows_the_slots_nor_a_departure() -> None:
    assert FLOW.after(Step.DISCONNECT) is Step.DISCONNECT
    assert FLOW.after(Step.REGISTER_SLOT) is Step.REGISTER_SLOT


def test_every_step_is_in_the_flow_once_and_known_at_the_store() -> None:
    assert sorted(FLOW.steps) == sorted(set(Step) - {Step.DISCONNECT})
    assert set(STEPS) == set(Step)
