"""The order of the steps of a run. It stands here and nowhere else.

    occ.connect -> occ.validate_key -> occ.check_shipping_methods -> occ.register_slot x 4

`occ.connect` accepts the request; the others are steps at the store. Nothing follows the slots: whether a connection is
active is derived from them, so that no slot waits for another. A re-validation takes the same way, as `occ.revalidate`;
`occ.disconnect` is a way of its own, slot by slot.
"""

from dataclasses import dataclass

from integrations.connections.record import Step


@dataclass(frozen=True, slots=True)
class Flow:
    """Steps in order."""

    steps: tuple[Step, ...]

    @property
    def first(self) -> Step:
        """Where a run and a re-validation begin."""
        return self.steps[0]

    def after(self, step: Step) -> Step:
        """The step that follows; the last is followed by itself, slot by slot."""
        if step not in self.steps:
            return step
        position = self.steps.index(step)
        return self.steps[min(position + 1, len(self.steps) - 1)]


FLOW = Flow((Step.VALIDATE_KEY, Step.CHECK_SHIPPING_METHODS, Step.REGISTER_SLOT))
