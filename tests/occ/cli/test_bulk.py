"""`occ revalidate`, `occ repair` and `occ disconnect`, for one and for many, on a real server."""

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from integrations.connections.record import Cause
from integrations.connections.records import Records
from occ.simulator.application_keys import make_application_key
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import Ended, Occ
from tests.occ.cli.many import asked, rest

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]


def outcomes(ended: Ended) -> dict[str | None, str]:
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    return {line["merchant_id"]: line["outcome"] for line in lines}


def messages(client: redis.Redis) -> list[tuple[str, str]]:
    """Task and merchant of what was sent to workers."""
    sent = (json.loads(message)["headers"] for message in client.lrange("occ.steps", 0, -1))
    return sorted((headers["task"], headers["kwargsrepr"].split("'")[3]) for headers in sent)


def test_one_connection_is_looked_at_now(occ_process: Occ, records: Records, redis_client: redis.Redis) -> None:
    rest(records, "m-1", "m-2")
    ended = occ_process("revalidate", "m-1")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "m-1: re-validation requested\n", "")
    assert messages(redis_client) == [("occ.revalidate_key", "m-1")]
    assert len(asked(records, "m-1")) == 1
    assert asked(records, "m-2") == []


def test_a_repair_is_one_in_the_record(occ_process: Occ, records: Records) -> None:
    rest(records, "m-1")
    assert occ_process("repair", "m-1").stdout == "m-1: re-validation with repair requested\n"
    assert len(asked(records, "m-1", "repair_asked")) == 1


def test_who_cannot_be_served_stops_nobody_else(occ_process: Occ, records: Records) -> None:
    rest(records, "m-1", "m-2")
    key = make_application_key()
    ended = occ_process("revalidate", "m-1", "nobody", key, "m-2@1", "m-2", "--json")
    assert ended.exit_code == 1
    assert outcomes(ended) == {"m-1": "accepted", "nobody": "failed", None: "failed", "m-2": "accepted"}
    errors = [line["error"]["code"] for line in map(json.loads, ended.stdout.splitlines()) if "error" in line]
    assert sorted(errors) == ["bad_merchant_id", "former_store", "unknown_merchant"]
    assert key not in ended.stdout + ended.stderr
    assert "Argument 3 is not a valid merchant id: use 1 to 128 letters" in ended.stderr
    assert "nobody: there is no such connection" in ended.stderr


@pytest.mark.parametrize(("name", "exit_code"), [("nobody", 4), ("not an id", 2), ("m-1@1", 2)])
def test_the_only_reason_is_the_exit_code(name: str, exit_code: int, occ: Occ) -> None:
    assert occ("revalidate", name).exit_code == exit_code
    assert occ("repair", name, name + "2", "--json").exit_code == exit_code


def test_what_is_under_way_is_not_asked_for_again(occ: Occ, worker: Worker, records: Records) -> None:
    worker.begin("m-1")
    ended = occ("revalidate", "m-1")
    assert (ended.exit_code, ended.stdout) == (0, "m-1: work on it is already in progress\n")
    assert asked(records, "m-1") == []


def test_a_file_names_each_merchant_on_a_line(occ_process: Occ, records: Records, tmp_path: Path) -> None:
    rest(records, "m-1", "m-2", "m-3")
    file = tmp_path / "merchants"
    file.write_bytes(b"\xef\xbb\xbfm-1\r\n\n# not these\n  m-2  \nm-1\n\xff\n")
    ended = occ_process("revalidate", "--file", str(file), "m-2", "--json")
    assert outcomes(ended) == {"m-1": "accepted", "m-2": "accepted", None: "failed"}
    assert "Line 6 is not a valid merchant id" in ended.stderr
    assert [len(asked(records, merchant_id)) for merchant_id in ("m-1", "m-2", "m-3")] == [1, 1, 0]


def test_standard_input_is_a_file_too(occ_process: Occ, records: Records) -> None:
    rest(records, "m-1", "m-2")
    ended = occ_process("revalidate", "--file", "-", stdin=b"m-1\nm-2")
    assert sorted(ended.stdout.splitlines()) == ["m-1: re-validation requested", "m-2: re-validation requested"]
    assert ended.stderr == "revalidate: 2 accepted\n"


