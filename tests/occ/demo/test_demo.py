"""The demo: its parts are playable, nothing that goes wrong escapes its verdict, and it leaves nothing behind."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from integrations.connections.causes import CAUSES
from integrations.connections.record import (
    Cause,
    Connection,
    ConnectionStatus,
    Credential,
    KeyVerdict,
    ShippingMethods,
    ShippingVerdict,
    Slot,
    SlotStatus,
    Step,
    Trouble,
    Work,
)
from integrations.oracle_commerce.store_url import admin_twin
from integrations.settings import Settings
from occ.demo.demo import demo as demo_command
from occ.demo.merchants import LISTED_ONE_BY_ONE, SLOTS, Part, cast
from occ.demo.story import MerchantLines, ending, opening, totals
from occ.demo.verdict import Seen, differences
from occ.local.processes import PROJECT
from occ.local.server import EmbeddedServer
from occ.simulator.store import SimulatedStore
from tests.waiting import wait_until

PARTS = {part.name: part for part in cast(LISTED_ONE_BY_ONE)}
NOON = 1_700_000_000.0


def callback_url(slot: str) -> str:
    return f"https://hooks.example.com/occ/m-1/{slot}"


OURS = callback_url("order-submit")


def as_it_should(part: Part) -> Seen:
    """What is seen when a part is played well."""
    if part.refusal is not None:
        refusal = {"field": part.refusal.field, "code": part.refusal.code, "remedy": f"Use {part.refusal.named}."}
        return Seen(refusal=refusal)
    ends = {slot: part.end_of(slot) for slot in SLOTS}
    lost = {"foreign_urls_lost": [], "foreign_settings_lost": [], "retry_after_undercut": [], "secret_resets": 0}
    connection = replace(
        Connection(
            merchant_id="m-1",
            store_url="http://127.1.0.1:8800",
            run=1,
            started_at=NOON,
            updated_at=NOON + 1,
            credential=Credential("0" * 16, verdict=KeyVerdict.VALID),
            shipping_methods=ShippingMethods(ShippingVerdict.CONFIGURED, 1),
            step=Step.VALIDATE_KEY,
            work=Work(NOON + 60, NOON + 60),
            slots={
                slot: Slot(
                    verdict=None if status is SlotStatus.PENDING else status, cause=Cause(cause) if cause else None
                )
                for slot, (status, cause) in ends.items()
            },
        ),
        **state_of(part),
    )
    return Seen(
        connection=connection,
        counts={"endpoints": dict(part.calls or {}), "statuses": dict(part.met), **lost},
        urls={
            slot: [*part.foreign_urls.get(slot, ()), *([callback_url(slot)] if end[0] == "registered" else [])]
            for slot, end in ends.items()
        },
        callback_urls={slot: callback_url(slot) for slot in SLOTS},
    )


def state_of(part: Part) -> dict[str, Any]:
    """The fields of a record that make the status and the findings of a part."""
    match part.status, part.findings:
        case ConnectionStatus.NEEDS_REAUTHORISATION, _:
            return {"credential": Credential("0" * 16, verdict=KeyVerdict.REJECTED)}
        case ConnectionStatus.UNREACHABLE, (code,):
            return {"trouble": Trouble(Cause(code), passing=True)}
        case _, ("no_shipping_methods",):
            return {"shipping_methods": ShippingMethods(ShippingVerdict.MISSING, 0)}
    return {}


def seen_of(name: str, **changes: Any) -> Seen:
    return replace(as_it_should(PARTS[name]), **changes)


# --- Parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merchants", [1, 2, 9, 12, 1000])
def test_a_cast_of_any_size_begins_with_the_most_telling_and_has_a_name_for_each(merchants: int) -> None:
    parts = cast(merchants)
    assert len({part.name for part in parts}) == merchants
    assert [part.name for part in parts[:LISTED_ONE_BY_ONE]] == list(PARTS)[:merchants]
    assert all(part.is_healthy for part in parts[LISTED_ONE_BY_ONE:])


def test_the_simulator_can_play_every_part() -> None:
    for part in cast(LISTED_ONE_BY_ONE + 8):
        SimulatedStore(part.name).change(**part.settings)


def test_parts_speak_of_the_default_slots_and_of_known_causes() -> None:
    assert tuple(Settings.model_fields["slots"].default) == SLOTS
    for part in PARTS.values():
        assert {*part.findings, *(cause for _, cause in part.slots.values() if cause)} <= CAUSES.keys()
        assert part.slots.keys() <= set(SLOTS)


def test_the_storefront_of_the_cast_has_the_admin_host_its_refusal_names() -> None:
    part = PARTS["storefront"]
    assert part.refusal is not None
    assert part.store_url is not None
    assert admin_twin(part.store_url.removeprefix("https://").rstrip("/")) == part.refusal.named


# --- Verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", cast(LISTED_ONE_BY_ONE + 4), ids=lambda part: part.name)
def test_a_part_played_well_differs_in_nothing(part: Part) -> None:
    assert differences(part, as_it_should(part)) == []


def test_a_merchant_that_nothing_became_of_differs() -> None:
    for part in cast(LISTED_ONE_BY_ONE + 4):
        assert differences(part, Seen())


def changed_counts(name: str, **changes: Any) -> Seen:
    seen = as_it_should(PARTS[name])
    return replace(seen, counts={**seen.counts, **changes})


def changed_record(name: str, **changes: Any) -> Seen:
    seen = as_it_should(PARTS[name])
    assert seen.connection is not None
    return replace(seen, connection=replace(seen.connection, **changes))


WRONG: dict[str, tuple[str, Callable[[], Seen], str]] = {
    "another status": (
        "healthy-1",
        lambda: changed_record("healthy-1", trouble=Trouble(Cause("store_timeout"), passing=True)),
        "healthy-1: it is unreachable, not active",
    ),
    "a finding too many": (
        "healthy-1",
        lambda: changed_record("healthy-1", trouble=Trouble(Cause("store_timeout"), passing=True)),
        "healthy-1: it has the findings store_timeout, not none",
    ),
    "a slot that did not fail": (
        "slot-refused",
        lambda: changed_record("slot-refused", slots={slot: Slot(verdict=SlotStatus.REGISTERED) for slot in SLOTS}),
        "slot-refused: order-update is registered, not failed (slot_refused)",
    ),
    "a slot that is missing": (
        "healthy-1",
        lambda: changed_record("healthy-1", slots={slot: Slot(verdict=SlotStatus.REGISTERED) for slot in SLOTS[1:]}),
        "healthy-1: order-submit is missing, not registered",
    ),
    "a call too many": (
        "healthy-1",
        lambda: changed_counts("healthy-1", endpoints={"login": 2, "shipping_methods": 1}),
        "healthy-1: its store got login x2, shipping_methods x1, not login x1, shipping_methods x1, read_slot x4, ",
    ),
    "a call where there should be none": (
        "storefront",
        lambda: replace(seen_of("storefront"), counts={"endpoints": {"login": 1}}),
        "storefront: its store got login x1, not nothing",
    ),
    "trouble that never came": (
        "unavailable",
        lambda: changed_counts("unavailable", statuses={"login 503": 1}),
        "unavailable: its store answered login 503 1 times, not 2 or more",
    ),
    "a pause cut short": (
        "busy",
        lambda: changed_counts("busy", retry_after_undercut=[{"by": 0.25}]),
        "busy: it was called 0.250 s before the time its store had asked for",
    ),
    "a lost URL": (
        "shared-slots",
        lambda: changed_counts("shared-slots", foreign_urls_lost=[{"slot": "order-submit", "url": "https://x"}]),
        "shared-slots: order-submit lost https://x",
    ),
    "a lost setting": (
        "shared-slots",
        lambda: changed_counts("shared-slots", foreign_settings_lost=[{"slot": "order-submit", "field": "headers"}]),
        "shared-slots: order-submit lost somebody's headers",
    ),
    "a reset secret": (
        "healthy-1",
        lambda: changed_counts("healthy-1", secret_resets=1),
        "healthy-1: the secret of its slots was reset",
    ),
    "a slot without our URL": (
        "healthy-1",
        lambda: seen_of("healthy-1", urls={slot: [callback_url(slot)] for slot in SLOTS[1:]}),
        f"healthy-1: order-submit carries none, not {OURS}",
    ),
    "our URL twice": (
        "healthy-1",
        lambda: seen_of("healthy-1", urls={slot: [callback_url(slot)] * 2 for slot in SLOTS}),
        f"healthy-1: order-submit carries {', '.join([OURS, OURS])}, not {OURS}",
    ),
    "a refusal of the right request": (
        "healthy-1",
        lambda: seen_of("healthy-1", refusal={"field": "store_url", "code": "bad_store_url", "remedy": ""}),
        "healthy-1: its request was refused (bad_store_url), and should not be",
    ),
    "a wrong request taken on": (
        "storefront",
        lambda: seen_of("storefront", connection=as_it_should(PARTS["healthy-1"]).connection),
        "storefront: its request was taken on, and should be refused",
    ),
    "another refusal": (
        "storefront",
        lambda: seen_of("storefront", refusal={"field": "store_url", "code": "host_not_allowed", "remedy": ""}),
        "storefront: its request was refused for store_url: host_not_allowed, not store_url: storefront_host",
    ),
    "a remedy without the admin host": (
        "storefront",
        lambda: seen_of("storefront", refusal={"field": "store_url", "code": "storefront_host", "remedy": "No."}),
        "storefront: the remedy does not name ccadmin-zdemo.oracleoutsourcing.com",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_as_the_part_says_is_told(case: str) -> None:
    name, seen, told = WRONG[case]
    assert any(difference.startswith(told) for difference in differences(PARTS[name], seen()))


# --- Texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merchants", [1, 12, 24, 25, 1000])
def test_the_story_fits_into_a_hundred_columns_and_a_screen(merchants: int) -> None:
    parts = cast(merchants)
    seen = {part.name: as_it_should(part) for part in parts}
    counted = {"endpoints": {"login": 99_999}, "foreign_urls_lost": [], "retry_after_undercut": []}
    lines = [*opening(parts), *ending(parts, seen), *totals(parts, seen, counted)]
    assert max(map(len, map(without_colours, lines))) <= 100
    assert len(lines) < 65


def test_everybody_is_told_of_by_name_or_in_a_crowd() -> None:
    parts = cast(100)
    seen = {part.name: as_it_should(part) for part in parts}
    text = without_colours("\n".join(ending(parts, seen)))
    assert all(name in text for name in PARTS)
    assert sum(map(int, re.findall(r"(\d+) others", text))) == 100 - LISTED_ONE_BY_ONE
    assert text.count("active, all") == 4


def test_one_that_stands_out_of_the_crowd_is_told_of() -> None:
    parts = cast(100)
    seen = {part.name: as_it_should(part) for part in parts} | {"healthy-50": Seen()}
    assert re.search(r"2[0-9] active, 1 missing", without_colours("\n".join(ending(parts, seen))))


def test_an_end_tells_why_and_who_acts_or_what_it_took() -> None:
    seen = {part.name: as_it_should(part) for part in PARTS.values()}
    seen["busy"] = replace(seen["busy"], waits=2)
    text = without_colours("\n".join(ending(list(PARTS.values()), seen)))
    for end in (
        "degraded, 3/4 slots: slot_refused, operator acts",
        "needs_reauthorisation: key_rejected, merchant acts",
        "unreachable: store_timeout, we keep trying",
        "degraded: no_shipping_methods, merchant acts",
        "refused: use ccadmin-zdemo.oracleoutsourcing.com",
        "active, 4/4 slots, 8 of 8 foreign URLs kept",
        "active, 4/4 slots, after 2 waits",
    ):
        assert f"  {end}" in text


def test_lines_tell_each_change_of_a_merchant_once() -> None:
    said: list[str] = []
    lines = MerchantLines({"m-1": "healthy-1"}, said.append)
    active = as_it_should(PARTS["healthy-1"]).connection
    assert active is not None
    slots = dict(active.slots) | {"order-submit": Slot()}
    waiting = dict(active.slots) | {"order-submit": Slot(cause=Cause("store_busy"), work=Work(NOON, NOON))}
    for state in (slots, slots, waiting, waiting, active.slots, active.slots):
        lines.show([replace(active, slots=state)], NOON)
    assert said == [
        "22:13:20Z  healthy-1  onboarding             3/4  order-submit: store_busy",
        "22:13:20Z  healthy-1  active                 4/4",
    ]


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("number", ["0", "1001", "-3", "many", ""])
def test_a_number_of_merchants_it_cannot_play_is_refused(number: str) -> None:
    ended = CliRunner().invoke(demo_command, ["--merchants", number])
    assert ended.exit_code == 2
    assert "Invalid value for '--merchants'" in ended.output


def test_it_needs_none_of_the_packages_for_tests() -> None:
    code = "import sys, occ.demo.play, occ.simulator.__main__; print(*sys.modules)"
    asked = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"pytest", "hypothesis", "trustme", "freezegun", "xdist"} & set(asked.stdout.split())


# --- For real ---------------------------------------------------------------------------------------------------------

SABOTAGED = """
from dataclasses import replace
from integrations.connections.record import ConnectionStatus
from occ.demo import demo
from occ.demo.merchants import cast
demo.cast = lambda number: [replace(part, status=ConnectionStatus.DEGRADED) for part in cast(number)]
demo.demo()
"""


class Demo:
    """A running demo, in a process group of its own as a terminal makes one."""

    def __init__(self, folder: Path, *arguments: str, code: str | None = None, **settings: str) -> None:
        self.folder = folder / "temporary"
        self.folder.mkdir()
        self._mark = f"TMPDIR={self.folder}".encode()
        how = ["-c", code] if code else ["-m", "occ.demo.demo"]
        self.process = subprocess.Popen(
            [sys.executable, *how, *arguments],
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": str(self.folder), **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Exit code and both outputs."""
        said, complained = self.process.communicate(timeout=110)
        return self.process.returncode, said, complained

    def running(self) -> list[str]:
        """Everything that was started by it and lives, whoever its parent is by now.

        Told by the mark that processes inherit; the server overwrites its own, and is told by where it runs.
        """
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (
                    self._mark in (entry / "environ").read_bytes().split(b"\0")
                    or (entry / "cwd").readlink().is_relative_to(self.folder)
                ):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it ended just now, or is somebody else's
        return found

    def await_everything(self) -> None:
        wait_until(lambda: len(self.running()) >= 6)  # itself, server, simulator, two workers, beat


