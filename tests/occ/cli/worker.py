"""Plays what workers do to a record, with the real transitions and without stores; on a server or in memory."""

from collections.abc import Callable, Mapping

from integrations.connections.change import Change, Moment, Stop
from integrations.connections.lifecycle import claims, outcomes, requests
from integrations.connections.lifecycle.outcomes import Failed, KeyProven, ShippingMethodsChecked, SlotRegistered
from integrations.connections.lifecycle.requests import Desired
from integrations.connections.record import Cause, Connection, Step, Target
from integrations.connections.records import Records
from tests.usual import PACE
from tests.waiting import wait_until

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
Outcome = Callable[[Connection, Moment], Change]
Decision = Callable[[Connection | None, Moment], Change | Stop]

KEY, SHIPPING = Target(Step.VALIDATE_KEY), Target(Step.CHECK_SHIPPING_METHODS)


class Worker:
    """Each method is one step of one merchant's run."""

    def __init__(self, records: "Records | Notebook") -> None:
        self._records = records

    def await_run(self, merchant_id: str = "m-1") -> None:
        """Wait until a request has been accepted."""
        records = self._records
        assert isinstance(records, Records)
        wait_until(lambda: records.load(merchant_id).connection is not None, what="a request")

    def begin(self, merchant_id: str = "m-1", store_url: str = "https://ccadmin-z1a2.oracleoutsourcing.com") -> None:
        """A request was accepted."""
        desired = Desired(merchant_id, store_url, "sealed.v1.k.x", "f" * 16, None, dict.fromkeys(SLOTS, True))
        self._change(merchant_id, lambda connection, at: requests.begin(connection, desired, at))

    def connect(self, merchant_id: str = "m-1", failing: Mapping[str, Cause] | None = None) -> None:
        """A whole run; the slots in `failing` end for good with their cause."""
        self.begin(merchant_id)
        self.finish(merchant_id, failing)

    def finish(self, merchant_id: str = "m-1", failing: Mapping[str, Cause] | None = None) -> None:
        """The rest of a run that has begun."""
        self.prove_key(merchant_id)
        self.count_shipping_methods(2, merchant_id)
        for slot in SLOTS:
            cause = (failing or {}).get(slot)
            if cause is None:
                self.register(slot, merchant_id)
            else:
                self.end(Target(Step.REGISTER_SLOT, slot), cause, merchant_id)

    def prove_key(self, merchant_id: str = "m-1") -> None:
        """The store exchanges the key."""
        self._do(KEY, merchant_id, lambda it, at: outcomes.record(it, KEY, KeyProven(), at))

    def refuse_key(self, merchant_id: str = "m-1") -> None:
        """The store says no to the key, once."""
        cause = Cause("key_rejected", "HTTP 401")
        self._do(KEY, merchant_id, lambda it, at: outcomes.record(it, KEY, Failed(cause), at))

    def count_shipping_methods(self, enabled: int, merchant_id: str = "m-1") -> None:
        """The store tells of so many."""
        self._do(
            SHIPPING, merchant_id, lambda it, at: outcomes.record(it, SHIPPING, ShippingMethodsChecked(enabled), at)
        )

    def register(self, slot: str, merchant_id: str = "m-1") -> None:
        """Our callback URL is in the slot."""
        target = Target(Step.REGISTER_SLOT, slot)
        self._do(
            target,
            merchant_id,
            lambda it, at: outcomes.record(it, target, SlotRegistered(True), at),
        )

    def wait(self, target: Target, cause: Cause, seconds: float, merchant_id: str = "m-1") -> None:
        """An attempt fails, and may be repeated after so many seconds."""
        self._do(target, merchant_id, lambda it, at: outcomes.record(it, target, Failed(cause, seconds), at))

    def end(self, target: Target, cause: Cause, merchant_id: str = "m-1") -> None:
        """A step ends for good."""
        self._do(target, merchant_id, lambda it, at: outcomes.record(it, target, Failed(cause), at))

    def claim(self, target: Target, merchant_id: str = "m-1") -> None:
        """The step is begun."""
        self._change(merchant_id, lambda it, at: claims.claim(_there(it), _there(it).run, target, "w", at))

    def _do(self, target: Target, merchant_id: str, outcome: Outcome) -> None:
        self.claim(target, merchant_id)
        self._change(merchant_id, lambda it, at: outcome(_there(it), at))

    def _change(self, merchant_id: str, decide: Decision) -> None:
        done = self._records.change(merchant_id, lambda it, now: decide(it, Moment(now, PACE)))
        assert not isinstance(done, Stop), done


class Notebook:
    """One connection in memory, at a time the test sets."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """What is written down."""
        return _there(self._connection)

    def change(self, _: str, decide: Callable[[Connection | None, float], Change | Stop]) -> Change | Stop:
        """As `Records.change` does."""
        decided = decide(self._connection, self.now)
        if isinstance(decided, Change):
            self._connection = decided.connection
        return decided


def slot(name: str) -> Target:
    """The registration of one slot."""
    return Target(Step.REGISTER_SLOT, name)


def _there(connection: Connection | None) -> Connection:
    assert connection is not None
    return connection
