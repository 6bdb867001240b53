"""The order of the steps of a run. It stands here and nowhere else. Pure.

    validate the key -> check shipping methods -> register the slots, each on its own

Nothing follows the slots: whether a connection is active is derived from them, so that no slot waits for another. A
re-validation takes the same way. Disconnecting is a way of its own, slot by slot.
"""

from integrations.connections.record import Step

ORDER = (Step.VALIDATE_KEY, Step.CHECK_SHIPPING_METHODS, Step.REGISTER_SLOT)

FIRST = ORDER[0]
"""Where a run and a re-validation begin."""


def after(step: Step) -> Step:
    """The step that follows. Raises ValueError after the last: slots have no step to go on to."""
    position = ORDER.index(step) + 1
    if position == len(ORDER):
        raise ValueError("nothing follows the slots")
    return ORDER[position]
