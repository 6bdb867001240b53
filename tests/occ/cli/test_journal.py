"""The journal of a bulk command: what was done is known after a kill, and nobody's file is written over."""

from pathlib import Path

import pytest

from occ.cli.bulk.journal import Journal
from occ.cli.bulk.results import FAILED, result
from occ.cli.failure import CommandError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_was_done_is_known_to_the_next_start(path: Path) -> None:
    with Journal(path, "revalidate") as journal:
        for merchant_id in ("m-1", "m-2", "m-3"):
            journal.begin(merchant_id, 1000.5)
        journal.end([result("m-1", "accepted", ""), result("m-2", FAILED, "")])
        assert path.read_text().splitlines()[1] == "m-1 begun 1000.500"  # on disk at once
    with Journal(path, "revalidate") as journal:
        assert [journal.is_done(merchant_id) for merchant_id in ("m-1", "m-2", "m-3")] == [True, False, False]
        assert [journal.in_doubt_since(merchant_id) for merchant_id in ("m-1", "m-2", "m-3")] == [None, None, 1000.5]


def test_no_journal_remembers_nothing() -> None:
    with Journal(None, "revalidate") as journal:
        journal.begin("m-1", 1.0)
        journal.end([result("m-1", "accepted", "")])
        assert not journal.is_done("m-1")


@pytest.mark.parametrize("cut", range(1, 45))
def test_a_line_that_was_cut_short_says_nothing(path: Path, cut: int) -> None:
    """However much of the end is missing: what was done may be in doubt then, never taken for somebody else's."""
    with Journal(path, "revalidate") as journal:
        journal.begin("m-12", 1000.0)
        journal.end([result("m-12", "accepted", "")])
    written = path.read_bytes()
    path.write_bytes(written[:-cut])
    with Journal(path, "revalidate") as journal:
        assert not journal.is_done("m-12")
        assert not journal.is_done("m-1")
        assert journal.in_doubt_since("m-12") in {None, 1000.0}
        journal.begin("m-2", 2000.0)
    lines = path.read_text().splitlines()
    assert lines[0] == "# occ revalidate"
    assert lines[-1] == "m-2 begun 2000.000"
    assert set(lines[1:-1]) <= {"m-12 begun 1000.000"}


@pytest.mark.parametrize("content", ["m-1\nm-2\n", "m-1", "# occ disconnect\nm-1 accepted\n", "# occ", "\n"])
def test_a_file_that_is_no_journal_of_this_command_is_left_alone(path: Path, content: str) -> None:
    path.write_text(content)
    if not "# occ revalidate\n".startswith(content):
        with pytest.raises(CommandError, match="not a journal of `occ revalidate`"), Journal(path, "revalidate"):
            pass
        assert path.read_text() == content


def test_two_cannot_write_one_journal(path: Path) -> None:
    with Journal(path, "revalidate"):
        with pytest.raises(CommandError, match="another process"), Journal(path, "revalidate"):
            pass
        with Journal(path, "revalidate", read_only=True):
            pass


def test_reading_only_makes_no_file(path: Path) -> None:
    with Journal(path, "revalidate", read_only=True) as journal:
        journal.begin("m-1", 1.0)
    assert not path.exists()


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot use the journal"), Journal(tmp_path, "revalidate"):
        pass
