"""The slots that registrations are tested on.

`SlotInMemory` is one slot with somebody else who writes to it at the moment a test chooses. It has the semantics of
updateWebHook: what a body names replaces what is stored, the rest stays. `DirectSlots` are those of a simulated store,
through our real client.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeVar

from hypothesis import strategies as st

from integrations.egress.deadline import Deadline
from integrations.errors import IntegrationError, PermanentError, SlotNotFound
from integrations.oracle_commerce.slot import Ours
from occ.simulator.direct import DirectCommerceCloud
from occ.simulator.store import SimulatedStore

T = TypeVar("T")

SLOT = "order-submit"
OURS = "https://hooks.example.com/occ/m-1/order-submit"
SPELLINGS = (
    OURS,
    "https://HOOKS.example.com/occ/m-1/order-submit",
    "HTTPS://hooks.example.com:443/occ/m-1/order-submit",
    "https://hooks.example.com/occ/m-1/order-submit/",
    "http://hooks.example.com/occ/m%2D1/order-submit",
)
MINE = Ours(OURS)
THEIRS = "https://oms.example.net/in"
FOREIGN = (
    THEIRS,
    "https://oms.example.net/in?b=1&a=2",
    "HTTPS://ERP.example.org:8443/Hook",
    "http://legacy.example.net:8080/hook",
    "https://user:word@oms.example.net/in",
    "https://hooks.example.com/occ/m-2/order-submit",
    "https://hooks.example.com/occ/m-1/order-submit/v2",
    "https://hooks.example.com/occ/m-1/Order-Submit",
)


class Meeting(Enum):
    """When somebody else writes, seen from our registration."""

    BEFORE_READ = "before our read"
    BEFORE_WRITE = "between our read and our write"
    BEFORE_ANSWER = "between our write and its answer"
    AFTER = "after our answer"


@dataclass
class Rival:
    """Another writer of the same slot. It merges like us, or replaces blindly whatever is there."""

    url: str
    how: Literal["merge", "replace"]
    when: Meeting

    def after(self, urls: list[str]) -> list[str]:
        """What it makes of the URLs it finds."""
        if self.how == "replace":
            return [self.url]
        return urls if self.url in urls else [*urls, self.url]


@dataclass
class SlotInMemory:
    """One slot of a store. `answers`: what a write is answered with; None as content: there is none to read."""

    content: dict[str, object]
    answers: Literal["content", "nothing", "settings only"] = "content"
    readable: bool = True
    hides_after_write: bool = False
    rival: Rival | None = None
    bodies: list[dict[str, object]] = field(default_factory=list)
    urls_when_read: list[list[str]] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        """The URLs it carries, however they are written."""
        held = self.content.get("urls")
        if held is None:
            held = self.content.get("url")
        if isinstance(held, str):
            return [text.strip() for text in held.split(", ") if text.strip()]
        return [url for url in held if isinstance(url, str) and url] if isinstance(held, list) else []

    @property
    def settings(self) -> dict[str, object]:
        """Everything but the URLs."""
        return {name: value for name, value in self.content.items() if name not in {"urls", "url"}}

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What it carries."""
        del slot_id  # it is the only one
        self.meet(Meeting.BEFORE_READ)
        if not self.readable:
            raise SlotNotFound("HTTP 404")
        self.urls_when_read.append(self.urls)
        return copy.deepcopy(self.content)

    def list_slots(self) -> list[dict[str, object]]:
        """A store that lets nobody read a slot shows no list either."""
        if not self.readable:
            raise PermanentError("request_refused", "HTTP 405")
        return [copy.deepcopy(self.content)]

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Replace what the body names."""
        del slot_id
        self.meet(Meeting.BEFORE_WRITE)
        self.bodies.append(copy.deepcopy(dict(body)))
        self.content.update(copy.deepcopy(dict(body)))
        self.readable &= not self.hides_after_write
        self.meet(Meeting.BEFORE_ANSWER)
        if self.answers == "nothing":
            return None
        return copy.deepcopy(self.content if self.answers == "content" else self.settings)

    def meet(self, moment: Meeting) -> None:
        """Let the rival write if this is its moment; it writes once."""
        if self.rival is not None and self.rival.when is moment:
            rival, self.rival = self.rival, None
            self.content = {**self.content, "urls": rival.after(self.urls)}

    def after(self, work: Callable[[], T], *, not_kept: str) -> T | None:
        """What the work came to once the rival who comes afterwards has come.

        None if the store is found not to have kept it: it ends with the code `not_kept`, or with one that says what the
        rival seems to have done.
        """
        before, done, codes = len(self.bodies), None, {not_kept, "url_pushed_out", "url_in_doubt"}
        try:
            done = work()
        except IntegrationError as error:
            if error.code not in codes:
                raise
        self.meet(Meeting.AFTER)
        assert len(self.bodies) <= before + 2, "it writes, and puts the former list back at most"
        return done


class OnlyListed:
    """Slots that no single read shows. `written`: what was sent."""

    def __init__(self, listing: list[dict[str, object]], reason: PermanentError | None = None) -> None:
        self.listing, self.reason = listing, reason or SlotNotFound("HTTP 404")
        self.written: list[dict[str, object]] = []

    def read_slot(self, slot_id: str) -> dict[str, object]:  # noqa: ARG002
        """There is none."""
        raise self.reason

    def list_slots(self) -> list[dict[str, object]]:
        """What all slots carry, whatever was written."""
        return copy.deepcopy(self.listing)

    def write_slot(self, slot_id: str, body: object) -> dict[str, object] | None:  # noqa: ARG002
        """Nothing shows it."""
        self.written.append(dict(body))  # type: ignore[call-overload]
        return None


class DirectSlots:
    """The slots of a simulated store, through the real client and without sockets."""

    def __init__(self, store: SimulatedStore) -> None:
        self._client = DirectCommerceCloud(store)
        self._token = self._client.login(store.application_key, Deadline.after(5)).access_token

    def read_slot(self, slot_id: str) -> dict[str, object]:
        """What a slot carries."""
        return self._client.read_slot(self._token, slot_id, Deadline.after(5))

    def list_slots(self) -> list[dict[str, object]]:
        """What all slots carry."""
        return self._client.list_slots(self._token, Deadline.after(5))

    def write_slot(self, slot_id: str, body: Mapping[str, object]) -> dict[str, object] | None:
        """Update a slot."""
        return self._client.write_slot(self._token, slot_id, body, Deadline.after(5))


def store_like_occ() -> SimulatedStore:
    """With a slot full of what is somebody else's."""
    content = {
        "urls": [THEIRS, "https://erp.example.org/x"],
        "headers": {"X-Integration": "acme"},
        "basicAuthentication": {"u": "p"},
        "resendDelaySeconds": 60,
        "urlApplicationSuppressionList": [{"url": THEIRS, "applications": ["a"]}],
    }
    return SimulatedStore("s", slots={SLOT: content}, masked_credentials=True)


