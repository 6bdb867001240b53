"""A store that treats the list of a slot its own way, in any mix of habits, and the desk that connects merchants to it.

What is in the list is kept with where it came from, so that a URL is known for what it is however it is spelt.
"""

import base64
import codecs
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from integrations.connections.record import Connection
from integrations.connections.records import Snapshot
from integrations.egress.deadline import Deadline
from integrations.errors import IntegrationError, PermanentError, SlotNotFound, TransientError
from integrations.oracle_commerce.accept import Door
from integrations.oracle_commerce.answers import FailedMessages, ShippingMethod
from integrations.oracle_commerce.slot import callback_url_for
from integrations.setting_values import SlotSpec
from tests.integrations.oracle_commerce.by_hand import Desk

SLOT = "order-submit"
DAY = 86400.0
Spell = Callable[[str], str]


def _added_to_query(url: str) -> str:
    return url if "via=store" in url else f"{url}{'&' if '?' in url else '?'}via=store"


def _with_port(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host}{'' if ':' in host else ':443'}{slash}{path}"


def _sorted_query(url: str) -> str:
    head, mark, query = url.partition("?")
    return head + mark + "&".join(sorted(query.split("&"), reverse=True))


READABLE: Mapping[str, Spell] = {
    "as it is": lambda url: url,
    "slash": lambda url: f"{url.rstrip('/')}/",
    "no slash": lambda url: url.rstrip("/"),
    "http": lambda url: url.replace("https://", "http://"),
    "port": _with_port,
    "upper scheme": lambda url: url.replace("https://", "HTTPS://"),
    "upper host": lambda url: url.replace(urlsplit(url).hostname or "?", (urlsplit(url).hostname or "?").upper()),
    "lower case": str.lower,
    "upper case": str.upper,
    "percent": lambda url: url.replace("-", "%2D"),
    "percent twice": lambda url: url.replace("-", "%252d"),
    "quoted": lambda url: quote(url, safe=":/?&=%"),
    "quoted whole": lambda url: url if "%3A%2F%2F" in url else quote(url, safe=""),
    "entities": lambda url: html.escape(html.unescape(url)),
    "numeric entities": lambda url: url.replace("/", "&#x2F;"),
    "JSON escapes": lambda url: url.replace("\\", "").replace("/", "\\/"),
    "spaces": lambda url: f" {url.strip()} ",
    "query sorted": _sorted_query,
    "query removed": lambda url: url.partition("?")[0],
    "query added": _added_to_query,
    "fragment": lambda url: f"{url.partition('#')[0]}#x",
    "cut at 60": lambda url: url[:60],
    "cut at 40": lambda url: url[:40],
    "cut at 32": lambda url: url[:32],
}
"""Spellings that leave something of a URL, or a store's usual ones."""
UNREADABLE: Mapping[str, Spell] = {
    "rot13": lambda url: codecs.encode(url, "rot13"),
    "base64": lambda url: base64.b64encode(url.encode()).decode(),
    "backwards": lambda url: url[::-1],
}
"""Made-up ones that leave nothing of it."""


@dataclass(frozen=True)
class Habits:
    """What a store does to a list. Names of spellings, in order; a limit of 0 is none. Times are seconds."""

    on_write: tuple[str, ...] = ()
    on_read: tuple[str, ...] = ()
    twice: str = ""  # "read" or "write"
    order: str = ""  # "reversed" or "sorted"
    room: int = 0  # beyond what is there at first; then the first ones go
    drops_new: bool = False  # beyond its room it keeps the first ones instead
    delay: float = 0.0  # until a write shows
    cache: float = 0.0  # age of an answer to a read
    answers: str = "content"  # or "nothing"
    names_slot: bool = True
    normal: bool = False  # what others put there went through `on_write` too
    wrong: tuple[tuple[int, str], ...] = ()  # number of the call, and what is wrong with its answer


@dataclass
class Entry:
    """A URL in the list, and where it came from: "ours:m-1", or the URL as somebody else put it there."""

    origin: str
    text: str


