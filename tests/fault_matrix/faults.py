"""The faults: a name for people, how a store or the way to it comes by them, and how they end."""

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from integrations.errors import IntegrationError
from integrations.settings import SlotSpec
from occ.simulator import make_application_key
from occ.simulator.faults import fault_from
from occ.simulator.rivals import Rival
from occ.simulator.webhooks import Change, Slot
from tests.fault_matrix.on_the_wire import WIRE
from tests.fault_matrix.stand import OTHERS_HEADERS, OTHERS_LOGIN, OTHERS_URL, Stand
from tests.integrations.oracle_commerce.by_hand import ours

FAULTY = "order-submit"
"""The slot that the faults of slots are about; the other one shows whether its neighbours feel them."""

SLOTS = MappingProxyType({name: SlotSpec(name) for name in (FAULTY, "order-update")})


class Occasion(StrEnum):
    """What is being done when a fault strikes."""

    ONBOARDING = "onboarding"
    REVALIDATION = "re-validation"
    NEW_KEY = "a new key"
    DISCONNECT = "disconnect"


Do = Callable[[Stand], object]
"""Done to a stand."""

_DAY = 86_400
_WEEK = 7 * _DAY


def _heal(stand: Stand) -> None:
    stand.store.heal()


@dataclass(frozen=True, eq=False)
class Fault:
    """One fault. `end` is None where nobody undoes it. `settings`: ours, where it takes other than the defaults.

    `only`: the occasions it can be had on; empty for all. `lasts`: seconds after which there is something new again.
    `kind`: the simulator's name of it, if it has one.
    """

    name: str
    begin: Do
    end: Do | None = _heal
    settings: Mapping[str, Any] = field(default_factory=dict)
    only: frozenset[Occasion] = frozenset()
    lasts: float = 0.0
    kind: str = ""


def scripted(name: str, fault: str | int, **options: Any) -> Fault:
    """One of the simulator's kinds of fault, at every call unless told how many times."""
    entry = {"fault": fault, "times": "always", **options}
    return Fault(name, lambda stand: stand.store.fail(stand.target, entry), kind=fault_from(entry).kind)


def changed(name: str, /, **changes: Any) -> Fault:
    """Another setting of the store, until its default is back."""

    def end(stand: Stand) -> None:
        stand.store.change(**{setting: getattr(type(stand.store.settings)(), setting) for setting in changes})

    return Fault(name, lambda stand: stand.store.change(**changes), end)


def on_the_wire(name: str, error: IntegrationError) -> Fault:
    """What no store can do, only what lies between: the session's own error."""

    def begin(stand: Stand) -> None:
        stand.session.trouble = error

    def end(stand: Stand) -> None:
        stand.session.trouble = None

    return Fault(name, begin, end)


# --- Of any call ----------------------------------------------------------------------------------------------------