@contextmanager
def demo(folder: Path, *arguments: str, **settings: Any) -> Iterator[Demo]:
    playing = Demo(folder, *arguments, **settings)
    try:
        yield playing
    finally:
        playing.process.kill()
        playing.process.communicate()


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.end_to_end
def test_everybody_ends_as_the_parts_say_whatever_the_callers_settings_are(tmp_path: Path) -> None:
    foreign = {"OCC_LEASE": "many", "OCC_NO_SUCH_SETTING": "1", "OCC_DATA_DIR_FILE": "/no/such/file"}
    with demo(tmp_path, "--json", **foreign) as playing:
        exit_code, said, complained = playing.end()
        result = json.loads(said)
        assert (exit_code, result["differences"], complained) == (0, [], "")
        assert list(playing.folder.iterdir()) == []
    assert result["as_expected"] is True
    ends = {merchant["merchant_id"]: merchant["status"] for merchant in result["merchants"]}
    assert ends == {part.name: part.status for part in cast(12) if part.refusal is None}
    assert [(refused["merchant_id"], refused["code"]) for refused in result["refused"]] == [
        ("storefront", "storefront_host")
    ]
    tenants = result["simulator"]["tenants"]
    assert tenants["healthy-1"]["endpoints"] == {"login": 1, "shipping_methods": 1, "read_slot": 4, "write_slot": 4}
    assert tenants["storefront"]["calls"] == 0
    assert result["simulator"]["totals"]["foreign_urls_lost"] == []
    assert result["seconds"] > 0
    assert result["orders"] == {
        "heard": ["healthy-1", "shared-slots", "healthy-2"],
        "slots_heard": 12,
        "failing": "healthy-3",
        "found": "HTTP 500",
    }