@dataclass
class AnyStore:
    """One store with one slot, under the interface that registrations and steps use."""

    habits: Habits
    now: Callable[[], float]
    entries: list[Entry] = field(default_factory=list)
    writes: list[tuple[float, str, list[str]]] = field(default_factory=list)  # when, whose, what
    before_write: list[Callable[["AnyStore"], object]] = field(default_factory=list)
    known_as: dict[str, str] = field(default_factory=dict)
    hidden_at_first: set[str] = field(default_factory=set)  # from somebody who never wrote there, by one wrong answer
    read_as: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by whom: what was shown, and what it was
    _then: list[tuple[float, list[Entry]]] = field(default_factory=list)  # since when it was what
    _cached: tuple[float, list[Entry]] | None = None
    _calls: int = 0
    _most: int = 0

    def fill(self, urls: list[str], merchants: Mapping[str, str]) -> None:
        """What is there at first, as it was put there."""
        self.entries = [self.entry(url, self._origin(url, merchants)) for url in urls]
        self._most = len(urls) + self.habits.room if self.habits.room else 0
        self._then = [(0.0, list(self.entries))]

    def entry(self, url: str, origin: str = "") -> Entry:
        """What a URL becomes that somebody else puts there."""
        text = spelt(self.habits.on_write, url) if self.habits.normal and not origin.startswith("ours:") else url
        return Entry(origin or url, text)

    def shows_as(self, entry: Entry) -> str:
        """A URL of the list as reading it shows it."""
        return spelt(self.habits.on_read, entry.text)

    @staticmethod
    def _origin(url: str, merchants: Mapping[str, str]) -> str:
        return next((f"ours:{merchant}" for merchant, ours in merchants.items() if url == ours), url)

    def shown_to(self, merchant: str) -> list[str]:
        """The list as reading shows it, a moment ago or longer."""
        if self._cached is None or self.now() - self._cached[0] >= self.habits.cache:
            held = next(held for since, held in reversed(self._then) if since + self._lag(since) <= self.now())
            self._cached = self.now(), held
        held = self._cached[1]
        self.read_as[merchant] = [(self.shows_as(entry), entry.origin) for entry in held]
        return self._spelt(held)

    def _lag(self, since: float) -> float:
        return self.habits.delay if since else 0.0

    def _spelt(self, held: list[Entry]) -> list[str]:
        urls = [self.shows_as(entry) for entry in held]
        if self.habits.order:
            urls = sorted(urls) if self.habits.order == "sorted" else urls[::-1]
        return [url for url in urls for _ in range(2)] if self.habits.twice == "read" else urls

    def change(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Somebody else does something to the list, carefully. The store's limit is for them too."""
        self.entries = self._limited(change(list(self.entries)))
        self._then.append((self.now(), list(self.entries)))

    def call(self) -> str:
        """What is wrong with the answer to the next call, if anything."""
        self._calls += 1
        return dict(self.habits.wrong).get(self._calls, "")

    def put(self, urls: list[str], merchant: str, ours: Mapping[str, str]) -> None:
        """Replace the list: each URL is known for what it was when this merchant read it, or is now, or else is new.

        But what the list held before in the very same letters is what it was, whatever it was read for.
        """
        was = list(self.entries)
        while self.before_write:
            self.before_write.pop()(self)
        self.writes.append((self.now(), merchant, list(urls)))
        for entry in (*was, *self.entries):  # old answers show them so
            for text in (entry.text, self.shows_as(entry)):
                self.known_as.setdefault(text, entry.origin)
        left = list(self.entries)
        kept, read_as = list[Entry](), list(self.read_as.get(merchant, ()))
        for url in urls:
            alike = sorted(left, key=lambda it: self.shows_as(it) != url)  # what was read, before what is kept
            known = next((it for it in alike if url in (it.text, self.shows_as(it))), None)
            if known is not None and url not in ours.values():
                left.remove(known)
            origin = self._origin(url, ours)
            if origin == url and (read := next((it for it in read_as if it[0] == url), None)):
                read_as.remove(read)
                origin = read[1]
            elif origin == url:
                origin = known.origin if known else self.known_as.get(url, url)
            kept.append(Entry(origin, spelt(self.habits.on_write, url)))
        _known_by_letters([it for url, it in zip(urls, kept, strict=True) if url not in ours.values()], self.entries)
        if self.habits.twice == "write":
            kept = [Entry(it.origin, it.text) for it in kept for _ in range(2)]
        self.entries = self._limited(kept)
        self._then.append((self.now(), list(self.entries)))

    def _limited(self, entries: list[Entry]) -> list[Entry]:
        if not self._most:
            return entries
        return entries[: self._most] if self.habits.drops_new else entries[-self._most :]


def _known_by_letters(sent: list[Entry], held: list[Entry]) -> None:
    """What the list held before in the very same letters stays what it was, whatever the sender read it for.

    A store that cuts what it shows may show ours, after our write, as it showed another's before, and that one as
    something else. The former list, put back at once, then names the other's in letters that the last answer showed for
    ours. But the store delivers to what it holds, and that is the other's, as it was. If what it was read for is named
    by other letters in the same list, the two change places; or else it is gone. Where two are held in the same
    letters, letters tell nothing. Callback URLs of ours as we make them are not among what is `sent`.
    """
    left, others = list(held), list[Entry]()
    for entry in sent:
        if entry in left:
            left.remove(entry)
        else:
            others.append(entry)
    for entry in others:
        alike = [it for it in left if it.text == entry.text]
        if len({it.origin for it in alike}) == 1:
            left.remove(alike[0])
            misread = next((it for it in others if it is not entry and it.origin == alike[0].origin), None)
            if misread is not None:
                misread.origin = entry.origin
            entry.origin = alike[0].origin


def spelt(spellings: tuple[str, ...], url: str) -> str:
    for name in spellings:
        url = (READABLE.get(name) or UNREADABLE[name])(url)
    return url


@dataclass
class OneMerchant:
    """The store as one merchant's work calls it."""

    store: AnyStore
    merchant: str
    ours: Mapping[str, str]
    key_accepted: bool = True

    def exchange_key(self, *, since: float) -> None:
        """Every key is a good one."""

    def shipping_methods(self) -> list[ShippingMethod]:
        """One, always."""
        return [ShippingMethod("m", enabled=True)]

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What it shows, unless something is wrong with the answer."""
        wrong = self.store.call()
        if wrong in {"error", "mixed up"}:  # our client takes an object that names another slot for no answer
            raise TransientError("unreadable_answer" if wrong == "mixed up" else "store_error")
        if wrong == "not found":
            raise SlotNotFound("HTTP 404")
        if wrong == "empty":
            if not any(whose == self.merchant for _, whose, _ in self.store.writes):
                self.store.hidden_at_first |= {entry.origin for entry in self.store.entries}
            return self._content(slot_id, [])
        if wrong == "somebody else's" and not self.store.habits.names_slot:
            return {"urls": ["https://other.example/slot"], "headers": None}
        return self._content(slot_id, self.store.shown_to(self.merchant))

    def _content(self, slot_id: str, urls: list[str]) -> dict[str, object]:
        return {**({"id": slot_id} if self.store.habits.names_slot else {}), "urls": urls, "headers": None}

    def list_slots(self) -> list[dict[str, object]]:
        """The slot among others."""
        if self.store.call() == "error":
            raise TransientError("store_error")
        return [{"id": "another", "urls": []}, {"id": SLOT.upper(), "urls": self.store.shown_to(self.merchant)}]

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Replace the list, and answer as this store does."""
        wrong = self.store.call()
        if wrong == "error":
            raise TransientError("store_busy")
        urls = body["urls"]
        assert isinstance(urls, list)
        self.store.put(urls, self.merchant, self.ours)
        if wrong == "lost":
            raise TransientError("store_timeout")
        if self.store.habits.answers == "nothing":
            return None
        self.store.read_as[self.merchant] = [(self.store.shows_as(it), it.origin) for it in self.store.entries]
        return self._content(slot_id, self.store._spelt(self.store.entries))

    def failed_messages(self, *, limit: int, offset: int) -> FailedMessages:  # noqa: ARG002
        """It keeps no log."""
        raise PermanentError("request_refused")


class Keeper:
    """Connects merchants to one store, and works off whatever is due."""

    def __init__(self, habits: Habits, merchants: tuple[str, ...], template: str, prior: list[str]) -> None:
        slots = {SLOT: SlotSpec(SLOT)}
        self.desk = Desk(callback_url=template, slots=slots, blind_writes="yes", recheck_degraded="12h")
        self.desk.records.writes_out = False  # a fifth of the time
        self.ours = {merchant: callback_url_for(template, merchant, SLOT) for merchant in merchants}
        self.store = AnyStore(habits, lambda: self.desk.now)
        self.store.fill([self.ours.get(url, url) for url in prior], self.ours)
        self.address = self.desk.store()
        self.desk.services.store = self._store_of  # type: ignore[method-assign]

    def _store_of(self, snapshot: Snapshot, connection: Connection, deadline: Deadline) -> Any:  # noqa: ARG002
        return OneMerchant(self.store, connection.merchant_id.partition("@")[0], self.ours)

    def connect(self, merchant: str) -> None:
        """Ask for a connection, and see what can be done at once."""
        self.desk.connect(self.address, merchant_id=merchant)
        self.desk.wait(1)

    def disconnect(self, merchant: str) -> None:
        """Ask to leave the store."""
        services = self.desk.services
        try:
            services.acceptance.disconnect({"merchant_id": merchant}, Door.INBOX)
        except IntegrationError:
            raise AssertionError("a request is refused by no store") from None