ANSWERS = st.sampled_from(("content", "nothing", "settings only"))
"""What a slot may answer a write with."""

_urls = st.lists(st.sampled_from((*FOREIGN, *SPELLINGS)), max_size=6).map(
    lambda urls: [url for at, url in enumerate(urls) if url in SPELLINGS or url not in urls[:at]]
)
_shown: dict[str, Callable[[list[str]], dict[str, object]]] = {
    "list": lambda urls: {"urls": urls},
    "list with blanks": lambda urls: {"urls": ["", *urls, ""]},
    "text": lambda urls: {"urls": ", ".join(urls)},
    "beside a null url": lambda urls: {"urls": urls, "url": None},
    "null": lambda urls: {"urls": urls or None},
    "missing": lambda urls: {"urls": urls} if urls else {},
}
settings_of_others = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("order-submit"),
        "headers": st.sampled_from([None, {}, {"X-Integration": "acme"}]),
        "basicAuthentication": st.sampled_from([None, {"username": "u", "password": "p"}, {"u": "p"}, {"u": "***"}]),
        "maxNumberOfResendAttempts": st.sampled_from([5, "5", None]),
        "resendDelaySeconds": st.sampled_from([3600, "3600"]),
        "applyResendDelayToFirstAttempt": st.booleans(),
        "includeChangesOnly": st.booleans(),
        "subEntityTruncationSize": st.sampled_from([None, 500, "500"]),
        "urlApplicationSuppressionList": st.sampled_from([[], [{"url": THEIRS, "applications": ["a"]}]]),
        "secretKey": st.sampled_from([None, "c2VjcmV0"]),
    },
)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, object]:
    """Whatever a slot may hold before we come."""
    urls, shown = draw(_urls), draw(st.sampled_from(sorted(_shown)))
    if shown == "text":  # other cases there: see test_slots.py
        urls = [url for url in urls if url.startswith("http")]
    return {**draw(settings_of_others), **_shown[shown](urls)}


def rivals() -> st.SearchStrategy[Rival]:
    """Somebody else, who may even use a URL that is there already."""
    url = st.sampled_from(("https://rival.example.net/hook", THEIRS))
    return st.builds(Rival, url, st.sampled_from(("merge", "replace")), st.sampled_from(Meeting))


def foreign(urls: list[str]) -> list[str]:
    """Those that are not ours in any spelling."""
    return [url for url in urls if url not in SPELLINGS]


def ours(urls: list[str]) -> list[str]:
    """Those that are."""
    return [url for url in urls if url in SPELLINGS]