def test_a_file_that_cannot_be_read_is_refused(occ: Occ, tmp_path: Path) -> None:
    ended = occ("revalidate", "--file", str(tmp_path), "--json")
    assert (ended.exit_code, ended.error["field"], ended.error["code"]) == (2, "file", "not_readable")


def test_all_that_match_are_chosen(occ_process: Occ, worker: Worker, records: Records) -> None:
    rest(records, "m-1", "m-3")
    worker.connect("m-2", failing={"order-update": Cause("slot_refused")})
    for options in (["--status", "degraded"], ["--finding", "slot_refused"]):
        assert outcomes(occ_process("revalidate", *options, "--dry-run", "--json")) == {"m-2": "planned"}
    everywhere = occ_process("revalidate", "--host", "*.oracleoutsourcing.com", "--json")
    assert outcomes(everywhere) == {"m-1": "accepted", "m-2": "accepted", "m-3": "accepted"}


def test_who_is_named_and_does_not_match_is_passed_over(occ: Occ, records: Records) -> None:
    rest(records, "m-1")
    ended = occ("revalidate", "m-1", "--status", "degraded")
    assert (ended.exit_code, ended.stdout) == (0, "m-1: skipped, because it does not match\n")


def test_nobody_named_is_not_everybody(occ: Occ) -> None:
    ended = occ("disconnect", "--yes", "--json")
    assert (ended.exit_code, ended.error["code"]) == (2, "wrong_usage")


def test_a_store_that_was_left_is_not_among_all(occ: Occ, worker: Worker, records: Records) -> None:
    worker.connect("m-1")
    worker.begin("m-1", "https://ccadmin-z9.oracleoutsourcing.com")
    assert outcomes(occ("disconnect", "--host", "*", "--dry-run", "--json")) == {"m-1": "planned"}


@pytest.mark.parametrize("command", ["revalidate", "repair", "disconnect", "replay"])
def test_a_dry_run_changes_nothing(
    command: str, occ: Occ, records: Records, redis_client: redis.Redis, tmp_path: Path
) -> None:
    rest(records, "m-1", "m-2")
    before = {key: redis_client.dump(key) for key in redis_client.scan_iter()}
    journal = tmp_path / "journal"
    ended = occ(command, "m-1", "m-2", "nobody", "--dry-run", "--json", "--resume", str(journal))
    assert outcomes(ended) == {"m-1": "planned", "m-2": "planned", "nobody": "failed"}
    assert "(dry run: nothing was done)" in ended.stderr
    assert {key: redis_client.dump(key) for key in redis_client.scan_iter()} == before
    assert not journal.exists()


def test_a_dry_run_tells_what_would_come_of_it(occ: Occ, worker: Worker, records: Records) -> None:
    rest(records, "m-1")
    worker.begin("m-2")
    assert occ("revalidate", "m-1", "m-2", "--dry-run").stdout.splitlines() == [
        "m-1: would be re-validated",
        "m-2: work on it is already in progress",
    ]


# --- Disconnecting ----------------------------------------------------------------------------------------------------


def test_nothing_is_disconnected_where_nobody_can_be_asked(occ: Occ, records: Records) -> None:
    rest(records, "m-1")
    ended = occ("disconnect", "m-1", "--json")
    assert (ended.exit_code, ended.error["code"]) == (2, "not_confirmed")
    assert asked(records, "m-1", "disconnect_asked") == []


def test_disconnecting_starts_work_on_every_slot(occ_process: Occ, worker: Worker, redis_client: redis.Redis) -> None:
    worker.connect("m-1")
    ended = occ_process("disconnect", "m-1", "--yes")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "m-1: disconnection requested\n", "")
    assert messages(redis_client) == [("occ.disconnect_slot", "m-1")] * 4
    assert "already being disconnected" in occ_process("disconnect", "m-1", "--yes").stdout
    assert "nothing to re-validate" in occ_process("revalidate", "m-1").stdout