ANY_CALL = (
    scripted("HTTP 400", 400),
    scripted("HTTP 401", 401),
    scripted("HTTP 403", 403),
    scripted("HTTP 403 with errorCode 60012 (performance guard)", "guard_60012"),
    scripted("HTTP 403 with a web page", "forbidden_page"),
    scripted("HTTP 404", 404),
    scripted("HTTP 405", 405),
    scripted("HTTP 408", 408),
    scripted("HTTP 409", 409),
    scripted("HTTP 410", 410),
    scripted("HTTP 422", 422),
    scripted("HTTP 429", 429),
    scripted("HTTP 429, Retry-After 120", 429, retry_after=120),
    scripted("HTTP 429, Retry-After a date 2 min ahead", 429, retry_after_date=120),
    scripted("HTTP 429, Retry-After nonsense", 429, retry_after="soon"),
    scripted("HTTP 429, Retry-After a week", 429, retry_after=_WEEK),
    scripted("HTTP 500", 500),
    scripted("HTTP 502 with a web page", 502),
    scripted("HTTP 503 with a web page", 503),
    scripted("HTTP 503, Retry-After 120", 503, retry_after=120),
    scripted("HTTP 504 with a web page", 504),
    scripted("error 500 in a 200", "error_in_200"),
    scripted("error 401 in a 200", "error_in_200", body_status="401"),
    scripted("error 404 in a 200", "error_in_200", body_status="404"),
    scripted("a web page in a 200", "html_in_200"),
    scripted("redirect elsewhere", "redirect"),
    scripted("connection reset", "reset"),
    scripted("no answer (hangs)", "hang"),
    scripted("answer is not HTTP", "not_http"),
    scripted("head drips in", "drip_head"),
    scripted("body drips in", "drip_body"),
    scripted("answer cut off", "truncated"),
    scripted("JSON cut off", "broken_json"),
    scripted("empty 200", "empty"),
    scripted("HTTP 204", "no_content"),
    scripted("huge body", "huge"),
    scripted("huge header", "huge_head", size=70_000),
    scripted("gzip bomb", "gzip_bomb", size=3_000_000),
    scripted("interim answers without end", "endless", of="interim"),
    scripted("headers without end", "endless", of="headers"),
    scripted("chunks without end", "endless", of="chunks"),
    scripted("trailers without end", "endless", of="trailers"),
    scripted("gzip blocks without end", "endless", of="gzip"),
    scripted("103 ahead of the answer", "early_hints"),
    scripted("answers after 3 s", "slow"),
    scripted("closes without notice", "close"),
    scripted("list without `items`", "bare_array"),
    scripted("list under `items`", "items"),
    scripted("HTTP 503, three times", 503, times=3),
)
"""What can happen to every call: the simulator's kinds, and the statuses that mean something of their own."""

# --- On the way -----------------------------------------------------------------------------------------------------


def _unreachable(stand: Stand) -> None:
    stand.store.change(reachable=False)


def _reachable(stand: Stand) -> None:
    stand.store.change(reachable=True)


ON_THE_WAY = (
    Fault("connection refused", _unreachable, _reachable),
    scripted("every connection reset", "reset"),
    scripted("every connection hangs", "hang"),
    scripted("every connection drips", "drip"),
    *(on_the_wire(name, error) for name, error in WIRE.items()),
)

# --- The application key --------------------------------------------------------------------------------------------


def _revoked(stand: Stand) -> None:
    stand.store.change(revoke_keys=[stand.store.application_key])


def _accepted_again(stand: Stand) -> None:
    stand.store.change(accept_keys=[stand.store.application_key])


def _with_key(*, ends_in: float) -> Do:
    """The merchant's key has an end. Only before it is sent: the store's own would be another key."""

    def begin(stand: Stand) -> None:
        stand.store.change(application_key=make_application_key(issued_at=stand.now, lifetime=ends_in))

    return begin


def _revoked_as(shape: str) -> Do:
    def begin(stand: Stand) -> None:
        _revoked(stand)
        stand.store.change(login_rejection=shape)

    return begin


KEY = (
    *(
        Fault(f"key revoked, 401 {how}", _revoked_as(shape), _accepted_again)
        for shape, how in {
            "errorCode": "with an errorCode",
            "plain": "without a code",
            "error": "as OAuth tells it",
            "empty": "without a body",
            "html": "with a web page",
        }.items()
    ),
    scripted("HTTP 400 without JSON", 400, shape="html"),
    scripted("HTTP 400 without a body", 400, shape="empty"),
    scripted("HTTP 401 for three minutes", 401, times=None, seconds=180),
    changed("lifetime of the token not told", expires_in="missing"),
    changed("lifetime of the token as text", expires_in="string"),
)

KEY_WITH_AN_END = (
    Fault("key ended yesterday", _with_key(ends_in=-_DAY), None, only=frozenset({Occasion.ONBOARDING})),
    Fault(
        "key ends in 20 days",
        _with_key(ends_in=20 * _DAY),
        None,
        only=frozenset({Occasion.ONBOARDING}),
        lasts=22 * _DAY,
    ),
)

# --- The access token -----------------------------------------------------------------------------------------------


def _tokens_killed(stand: Stand) -> None:
    stand.store.kill_tokens()


