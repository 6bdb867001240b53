"""All scenarios by name, and the pools each has to pass on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.faults.clocks import clock_skew, clocks, two_beats
from tests.faults.crash_points import crash_points
from tests.faults.failovers import failover_by_address, failover_by_sentinel
from tests.faults.floods import countdowns, doors
from tests.faults.healths import health
from tests.faults.kills import event_order, rolling_sigterm, worker_kills
from tests.faults.limits import files
from tests.faults.messages import duplicate_storm, queue_deletion
from tests.faults.nat import nat
from tests.faults.poison import poison_matrix, poison_merchants
from tests.faults.report import Report
from tests.faults.request_points import request_points
from tests.faults.server import client_kills, power_loss, server_kills
from tests.faults.soak import soak
from tests.faults.stores import hung_region, hung_stores, store_outage
from tests.faults.trial import Trial

THREADS = ("threads",)
BOTH = ("threads", "prefork")


@dataclass(frozen=True, slots=True)
class Scenario:
    """`alone`: it measures times, so nothing else runs beside it. `named_only`: it runs only when it is asked for."""

    run: Callable[[Trial], Report]
    pools: tuple[str, ...] = THREADS
    alone: bool = False
    named_only: bool = False


SCENARIOS: Mapping[str, Scenario] = {
    "crash_points": Scenario(crash_points, BOTH),
    "request_points": Scenario(request_points, BOTH),
    "worker_kills": Scenario(worker_kills, BOTH),
    "server_kills": Scenario(server_kills, BOTH),
    "power_loss": Scenario(power_loss),
    "client_kills": Scenario(client_kills),
    "rolling_sigterm": Scenario(rolling_sigterm),
    "queue_deletion": Scenario(queue_deletion),
    "duplicate_storm": Scenario(duplicate_storm),
    "two_beats": Scenario(two_beats),
    "clock_skew": Scenario(clock_skew),
    "clocks": Scenario(clocks),
    "poison_matrix": Scenario(poison_matrix),
    "poison_merchants": Scenario(poison_merchants),
    "event_order": Scenario(event_order),
    "store_outage": Scenario(store_outage),
    "hung_stores": Scenario(hung_stores, alone=True),
    "hung_region": Scenario(hung_region),
    "files": Scenario(files),
    "failover_by_address": Scenario(failover_by_address, BOTH, named_only=True),
    "failover_by_sentinel": Scenario(failover_by_sentinel, BOTH, named_only=True),
    "health": Scenario(health, named_only=True),
    "nat": Scenario(nat, BOTH, named_only=True),
    "doors": Scenario(doors, BOTH, named_only=True),
    "countdowns": Scenario(countdowns, BOTH, named_only=True),
    "soak": Scenario(soak),
}
