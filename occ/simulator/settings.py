"""What can be set on one simulated store; the names are the same in JSON and in Python."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from occ.simulator.rivals import Rival
from occ.simulator.setting_error import SettingError
from occ.simulator.shipping import shipping_method
from occ.simulator.spelling import Spelling, checked_rules
from occ.simulator.webhooks import ALL_IDS


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How one store behaves when nothing is wrong with it. Durations in seconds; None means no limit."""

    # key and tokens
    enforce_key_expiry: bool = True
    login_rejection: str = "errorCode"  # the shape of the 401 for a key it does not accept
    token_refusal: str = "plain"  # the shape of the 401 for a token it does not accept
    token_lifetime: float = 300  # what it announces
    token_dies_after: float | None = None  # what it keeps to, if that differs
    token_uses: int | None = None  # calls a token is good for; 1: it dies between every pair of calls
    expires_in: str = "number"  # or "string", "missing"
    # shipping methods
    shipping_path: str = "/ccadmin/v1/shippingMethods"
    shipping_methods: object = field(default_factory=lambda: [shipping_method()])
    shipping_wrapper: str = "items"  # or "array"
    filters_enabled: bool = True  # whether enabledOnly (default true) is honoured
    # slots
    offers: Sequence[str] = ALL_IDS
    slots: Mapping[str, object] = field(default_factory=dict)  # prior content; None: not offered
    own_urls_start_with: str | None = None  # prior URLs that are not foreign
    slot_list_wrapper: str = "array"  # or "items"
    quoted_numbers: bool = True
    body_style: str = "urls"  # or "url"
    masked_credentials: bool = False
    shows_secrets: bool = False  # also to those who do not ask for them
    allows_http: bool = False
    unknown_slot_status: int = 404
    drops_url_after: float | None = None  # a URL we added disappears so long after the write
    drops_times: int | None = None  # how often per slot
    spells_stored: Sequence[str] = ()  # what it makes of URLs when they are written: see spelling.py
    spells_shown: Sequence[str] = ()  # and of those it shows
    keeps_last: int | None = None  # URLs of a slot, the latest ones
    shows_urls_twice: bool = False
    shows_ids: str = "as_they_are"  # or "upper"
    shows_writes_after: float = 0  # what is read before, and the write's own answer, are of before
    rivals: Sequence[Rival] = ()
    # deliveries
    signs_with: str = "both"  # "sha1" or "sha512" in the one header, or sha1 in it and sha512 in a second
    resend_delay: float | None = None  # between attempts; None: as the slot says, an hour by default
    disables_target_after: int | None = 3  # messages given up in a row; invented, Oracle gives no number
    order_step: float = 0  # between the stages of an order's life
    # the wire
    latency: float | None = None  # None: the simulator's
    jitter: float | None = None
    clock_ahead: float = 0  # of its Date and Retry-After, against ours; negative: behind

    @property
    def spelling(self) -> Spelling:
        """What it makes of lists of URLs."""
        return Spelling(self.spells_stored, self.spells_shown, self.keeps_last, self.shows_urls_twice)


def _boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise SettingError("is true or false")
    return value


def _seconds(value: object) -> object:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise SettingError("is a number, not negative")
    return value


def _number(value: object) -> object:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise SettingError("is a number")
    return value


def _count(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SettingError("is a whole number, not negative")
    return value


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise SettingError("is text")
    return value


def _one_of(*choices: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if value not in choices:
            raise SettingError(f"is one of {', '.join(choices)}")
        return value

    return check


def _or_none(check: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else check(value)


def _times(value: object) -> object:
    return None if value in (None, "always") else _count(value)


def _texts(value: object) -> object:
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        raise SettingError("is a list of texts")
    return tuple(value)


def _contents(value: object) -> object:
    if isinstance(value, (list, tuple)):
        value = {str(slot): {} for slot in value}
    if not isinstance(value, Mapping) or not all(item is None or isinstance(item, Mapping) for item in value.values()):
        raise SettingError("maps slot ids to their content")
    return value


def _rivals(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        raise SettingError("is a list of rivals")
    return tuple(entry if isinstance(entry, Rival) else Rival.parse(entry) for entry in value)


_SHAPES = _one_of("errorCode", "plain", "error", "empty", "html")
_CHECKS: Mapping[str, Callable[[object], object]] = {
    "enforce_key_expiry": _boolean,
    "login_rejection": _SHAPES,
    "token_refusal": _SHAPES,
    "token_lifetime": _seconds,
    "token_dies_after": _or_none(_seconds),
    "token_uses": _or_none(_count),
    "expires_in": _one_of("number", "string", "missing"),
    "shipping_path": _text,
    "shipping_methods": lambda value: value,
    "shipping_wrapper": _one_of("items", "array"),
    "filters_enabled": _boolean,
    "offers": _texts,
    "slots": _contents,
    "own_urls_start_with": _or_none(_text),
    "slot_list_wrapper": _one_of("array", "items"),
    "quoted_numbers": _boolean,
    "body_style": _one_of("urls", "url"),
    "masked_credentials": _boolean,
    "shows_secrets": _boolean,
    "allows_http": _boolean,
    "unknown_slot_status": _count,
    "drops_url_after": _or_none(_seconds),
    "drops_times": _times,
    "spells_stored": checked_rules,
    "spells_shown": checked_rules,
    "keeps_last": _or_none(_count),
    "shows_urls_twice": _boolean,
    "shows_ids": _one_of("as_they_are", "upper"),
    "shows_writes_after": _seconds,
    "rivals": _rivals,
    "signs_with": _one_of("sha1", "sha512", "both"),
    "resend_delay": _or_none(_seconds),
    "disables_target_after": _or_none(_count),
    "order_step": _seconds,
    "latency": _or_none(_seconds),
    "jitter": _or_none(_seconds),
    "clock_ahead": _number,
}
SETTING_NAMES = tuple(setting.name for setting in fields(StoreSettings))


def changed(settings: StoreSettings, changes: Mapping[str, object]) -> StoreSettings:
    """The settings with these changes. Raises SettingError naming the one that does not fit."""
    if unknown := changes.keys() - set(SETTING_NAMES):
        raise SettingError(f"a store has no {', '.join(sorted(unknown))}; it has {', '.join(SETTING_NAMES)}")
    checked: dict[str, object] = {}
    for name, value in changes.items():
        try:
            checked[name] = _CHECKS[name](value)
        except SettingError as problem:
            raise SettingError(f"{name!r} {problem}") from None
    return replace(settings, **checked)  # type: ignore[arg-type]
