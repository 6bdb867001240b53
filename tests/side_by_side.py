"""How tests are dealt out to the processes that run them side by side: `pytest -n auto`.

The tests of a module run in one process, one after the other, so that what a module or a folder shares is set up once.
Modules whose tests wait long and share nothing are dealt out test by test. What takes longest begins first.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/end_to_end/test_connect.py": "shared pipeline",
    "tests/end_to_end/test_life.py": "shared pipeline",
    "tests/end_to_end/test_producer_options.py": "shared pipeline",
    "tests/end_to_end/test_refusals.py": "shared pipeline",
    "tests/end_to_end/test_shared_store.py": "shared pipeline",
    "tests/end_to_end/test_spellings.py": "shared pipeline",
    "tests/contract/test_asyncapi.py": "contract",
    "tests/contract/test_golden.py": "contract",
    "tests/contract/test_producers.py": "contract",
    "tests/contract/test_stock_messages.py": "contract",
}
"""Modules that share a pipeline."""

ONE_BY_ONE = {
    "tests/bench/test_recheck.py",
    "tests/contract/test_readers.py",
    "tests/deploy/test_alive.py",
    "tests/end_to_end/test_traces.py",
    "tests/integrations/connections/test_records.py",
    "tests/integrations/connections/test_status_index.py",
    "tests/integrations/outages/test_outages.py",
    "tests/occ/cli/test_bulk.py",
    "tests/occ/cli/test_bulk_kill.py",
    "tests/occ/cli/test_connect.py",
    "tests/occ/cli/test_replay.py",
    "tests/occ/demo/test_demo.py",
    "tests/occ/local/test_processes.py",
    "tests/occ/local/test_server.py",
    "tests/occ/local/test_up.py",
    "tests/tasks/worker/broker/test_broker_loss.py",
    "tests/tasks/worker/broker/test_poison.py",
    "tests/tasks/test_start_up.py",
}
"""Modules whose tests wait long, each for processes of its own."""

LONGEST = (
    "tests/secrets/test_leaks.py",
    "shared pipeline",
    "tests/occ/local/test_packages.py",
    "tests/test_run_script.py",
    "tests/fault_matrix/test_page.py",
    "tests/integrations/deliveries/test_deliveries.py",
    "tests/integrations/connections/test_lifecycle_laws.py",
)
"""What takes longest, in this order."""


def scope_of(nodeid: str) -> str:
    """What is dealt out together with this test."""
    module = nodeid.partition("::")[0]
    return nodeid if module in ONE_BY_ONE else TOGETHER.get(module, module)


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """What takes longest, then what waits for pipelines, for servers, for nobody; else as they were shuffled."""
    return sorted(items, key=_begins)


def _begins(item: pytest.Item) -> tuple[int, int]:
    scope = scope_of(item.nodeid)
    waits = sum(item.get_closest_marker(name) is not None for name in ("server", "end_to_end"))
    return LONGEST.index(scope) if scope in LONGEST else len(LONGEST), -waits


class Dispatcher(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Deals scopes out in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
