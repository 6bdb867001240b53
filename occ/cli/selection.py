"""Which connections a bulk command is about: those that are named, or all that match; never all of them in memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from integrations.connections.record import Connection, merchant_of
from integrations.connections.records import Records, Snapshot
from integrations.errors import PermanentError, RequestRefused
from integrations.oracle_commerce.request import is_merchant_id
from occ.cli.failure import unknown_merchant
from occ.cli.filters import Filters
from occ.cli.parameters import BAD_MERCHANT_ID, is_former_id
from occ.cli.result import Result, failed, failed_at_store, result

_PAGE = 500
_NAMED_PAGE = 100


@dataclass(frozen=True, slots=True)
class Named:
    """Something given as a merchant id, and where it stands."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A connection to do something about."""

    connection: Connection
    snapshot: Snapshot

    @property
    def merchant_id(self) -> str:
        """Whose it is."""
        return self.connection.merchant_id


class Selection:
    """Iterates over what was chosen, and over results for what cannot be. Every merchant comes once.

    `named` gives the names anew each time; None chooses among all connections. `total` is how many there are to look
    at, None if that is not known; `examined` how many have been.
    """

    def __init__(
        self, records: Records, named: Callable[[], Iterable[Named]] | None, filters: Filters, *, total: int | None
    ) -> None:
        self._records = records
        self._named = named
        self._filters = filters
        self.total = records.count() if named is None else total
        self.examined = 0

    def __iter__(self) -> Iterator[Chosen | Result]:
        self.examined = 0
        return self._among_all() if self._named is None else self._among(self._named())

    def _among_all(self) -> Iterator[Chosen | Result]:
        for snapshot in self._records.all(page=_PAGE):
            self.examined += 1
            connection = snapshot.connection
            # A store that a merchant has left is on its way out already.
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
            return result(merchant_id, "passed_over", "passed over, for it does not match")
        return Chosen(snapshot.connection, snapshot)


def _not_an_id(name: Named) -> Result:
    """What is none is not repeated: a key pasted in its place is a secret."""
    if is_former_id(name.text):
        merchant_id = merchant_of(name.text)
        remedy = f"that is a store which {merchant_id} has left; it can be read, and is disconnected by itself"
        return failed(RequestRefused("merchant_id", "former_store", remedy), None, name.where)
    return failed(RequestRefused("merchant_id", "bad_merchant_id", BAD_MERCHANT_ID), None, name.where)