def test_a_key_that_is_forgotten_now_takes_its_access_token_along(
    occ_process: Occ, worker: Worker, records: Records, redis_client: redis.Redis
) -> None:
    worker.connect("m-1")
    redis_client.set("occ:token:m-1", "sealed")
    ended = occ_process("disconnect", "m-1", "--forget", "now", "--yes")
    assert ended.stdout == "m-1: key forgotten, disconnected\n"
    snapshot = records.load("m-1")
    assert snapshot.connection is not None
    assert (snapshot.connection.status, snapshot.sealed_key) == ("disconnected", None)
    assert not redis_client.exists("occ:token:m-1", "occ.steps")


# --- The journal ------------------------------------------------------------------------------------------------------


def test_a_second_start_skips_what_was_done(occ_process: Occ, records: Records, tmp_path: Path) -> None:
    rest(records, "m-1", "m-2", "m-3")
    journal = str(tmp_path / "journal")
    occ_process("revalidate", "m-1", "m-2", "nobody", "--resume", journal)
    rest(records, "m-1", "m-2")
    ended = occ_process("revalidate", "--host", "*", "--resume", journal, "--json")
    assert outcomes(ended) == {"m-3": "accepted"}
    assert ended.stderr == "revalidate: 2 done before, 1 accepted\n"
    assert [len(asked(records, merchant_id)) for merchant_id in ("m-1", "m-2", "m-3")] == [1, 1, 1]


def test_who_failed_is_tried_again(occ_process: Occ, records: Records, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    assert occ_process("revalidate", "m-1", "--resume", journal).exit_code == 4
    rest(records, "m-1")
    assert occ_process("revalidate", "m-1", "--resume", journal).stdout == "m-1: re-validation requested\n"


def test_what_is_in_doubt_is_looked_up_in_the_record(occ_process: Occ, records: Records, tmp_path: Path) -> None:
    rest(records, "m-1", "m-2")
    journal = tmp_path / "journal"
    begun = time.time() - 1
    occ_process("revalidate", "m-1")
    rest(records, "m-1")
    journal.write_text(f"# occ revalidate\nm-1 begun {begun:.3f}\nm-2 begun {begun:.3f}\n")
    ended = occ_process("revalidate", "m-1", "m-2", "--resume", str(journal), "--json")
    assert outcomes(ended) == {"m-2": "accepted"}
    assert len(asked(records, "m-1")) == 1
    assert journal.read_text().splitlines()[3:] != []


def test_a_journal_of_another_command_is_refused(occ: Occ, records: Records, tmp_path: Path) -> None:
    rest(records, "m-1")
    journal = tmp_path / "journal"
    journal.write_text("# occ revalidate\nm-1 accepted\n")
    ended = occ("disconnect", "m-1", "--yes", "--resume", str(journal), "--json")
    assert (ended.exit_code, ended.error["code"]) == (2, "other_journal")
    assert asked(records, "m-1", "disconnect_asked") == []


# --- Pace -------------------------------------------------------------------------------------------------------------


def test_no_more_are_begun_in_a_second_than_the_rate_allows(occ_process: Occ, records: Records, tmp_path: Path) -> None:
    """And no fewer than that by much: the server's disk, which confirms once a second, is not waited for one by one."""
    merchant_ids = [f"m-{number:03}" for number in range(60)]
    rest(records, *merchant_ids)
    journal = tmp_path / "journal"
    ended = occ_process("revalidate", *merchant_ids, "--rate", "20", "--resume", str(journal))
    assert ended.exit_code == 0
    begun = [float(line.split()[2]) for line in journal.read_text().splitlines() if " begun " in line]
    assert len(begun) == 60
    assert begun[-1] - begun[0] > 2.8
    assert all(later - earlier > 0.5 for earlier, later in zip(begun, begun[20:], strict=False))
    times = sorted(moment for merchant_id in merchant_ids for moment in asked(records, merchant_id))
    assert len(times) == 60
    assert times[-1] - times[0] < 20
    assert max(later - earlier for earlier, later in pairwise(times)) < 5