TOKEN = (
    scripted("401 without a code", 401, shape="plain"),
    scripted("401 with a web page", 401, shape="html"),
    changed("token dies after a second, though it should live 5 min", token_dies_after=1),
    changed("token good for one call only", token_uses=1),
    Fault("all tokens killed once", _tokens_killed),
)

# --- Shipping methods -----------------------------------------------------------------------------------------------

SHIPPING = (
    changed("no shipping method", shipping_methods=[]),
    changed("none of them enabled", shipping_methods=[{"enabled": False}], filters_enabled=False),
    changed("none of them enabled, told as text", shipping_methods=[{"enabled": "false"}], filters_enabled=False),
    changed("methods that do not say whether they are enabled", shipping_methods=[{"missing": ["enabled"]}]),
    changed("list at another path", shipping_path="/ccadmin/v2/shippingMethods"),
)

# --- One slot -------------------------------------------------------------------------------------------------------


def _id(stand: Stand) -> str:
    return stand.wiring.settings.slots[FAULTY].id


def _fill(stand: Stand, **content: Any) -> None:
    stand.store.change(slots={_id(stand): content})


def _slot_gone(stand: Stand) -> None:
    stand.store.change(slots={_id(stand): None})


def _slot_back(stand: Stand) -> None:
    _fill(stand, urls=[OTHERS_URL], headers=OTHERS_HEADERS, basicAuthentication=OTHERS_LOGIN)


def _gone_with(status: int) -> Do:
    def begin(stand: Stand) -> None:
        _slot_gone(stand)
        stand.store.change(unknown_slot_status=status)

    return begin


def _unlisted(read: int, listing: int | str, write: int | str = "healthy") -> Do:
    """The slot's own read fails, and the list does not help."""

    def begin(stand: Stand) -> None:
        for call, fault in ((stand.target, read), ("list_slots", listing), (f"write_slot:{_id(stand)}", write)):
            stand.store.fail(call, {"fault": fault, "times": "always"})

    return begin


def _all_empty(stand: Stand) -> None:
    stand.store.change(slots={spec.id: {"urls": []} for spec in stand.wiring.settings.slots.values()})


READ_SLOT = (
    Fault("404 and 405 for the list of slots", _unlisted(404, 405)),
    Fault("404 and 403 for the list of slots", _unlisted(404, 403)),
    Fault("404 and 503 for the list of slots", _unlisted(404, 503)),
    Fault("405 and 405 for the list of slots", _unlisted(405, 405)),
    Fault("404 for the slot, read or written; 405 for the list", _unlisted(404, 405, 404)),
    Fault("slot not offered: 404", _slot_gone, _slot_back),
    Fault("slot not offered: 400", _gone_with(400), _slot_back),
    Fault(
        "slot carries something other than URLs",
        lambda stand: _fill(stand, urls=[{"href": OTHERS_URL}]),
        lambda stand: _fill(stand, urls=[OTHERS_URL]),
    ),
)

WRITE_SLOT = (
    scripted("answered well, not carried out", "write_ignored"),
    scripted("answered as if carried out, and not", "write_ignored", answers="as_asked"),
    scripted("carried out, then reset before the answer", "reset", processed=True, times=1),
    scripted("carried out, then no answer", "hang", processed=True, times=1),
    scripted("carried out, then HTTP 503", 503, processed=True, times=1),
    Fault(
        "slots hold one URL, and somebody else's is in it (OCC_WEBHOOK_BODY=url)",
        lambda stand: stand.store.change(body_style="url"),
        _all_empty,
        {"webhook_body": "url"},
        frozenset({Occasion.ONBOARDING}),
    ),
)

# --- What a store makes of what it is sent ---


class Habit(Rival):
    """What a store does to the list of the slot before it answers a write."""

    def __init__(self, habit: Callable[[list[str]], list[str]]) -> None:
        super().__init__("", when="after_write", slot=FAULTY, times=None, seen_in_answer=True)
        self._habit = habit

    def write(self, slot: Slot, ours: Change | None = None) -> None:  # noqa: ARG002 - it comes with every write
        slot.replace_urls(self._habit(slot.urls))


