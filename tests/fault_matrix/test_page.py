"""docs/faults.md is what comes out when everything is run, and nothing in it goes unexplained."""

from collections.abc import Iterator
from difflib import unified_diff
from functools import cache

import pytest

from integrations.connections.causes import CAUSES
from integrations.connections.record import ConnectionStatus, SlotStatus
from occ.simulator.faults import KINDS
from tests.fault_matrix import page
from tests.fault_matrix.faults import FAULTY
from tests.fault_matrix.matrix import Result
from tests.fault_matrix.sections import SECTIONS, Section

pytestmark = pytest.mark.long

IN_ORDER = {ConnectionStatus.ACTIVE, ConnectionStatus.DISCONNECTED}
LOSSES = {
    "somebody adds a URL at the moment of our write": "a write knows no condition, and no later answer shows it",
}
"""The faults that cost somebody else their URL, and why."""


@cache
def matrix() -> dict[Section, list[Result]]:
    return page.matrix()


def everything() -> Iterator[tuple[Section, Result]]:
    for section, results in matrix().items():
        for result in results:
            yield section, result


def test_the_page_says_what_happens() -> None:
    written, now = (text.splitlines() for text in (page.PAGE.read_text(encoding="utf-8"), page.page(matrix())))
    if written != now:
        difference = unified_diff(written, now, "docs/faults.md", "what happens", n=0, lineterm="")
        told = [line for line in difference if not line.startswith("@@")][:60]
        pytest.fail("\n".join(["Look at what has changed, then: ./run fault-matrix", *told]), pytrace=False)


def test_every_cause_is_met_or_has_its_reason_not_to_be() -> None:
    met = page.codes_in(result for _, result in everything())
    assert met | page.NO_FAULT_OF_A_STORE.keys() == CAUSES.keys()
    assert not met & page.NO_FAULT_OF_A_STORE.keys()


def test_whoever_is_in_trouble_is_told_why() -> None:
    for _, result in everything():
        for look in (*result.looks, *([result.healed] if result.healed else [])):
            assert look.state.findings or look.state.status in IN_ORDER, result.fault.name
            assert all(code in CAUSES for code, _ in look.state.findings), result.fault.name


def test_every_fault_that_the_simulator_knows_is_there() -> None:
    kinds = {fault.kind for section in SECTIONS for fault in section.faults}
    assert KINDS.keys() - {"healthy", "status"} <= kinds


def test_names_of_faults_are_their_own() -> None:
    for section in SECTIONS:
        names = [fault.name for fault in section.faults]
        assert len({*names}) == len(names)


def test_only_a_refused_login_asks_for_a_new_key() -> None:
    for section, result in everything():
        if any(look.state.status is ConnectionStatus.NEEDS_REAUTHORISATION for look in result.looks):
            assert section.target == "login", (section.title, result.fault.name)
            assert ("key_rejected", None) in result.end.state.findings


def test_the_trouble_of_one_slot_is_not_its_neighbours() -> None:
    for section, result in everything():
        if section.of_slot and not result.fault.settings:
            others = {slot.status for name, slot in result.end.state.slots.items() if name != FAULTY}
            assert others <= {SlotStatus.REGISTERED, SlotStatus.REMOVED}, result.fault.name


def test_no_fault_costs_anybody_else_their_url_or_settings_but_for_known_reasons() -> None:
    assert {result.fault.name for _, result in everything() if result.lost} == LOSSES.keys()
