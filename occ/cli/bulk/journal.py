"""What a bulk command has done, in a small file, so that it can be killed and resumed.

One id a line, appended and on disk before the next step is taken:

    # occ revalidate
    m-1 begun 1795435200.123       by the server's clock, before anything is asked for
    m-1 accepted                   the outcome; "failed" is tried again next time

What was begun and has no outcome is in doubt: a resumed command looks in the record whether it was done.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from occ.cli.bulk.results import FAILED, Result
from occ.cli.failure import CommandError, ExitCode

_BEGUN = "begun"
_FIELDS_OF_BEGUN = 3
_FIELDS_OF_END = 2


class Journal:
    """The journal of one bulk command; without a path it remembers nothing. Use as a context manager.

    Raises CommandError when the file cannot be used, is not a journal of this command, or is another process's.
    """

    def __init__(self, path: Path | None, command: str, *, read_only: bool = False) -> None:
        self._path = path
        self._heading = f"# occ {command}"
        self._read_only = read_only
        self._file: BinaryIO | None = None
        self._done: set[str] = set()
        self._begun: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._open(self._path)
            except OSError as error:
                self.__exit__(None, None, None)
                raise _unusable("not_usable", f"cannot use the journal ({os.strerror(error.errno or 0)})") from None
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_done(self, merchant_id: str) -> bool:
        """Whether an earlier run has dealt with this merchant."""
        return merchant_id in self._done

    def in_doubt_since(self, merchant_id: str) -> float | None:
        """When it was begun, if no outcome is written."""
        return self._begun.get(merchant_id)

    def begin(self, merchant_id: str, now: float) -> None:
        """It is about to be done; `now` is the server's time."""
        if self._file is not None:
            self._write(f"{merchant_id} {_BEGUN} {now:.3f}\n")

    def end(self, results: Iterable[Result]) -> None:
        """It was done, with these results."""
        if self._file is not None:
            self._write("".join(f"{result.merchant_id} {result.outcome}\n" for result in results))

    def _open(self, path: Path) -> None:
        if self._read_only:
            if path.exists():
                with path.open("rb") as file:
                    self._take_in(file)
            return
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _unusable("in_use", "another process is writing this journal; wait until it ends") from None
        self._file.seek(0)
        # A line that was cut short is ignored, and must not be completed by what is appended.
        self._file.truncate(self._take_in(self._file))
        if self._file.seek(0, os.SEEK_END) == 0:
            self._write(f"{self._heading}\n")

    def _take_in(self, file: BinaryIO) -> int:
        """Read what was written; returns where its last whole line ends. A file that is no journal is left as it is."""
        heading = f"{self._heading}\n".encode()
        first = file.read(len(heading))
        if not heading.startswith(first):
            remedy = f"this file is not a journal of `{self._heading.removeprefix('# ')}`; name another file"
            raise _unusable("other_journal", remedy)
        if first != heading:
            return 0
        end = len(heading)
        for line in file:
            if line.endswith(b"\n"):
                end += len(line)
                self._read(line.decode(errors="replace").split())
        return end

    def _read(self, fields: list[str]) -> None:
        if len(fields) == _FIELDS_OF_BEGUN and fields[1] == _BEGUN:
            self._begun[fields[0]] = float(fields[2])
        elif len(fields) == _FIELDS_OF_END:
            self._end(*fields)

    def _end(self, merchant_id: str, outcome: str) -> None:
        self._begun.pop(merchant_id, None)
        if outcome != FAILED:
            self._done.add(merchant_id)

    def _write(self, lines: str) -> None:
        if self._file is not None and lines:
            self._file.write(lines.encode())
            self._file.flush()
            os.fsync(self._file.fileno())


def _unusable(code: str, remedy: str) -> CommandError:
    return CommandError(ExitCode.REFUSED, code, remedy, field="resume")
