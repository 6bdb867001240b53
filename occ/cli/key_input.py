"""The application key from a file or standard input; never from the command line, which all users can see."""

import getpass
import os
import sys
from pathlib import Path

from integrations.errors import RequestRefused
from integrations.oracle_commerce.request import MAX_FIELD_LENGTH

STANDARD_INPUT = "-"

_FILE_FIELD = "application_key_file"
_WHICH = "name a file that contains the key, or - for standard input"


def read_key(source: str) -> str:
    """The content of the file `source`, or of standard input if that is "-", without surrounding white space.

    Raises RequestRefused. The name of the file is not repeated: it may be a key that was given in its place.
    """
    return key_from_standard_input() if source == STANDARD_INPUT else _text(_content(source))


def key_from_standard_input() -> str:
    """The same from standard input; on a terminal it prompts, and does not show what is typed."""
    if sys.stdin is None:
        return _text(b"")
    if sys.stdin.isatty():
        try:
            return _text(getpass.getpass("Application key (not shown): ").encode(errors="replace"))
        except EOFError:
            return _text(b"")
    return _text(sys.stdin.buffer.read(MAX_FIELD_LENGTH + 1))


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_FIELD_LENGTH + 1)
    except IsADirectoryError:
        raise RequestRefused(_FILE_FIELD, "is_a_directory", f"this is a directory; {_WHICH}") from None
    except PermissionError:
        raise RequestRefused(
            _FILE_FIELD, "not_readable", "you are not allowed to read this file; change its permissions"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no usable name"
        remedy = f"cannot read the file ({reason}); {_WHICH}"
        raise RequestRefused(_FILE_FIELD, "not_found", remedy) from None


def _text(content: bytes) -> str:
    if len(content) > MAX_FIELD_LENGTH:
        raise _refused("too_large", f"a key has at most {MAX_FIELD_LENGTH} characters; this is longer")
    try:
        text = content.decode("utf-8-sig").strip()  # Windows editors put a mark in front
    except UnicodeDecodeError:
        raise _refused("not_text", "this is not UTF-8 text; save only the key, as plain text") from None
    if not text:
        raise _refused("missing", "it is empty; give the application key as the Oracle Commerce admin shows it")
    return text


def _refused(code: str, remedy: str) -> RequestRefused:
    return RequestRefused("application_key", code, remedy)
