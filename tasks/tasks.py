"""The tasks, and nothing but their definitions. What each does is one call; their order is in
`integrations/connections/lifecycle/flow.py`.

Names and arguments are a contract with producers and dashboards. Only ids travel between tasks. What else is
among the arguments of a step (`attempt`, for those who watch, and whatever a newer release adds) is ignored.

Requests, from other systems: `occ.connect`, `occ.revalidate`, `occ.disconnect`, `occ.heard`. Steps, from `dispatch.py`:
`occ.validate_key` or `occ.revalidate_key`, `occ.check_shipping_methods`, `occ.register_slot`, `occ.disconnect_slot`.
The clock, from beat: `occ.tick`. Events for the receiver: `occ.deliver`.
"""

from typing import Any

from integrations.connections.record import Step, Target
from tasks import doors, step
from tasks.celery import QuietTask as Task
from tasks.celery import app
from tasks.delivery import deliver_outbox
from tasks.tick import run_tick
from tasks.wiring import wiring


@app.task(name="occ.connect", shared=False, bind=True)
def connect(self: Task, /, *args: object, **request: object) -> dict[str, object]:
    """Connect a merchant to a store, or give a connection a new key."""
    return doors.from_queue(doors.connect, self, args, request)


@app.task(name="occ.revalidate", shared=False, bind=True)
def revalidate(self: Task, /, *args: object, **request: Any) -> dict[str, object]:
    """Re-validate a connection now."""
    if _is_a_step(request):
        return step.run(self, request["merchant_id"], request["run"], Target(Step.VALIDATE_KEY))
    return doors.from_queue(doors.revalidate, self, args, request)


@app.task(name="occ.disconnect", shared=False, bind=True)
def disconnect(self: Task, /, *args: object, **request: Any) -> dict[str, object]:
    """Take our callback URLs out of a store and forget its application key."""
    if _is_a_step(request):
        return step.run(self, request["merchant_id"], request["run"], Target(Step.DISCONNECT, request.get("slot")))
    return doors.from_queue(doors.disconnect, self, args, request)


@app.task(name="occ.heard", shared=False, bind=True)
def heard(self: Task, /, *args: object, **report: object) -> dict[str, object]:
    """Note that a slot was heard from: somebody has received a delivery."""
    return doors.heard_from_queue(self, args, report)


def _is_a_step(request: dict[str, Any]) -> bool:
    """Whether the message was sent by a release in which these two requests and their steps shared a name.

    To be removed with the release after 0.1.
    """
    kinds = {"merchant_id": str, "run": int, "slot": str | None}
    return all(isinstance(request.get(name), kind) for name, kind in kinds.items())


@app.task(name="occ.validate_key", shared=False, bind=True)
def validate_key(self: Task, /, merchant_id: str, run: int, **_: object) -> dict[str, object]:
    """Exchange the application key for an access token."""
    return step.run(self, merchant_id, run, Target(Step.VALIDATE_KEY))


@app.task(name="occ.revalidate_key", shared=False, bind=True)
def revalidate_key(self: Task, /, merchant_id: str, run: int, **_: object) -> dict[str, object]:
    """The same for a connection that has worked: the first step of a re-validation."""
    return step.run(self, merchant_id, run, Target(Step.VALIDATE_KEY))


@app.task(name="occ.check_shipping_methods", shared=False, bind=True)
def check_shipping_methods(self: Task, /, merchant_id: str, run: int, **_: object) -> dict[str, object]:
    """Check that the store has an enabled shipping method."""
    return step.run(self, merchant_id, run, Target(Step.CHECK_SHIPPING_METHODS))


@app.task(name="occ.register_slot", shared=False, bind=True)
def register_slot(self: Task, /, merchant_id: str, run: int, slot: str, **_: object) -> dict[str, object]:
    """Put our callback URL into one slot."""
    return step.run(self, merchant_id, run, Target(Step.REGISTER_SLOT, slot))


@app.task(name="occ.disconnect_slot", shared=False, bind=True)
def disconnect_slot(self: Task, /, merchant_id: str, run: int, slot: str, **_: object) -> dict[str, object]:
    """Take our callback URL out of one slot."""
    return step.run(self, merchant_id, run, Target(Step.DISCONNECT, slot))


@app.task(name="occ.tick", shared=False, bind=True, send_events=False)
def tick(self: Task) -> dict[str, object]:
    """Take requests from the inbox, and dispatch the work that is due."""
    return run_tick(wiring(), self.request.hostname)


@app.task(name="occ.deliver", shared=False)
def deliver(merchant_id: str, **_: object) -> dict[str, object]:
    """Deliver the waiting events of one merchant, oldest first. `:operators` has the events for operators."""
    return deliver_outbox(wiring(), merchant_id)
