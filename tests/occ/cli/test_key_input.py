"""The application key comes from a file or from standard input, in whatever state people save it."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import MAX_FIELD_LENGTH
from occ.cli.key_input import read_key


def test_a_key_is_read_without_what_an_editor_put_around_it(key_file: Path, application_key: str) -> None:
    assert read_key(str(key_file)) == application_key


def test_a_key_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" a.b.c\n")))
    assert read_key("-") == "a.b.c"


def test_a_key_is_read_from_a_named_pipe(tmp_path: Path) -> None:
    """As with process substitution, `--application-key-file <(pass show ...)`."""
    reading, writing = os.pipe()
    os.write(writing, b"a.b.c\n")
    os.close(writing)
    assert read_key(f"/dev/fd/{reading}") == "a.b.c"
    os.close(reading)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "missing"),
        (b" \n\t", "missing"),
        (b"\xef\xbb\xbf", "missing"),
        (b"\xff\xfea\0.\0b\0", "not_text"),
        (b"\x7fELF\x80\x81", "not_text"),
        (b"x" * (MAX_FIELD_LENGTH + 1), "too_large"),
    ],
)
def test_a_file_that_holds_no_key_is_refused(content: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(RequestRefused) as refused:
        read_key(str(tmp_path / "key"))
    assert (refused.value.field, refused.value.code) == ("application_key", code)


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", "not_found"), (".", "is_a_directory"), ("n" * 5000, "not_found"), ("\0", "not_found")],
)
def test_a_file_that_cannot_be_read_is_refused_without_repeating_its_name(name: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_key(f"{tmp_path}/{name}")
    assert (refused.value.field, refused.value.code) == ("application_key_file", code)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"a.b.c")
    (tmp_path / "key").chmod(0)
    with pytest.raises(RequestRefused) as refused:
        read_key(str(tmp_path / "key"))
    assert refused.value.code == "not_readable"


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(RequestRefused, match="at most"):
        read_key("/dev/zero")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_a_file_holds_it_is_a_text_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / "key"
    file.write_bytes(content)
    with suppress(RequestRefused):
        text = read_key(str(file))
        assert text == text.strip() != ""