@pytest.mark.end_to_end
def test_a_part_not_played_as_written_ends_with_1_says_what_differs_and_keeps_the_logs(tmp_path: Path) -> None:
    with demo(tmp_path, "--merchants", "1", code=SABOTAGED) as playing:
        exit_code, said, complained = playing.end()
        (folder,) = playing.folder.iterdir()
        assert exit_code == 1
        assert "healthy-1: it is active, not degraded" in said
        assert "Every merchant ended as it should" not in said
        assert str(folder) in complained
        assert {log.name for log in (folder / "logs").iterdir()} == {"worker-1.log", "worker-2.log", "beat.log"}


@on_linux
@pytest.mark.end_to_end
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_whoever_stops_it_finds_no_process_left(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    with demo(tmp_path) as playing:
        playing.await_everything()
        time.sleep(1)  # some are at work then, and one store is hanging
        if number is signal.SIGINT:
            os.killpg(playing.process.pid, number)  # as a terminal does: to everybody in the foreground
        else:
            playing.process.send_signal(number)
        code, _, complained = playing.end()
        assert code == exit_code
        assert "Traceback" not in complained
        wait_until(lambda: playing.running() == [])
        assert number is signal.SIGKILL or list(playing.folder.iterdir()) == []


@pytest.mark.end_to_end
@pytest.mark.server
@pytest.mark.parametrize("kind", ["connections", "requests"])
def test_a_server_that_others_use_is_left_alone(
    tmp_path: Path, server: EmbeddedServer, redis_client: redis.Redis, kind: str
) -> None:
    if kind == "connections":
        redis_client.zadd("occ:connections", {"m-1": 0})
    else:
        redis_client.xadd("occ:inbox", {"request": "{}"})
    before = set(redis_client.scan_iter())
    with demo(tmp_path, "--json", OCC_REDIS_URL=server.url) as playing:
        exit_code, said, complained = playing.end()
        assert list(playing.folder.iterdir()) == []
    assert exit_code == 2
    assert json.loads(said)["error"]["code"] == "server_in_use"
    assert f"holds {kind}" in complained
    assert set(redis_client.scan_iter()) == before


@pytest.mark.end_to_end
@pytest.mark.server
def test_on_a_terminal_there_is_a_table_and_a_server_of_ones_own_is_left_as_it_was(
    tmp_path: Path, server: EmbeddedServer, redis_client: redis.Redis
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", "TMPDIR": str(tmp_path)}
    environment["OCC_REDIS_URL"] = server.url
    process = subprocess.Popen(
        [sys.executable, "-m", "occ.demo.demo", "--merchants", "2"],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        shown = read_all(ours, within=180)
        assert process.wait(180) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "Next check" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "Every merchant ended as it should." in shown
    assert "start no workers there" in shown
    ids = set(re.findall(r"demo-[0-9a-f]{6}-(?:healthy-1|slot-refused)", shown))
    assert len(ids) == 2
    keys = b" ".join(redis_client.scan_iter())
    assert not any(merchant.encode() in keys for merchant in ids)
    assert redis_client.zcard("occ:due") == redis_client.zcard("occ:connections") == 0


def read_all(terminal: int, *, within: float) -> str:
    """Until nobody writes to it any more."""
    until, read = time.monotonic() + within, b""
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # Linux says so at the end
                break
            if not chunk:
                break
            read += chunk
    return read.decode()
