"""The merchants of the demo: what the store of each one does, and how its connection has to end. Data, and pure.

`settings` are the simulator's (see occ/simulator); everything else is in the words of the records.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from types import MappingProxyType

from integrations.connections.record import ConnectionStatus, SlotStatus

SLOTS = ("order-submit", "order-update", "shipment-create", "shipment-update")
ONE_OF_EACH = MappingProxyType({"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4})
"""The calls that connecting a store takes when nothing is in the way."""

SlotEnd = tuple[SlotStatus, str | None]
"""How a slot ends: its status and its cause."""

REGISTERED: SlotEnd = (SlotStatus.REGISTERED, None)
NEVER_TRIED: SlotEnd = (SlotStatus.PENDING, None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not taken on: the field, the code, and what the remedy has to name."""

    field: str
    code: str
    named: str


@dataclass(frozen=True, slots=True)
class Part:
    """One merchant. Unless it says otherwise, its store is healthy and its connection ends as it should."""

    name: str
    store: str
    """What the store does, in a few words that follow its name."""

    settings: Mapping[str, object] = field(default_factory=dict)
    store_url: str | None = None
    """What the request names instead of the store's own address."""

    refusal: Refusal | None = None
    """The request is refused; there is no connection then, and no call."""

    status: ConnectionStatus = ConnectionStatus.ACTIVE
    slots: Mapping[str, SlotEnd] = field(default_factory=dict)
    """The slots that do not end registered."""

    findings: tuple[str, ...] = ()
    """The codes, in order."""

    calls: Mapping[str, int] | None = field(default_factory=lambda: ONE_OF_EACH)
    """How often each endpoint is called, exactly; None where that depends on who comes first."""

    met: Mapping[str, int] = field(default_factory=dict)
    """What must have come of calls at the store at least so often, as `login 503` or `hang`; else it did not play."""

    @property
    def is_healthy(self) -> bool:
        """Nothing is in the way of connecting it."""
        return self.refusal is None and self.calls == ONE_OF_EACH and self.status is ConnectionStatus.ACTIVE

    @property
    def foreign_urls(self) -> Mapping[str, tuple[str, ...]]:
        """What other integrators have in its slots."""
        slots = self.settings.get("slots", {})
        contents = slots if isinstance(slots, Mapping) else {}
        return {slot: tuple(content["urls"]) for slot, content in contents.items()}

    def end_of(self, slot: str) -> SlotEnd:
        """How one slot has to end."""
        return self.slots.get(slot, REGISTERED)


def cast(merchants: int) -> list[Part]:
    """The parts of so many merchants: the most telling first, healthy stores of several kinds after them."""
    return list(islice(_everybody(), merchants))


def _everybody() -> Iterator[Part]:
    yield from _LISTED
    for number, kind in enumerate(cycle(_HEALTHY), start=2):
        yield replace(kind, name=f"healthy-{number}")


def _shared_with(*integrators: str) -> Mapping[str, object]:
    """Slots that these already use, each with settings of its own that must stay as well."""
    return {
        slot: {
            "urls": [f"https://{integrator}.example.com/{slot}" for integrator in integrators],
            "headers": {"X-Integrator": integrators[0]},
        }
        for slot in SLOTS
    }


_STOREFRONT = "ccstore-zdemo.oracleoutsourcing.com"
_ADMIN_TWIN = "ccadmin-zdemo.oracleoutsourcing.com"

_LISTED = (
    Part("healthy-1", "works"),
    Part(
        "slot-refused",
        "refuses our URL in one slot",
        settings={"faults": {"write_slot:order-update": [{"fault": "bad_request", "times": "always"}]}},
        status=ConnectionStatus.DEGRADED,
        slots={"order-update": (SlotStatus.FAILED, "slot_refused")},
        findings=("slot_refused",),
        met={"write_slot 400": 1},
    ),
    Part(
        "unavailable",
        "answers 503 for a while",
        settings={"faults": {"*": [{"fault": "unavailable", "times": 2}]}},
        calls=None,
        met={"login 503": 2},
    ),
    Part(
        "key-rejected",
        "rejects the application key",
        settings={"revoke_keys": True},
        status=ConnectionStatus.NEEDS_REAUTHORISATION,
        slots=dict.fromkeys(SLOTS, NEVER_TRIED),
        findings=("key_rejected",),
        calls={"login": 2},  # one refusal is a doubt, the second a verdict
        met={"login 401": 2},
    ),
    Part(
        "shared-slots",
        "sends to two others already",
        settings={"slots": _shared_with("oms", "erp")},
    ),
    Part(
        "busy",
        "asks for a pause (Retry-After)",
        settings={
            "faults": {
                "write_slot:order-submit": [{"fault": "throttled", "retry_after": 3}],
                "write_slot:shipment-create": [{"fault": "unavailable", "retry_after_date": 3}],
            }
        },
        calls=None,
        met={"write_slot 429": 1, "write_slot 503": 1},
    ),
    Part(
        "short-tokens",
        "ends access tokens in mid-run",
        settings={"token_uses": 4},
        calls=None,
        met={"login 200": 2},
    ),
    Part(
        "hanging",
        "takes calls and never answers",
        settings={"faults": {"login": [{"fault": "hang", "times": "always"}]}},
        status=ConnectionStatus.UNREACHABLE,
        slots=dict.fromkeys(SLOTS, NEVER_TRIED),
        findings=("store_timeout",),
        calls=None,
        met={"hang": 2},
    ),
    Part(
        "no-shipping",
        "has no enabled shipping method",
        settings={"shipping_methods": [{"enabled": False}]},
        status=ConnectionStatus.DEGRADED,
        slots=dict.fromkeys(SLOTS, NEVER_TRIED),
        findings=("no_shipping_methods",),
        calls={"login": 1, "shipping_methods": 1},
    ),
    Part(
        "storefront",
        "was named by its shop's address",
        store_url=f"https://{_STOREFRONT}/",
        refusal=Refusal("store_url", "storefront_host", _ADMIN_TWIN),
        calls={},
    ),
)

LISTED_ONE_BY_ONE = len(_LISTED)
"""How many parts there are before the crowd of healthy stores."""

_HEALTHY = (
    Part("", "works"),
    Part("", "works, and answers slowly", settings={"latency": 0.4}),
    Part("", "works, and sends to another too", settings={"slots": _shared_with("oms")}),
    Part("", "works, with an older release", settings={"shipping_wrapper": "array", "expires_in": "string"}),
)