def habit(name: str, made: Callable[[list[str]], list[str]]) -> Fault:
    """A store with a habit, as long as it has it."""
    return Fault(
        name,
        lambda stand: stand.store._endpoints.disturbances.rivals.append(Habit(made)),
        lambda stand: stand.store.change(rivals=[]),
    )


def _each(spell: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    return lambda urls: [url if url == OTHERS_URL else spell(url) for url in urls]


HABITS = (
    habit("store adds a slash to URLs", _each(lambda url: f"{url.rstrip('/')}/")),
    habit("store adds a slash to everybody's URLs", lambda urls: [f"{url.rstrip('/')}/" for url in urls]),
    habit("store keeps URLs as http", _each(lambda url: url.replace("https:", "http:"))),
    habit("store cuts URLs off after 40 characters", _each(lambda url: url[:40])),
    habit("store keeps our URL in a form that nobody can read", _each(lambda url: codecs.encode(url, "rot13"))),
    habit("store holds every URL twice", lambda urls: [url for url in urls for _ in range(2)]),
    habit("store keeps the last URL only", lambda urls: urls[-1:]),
)
"""Found when we write. What is somebody else's stays, unless the store itself drops, doubles or changes it."""

# --- What others do -------------------------------------------------------------------------------------------------


def _urls(*urls: Callable[[str], str]) -> Do:
    """Somebody else writes the slot's list: each URL is made from ours."""

    def begin(stand: Stand) -> None:
        _fill(stand, urls=[url(ours(FAULTY)) for url in urls])

    return begin


def _theirs(_ours: str) -> str:
    return OTHERS_URL


def _ours(ours: str) -> str:
    return ours


def _preview_only(stand: Stand) -> None:
    _fill(stand, urls=[OTHERS_URL])
    twin = _id(stand).replace("production-", "publishing-")
    stand.store.change(slots={twin: {"urls": [ours(FAULTY)]}})


def _rival(**rival: Any) -> Fault:
    name = rival.pop("name")
    entry = {"url": "https://rival.example.org/in", "slot": FAULTY, "times": "always", **rival}

    def begin(stand: Stand) -> None:
        _fill(stand, urls=[OTHERS_URL])
        stand.store.change(rivals=[entry])

    return Fault(name, begin, lambda stand: stand.store.change(rivals=[]))


def _dropped_once(stand: Stand) -> None:
    _fill(stand, urls=[OTHERS_URL])
    stand.store.change(drops_url_after=15, drops_times=1)


_TWIN = {"slots": {**SLOTS, FAULTY: SlotSpec("production-submitOrder")}}

DRIFT = (
    Fault("our URL taken out", _urls(_theirs), None),
    Fault("our URL there twice", _urls(_theirs, _ours, _ours), None),
    Fault("our URL changed (a query added)", _urls(_theirs, lambda ours: f"{ours}?source=shop"), None),
    Fault("our URL only in the preview variant", _preview_only, None, _TWIN),
    Fault("slot no longer offered", _slot_gone, _slot_back),
    Fault(
        "a header of the slot gone",
        lambda stand: _fill(stand, headers=None),
        lambda stand: _fill(stand, headers=OTHERS_HEADERS),
    ),
    Fault(
        "basic authentication gone",
        lambda stand: _fill(stand, basicAuthentication=None),
        lambda stand: _fill(stand, basicAuthentication=OTHERS_LOGIN),
    ),
    Fault("secret reset", lambda stand: stand.store.reset_secret(_id(stand)), None),
    Fault("store drops our URL 15 s after the repair, once", _dropped_once, None),
    _rival(name="somebody undoes our write at once, always", when="after_write", how="undo", seen_in_answer=True),
    _rival(name="somebody undoes our write a minute later, always", when="after_write", how="undo", delay=60),
    _rival(
        name="somebody replaces the list a minute after our write, always", when="after_write", how="replace", delay=60
    ),
    _rival(name="somebody adds a URL at the moment of our write", when="between_read_and_write", how="merge", times=1),
)
