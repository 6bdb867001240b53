"""Which merchants a bulk command is about, from its options: those named, or all that match."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from integrations.connections.record import Connection, merchant_of
from integrations.connections.records import Records, Snapshot
from integrations.connections.status_index import StatusIndex
from integrations.errors import PermanentError, RequestRefused
from integrations.oracle_commerce.request import is_merchant_id
from occ.cli.bulk.results import Result, failed, failed_at_store, not_a_merchant, result
from occ.cli.failure import unknown_merchant
from occ.cli.options import BAD_MERCHANT_ID, Filters, filter_options, is_former_id, json_option

F = TypeVar("F", bound=Callable[..., object])

_PAGE = 500
_NAMED_PAGE = 100
_STANDARD_INPUT = "-"
_COMMENT = "#"


@dataclass(frozen=True, slots=True)
class Named:
    """Something given as a merchant id, and where: "argument 3", "line 12"."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A connection to act on."""

    connection: Connection
    snapshot: Snapshot

    @property
    def merchant_id(self) -> str:
        """Whose it is."""
        return self.connection.merchant_id


class Selection:
    """Iterates over the chosen connections, and over results for what cannot be chosen. Every merchant comes once.

    Never holds all of them in memory. `named` gives the names anew each time; None chooses among all connections.
    `total` is how many to examine, None if that is not known; `examined`, how many have been.
    """

    def __init__(
        self, records: Records, named: Callable[[], Iterable[Named]] | None, filters: Filters, *, total: int | None
    ) -> None:
        self._records = records
        self._named = named
        self._filters = filters
        self._index = StatusIndex(records)
        self.total = self._index.count(filters.statuses) if named is None else total
        self.examined = 0

    def __iter__(self) -> Iterator[Chosen | Result]:
        self.examined = 0
        return self._among_all() if self._named is None else self._among(self._named())

    def _among_all(self) -> Iterator[Chosen | Result]:
        for snapshot in self._index.snapshots(self._filters.statuses, page=_PAGE):
            self.examined += 1
            connection = snapshot.connection
            # A former store is being disconnected already.
            if connection is None or is_former_id(connection.merchant_id):
                continue
            if self._filters.match(connection):
                yield Chosen(connection, snapshot)

    def _among(self, named: Iterable[Named]) -> Iterator[Chosen | Result]:
        seen: set[str] = set()
        remaining = iter(named)
        while page := list(islice(remaining, _NAMED_PAGE)):
            usable = {name.text for name in page if is_merchant_id(name.text)}
            order = sorted(usable)
            snapshots = dict(zip(order, self._records.load_many(order), strict=True)) if order else {}
            for name in page:
                self.examined += 1
                if name.text not in usable:
                    yield _not_an_id(name)
                elif name.text not in seen:
                    seen.add(name.text)
                    yield self._judged(name.text, snapshots[name.text])

    def _judged(self, merchant_id: str, snapshot: Snapshot) -> Chosen | Result:
        if snapshot.unreadable:
            return failed_at_store(PermanentError("record_unreadable"), merchant_id)
        if snapshot.connection is None:
            return failed(unknown_merchant(merchant_id), merchant_id)
        if not self._filters.match(snapshot.connection):
            return result(merchant_id, "passed_over", "skipped, because it does not match")
        return Chosen(snapshot.connection, snapshot)


def _not_an_id(name: Named) -> Result:
    """What is no merchant id is not repeated: a key pasted in its place is a secret."""
    if is_former_id(name.text):
        sentence = f"is a former store of {merchant_of(name.text)}: it can only be read, and disconnects by itself"
        return not_a_merchant(RequestRefused("merchant_id", "former_store", f"this {sentence}"), name.where, sentence)
    refused = RequestRefused("merchant_id", "bad_merchant_id", BAD_MERCHANT_ID)
    return not_a_merchant(refused, name.where, f"is not a valid merchant id: {BAD_MERCHANT_ID}")


@dataclass(frozen=True, slots=True)
class Order:
    """What the options of a bulk command say: which merchants, and how to go about them."""

    merchants: tuple[str, ...]
    file: str | None
    filters: Filters
    dry_run: bool
    rate: float
    resume: Path | None
    as_json: bool

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Order":
        """From the options of `bulk_options`, which are taken out of `given`. Raises click.UsageError."""
        filters = Filters(given.pop("statuses"), given.pop("findings"), given.pop("hosts"))
        names = ("merchants", "file", "dry_run", "rate", "resume", "as_json")
        order = cls(filters=filters, **{name: given.pop(name) for name in names})
        if not order.names_some and not filters:
            raise click.UsageError("Name merchants, or choose them with --file, --status, --finding or --host.")
        return order

    @property
    def names_some(self) -> bool:
        """Whether merchants are named, not chosen among all."""
        return bool(self.merchants) or self.file is not None

    @property
    def is_single(self) -> bool:
        """Whether it is about one named merchant."""
        return self.file is None and len(self.merchants) == 1

    @property
    def is_from_standard_input(self) -> bool:
        """Whether the names come from where a confirmation would."""
        return self.file == _STANDARD_INPUT

    def selection(self, records: Records) -> Selection:
        """The merchants. Reading the file raises RequestRefused; standard input can be read once."""
        total = None if self.file is not None else len(self.merchants)
        return Selection(records, self._named if self.names_some else None, self.filters, total=total)

    def _named(self) -> Iterator[Named]:
        for number, text in enumerate(self.merchants, start=1):
            yield Named(f"argument {number}", text)
        if self.file is not None:
            try:
                yield from _lines_of(self.file)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no usable name"
                remedy = f"cannot read the file ({reason}); it needs a merchant id per line, or - for standard input"
                raise RequestRefused("file", "not_readable", remedy) from None


def _lines_of(source: str) -> Iterator[Named]:
    """Each id on a line of its own; empty lines and those that begin with # are skipped."""
    with nullcontext(sys.stdin.buffer) if source == _STANDARD_INPUT else Path(source).open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").strip()
            if text and not text.startswith(_COMMENT):
                yield Named(f"line {number}", text)


def bulk_options(command: F) -> F:
    """MERCHANT..., --file, the filters, --dry-run, --rate, --resume, --json; see `Order.of`."""
    options: tuple[Callable[[F], F], ...] = (
        click.argument("merchants", nargs=-1, metavar="[MERCHANT]..."),
        click.option("--file", metavar="FILE|-", help="File with a merchant id per line; - reads standard input."),
        filter_options,
        click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
        click.option(
            "--rate",
            type=click.FloatRange(0, 1000, min_open=True),
            default=20.0,
            show_default=True,
            help="Start at most this many per second.",
        ),
        click.option(
            "--resume",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Keep a journal of what was done, and skip what is in it already.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command
