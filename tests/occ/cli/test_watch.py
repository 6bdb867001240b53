"""`occ watch`: what it finds, what it lets go, and how much it holds."""

import os

import pytest

from integrations.connections.record import Cause
from integrations.connections.records import Records
from occ.cli.watch import Overview, Watcher, caption
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.many import rest
from tests.occ.cli.test_terminal import SHOW_CURSOR, terminal

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]


class Clock:
    """Stands still unless it is told to move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def seen(overview: Overview) -> dict[str, str]:
    return {connection.merchant_id: str(connection.status) for connection in overview.connections}


def test_what_is_under_way_or_in_trouble_is_seen_and_nothing_else(records: Records, worker: Worker) -> None:
    rest(records, "well-1", "well-2")
    worker.begin("begun")
    worker.connect("partly", failing={"order-update": Cause("slot_refused")})
    overview = Watcher(records).read()
    assert seen(overview) == {"begun": "onboarding", "partly": "degraded"}
    assert (overview.under_way, overview.in_trouble, overview.walked, overview.total) == (1, 1, 4, 4)


def test_what_begins_meanwhile_comes_in_by_its_event(records: Records, worker: Worker) -> None:
    rest(records, *(f"well-{number}" for number in range(20)))
    watcher = Watcher(records, page=5, clock=iter(range(10**6)).__next__)
    watcher.read()
    worker.begin("zz-begun")
    assert seen(watcher.read()) == {"zz-begun": "onboarding"}


def test_what_is_well_again_stays_in_sight_for_a_moment(records: Records, worker: Worker) -> None:
    clock = Clock()
    watcher = Watcher(records, clock=clock)
    worker.begin("m-1")
    assert seen(watcher.read()) == {"m-1": "onboarding"}
    worker.finish("m-1")
    assert seen(watcher.read()) == {"m-1": "active"}
    clock.now += 4.9
    assert seen(watcher.read()) == {"m-1": "active"}
    clock.now += 0.2
    assert seen(watcher.read()) == {}


def test_a_disconnection_is_under_way_until_it_is_over(records: Records, worker: Worker) -> None:
    worker.connect("m-1")
    worker.begin("m-1", "https://ccadmin-z9.oracleoutsourcing.com")  # the store before is left
    assert Watcher(records).read().under_way == 2


def test_a_walk_over_many_goes_on_from_look_to_look(records: Records, worker: Worker) -> None:
    rest(records, *(f"well-{number:02}" for number in range(20)))
    worker.connect("zz", failing={"order-update": Cause("slot_refused")})
    watcher = Watcher(records, page=5, clock=iter(range(10**6)).__next__)  # no time for more than a page
    looks = [watcher.read() for _ in range(5)]
    assert [look.walked for look in looks] == [5, 10, 15, 20, 21]
    assert [len(look.connections) for look in looks] == [0, 0, 0, 0, 1]
    assert caption(looks[1]) == "0 under way, 0 in trouble; 10 of 21 connections checked so far"
    assert caption(looks[4]) == "0 under way, 1 in trouble, of 21 connections"


def test_no_more_are_held_than_are_followed_and_those_under_way_come_first(records: Records, worker: Worker) -> None:
    for number in range(6):
        worker.connect(f"a-{number}", failing={"order-update": Cause("slot_refused")})
    for number in range(2):
        worker.begin(f"z-{number}")
    overview = Watcher(records, most=4).read()
    assert sorted(seen(overview)) == ["a-0", "a-1", "z-0", "z-1"]
    assert "more not shown" in caption(overview)


def test_on_a_terminal_it_is_a_table(worker: Worker) -> None:
    worker.connect("partly", failing={"order-update": Cause("slot_refused")})
    with terminal("watch") as screen:
        screen.wait_for("0 under way, 1 in trouble, of 1 connections")
        worker.begin("begun")
        screen.wait_for("1 under way, 1 in trouble, of 2 connections")
        os.kill(screen.pid, 2)
        assert screen.wait_for_end() == 130
    assert "slot_refused" in screen.shown
    assert SHOW_CURSOR in screen.shown


def test_a_terminal_that_can_only_print_gets_lines(worker: Worker) -> None:
    worker.connect("partly", failing={"order-update": Cause("slot_refused")})
    with terminal("watch", TERM="dumb") as screen:
        screen.wait_for("partly is degraded")
        screen.type("\x03")
        assert screen.wait_for_end() == 130


def test_programs_get_status_objects(worker: Worker) -> None:
    worker.begin("m-1")
    with terminal("watch", "--json") as screen:
        screen.wait_for('"status": "onboarding"')
        worker.finish("m-1")
        screen.wait_for('"status": "active"')
        screen.type("\x03")
        assert screen.wait_for_end() == 130
