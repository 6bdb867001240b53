"""Fault scripts: which calls go wrong, how, and for how long. What they do to an answer is in faulty_answers.py.

A script belongs to a target and is a list; each entry holds for so many calls (`times`, 1 unless told, or "always") or
for so many `seconds` from the first call that meets it (or from now on with `"starts": "now"`), then comes the next
one, and after the last the target is healthy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from occ.simulator.endless import ENDLESS
from occ.simulator.setting_error import SettingError

ENDPOINTS = (
    "login",
    "shipping_methods",
    "read_slot",
    "write_slot",
    "list_slots",
    "write_slots",
    "reset_secret",
    "verify",
    "refresh",
    "logout",
    "registry",
    "metadata",
    "failed_messages",
    "resend",
    "other",
)
SLOT_ENDPOINTS = ("read_slot", "write_slot", "reset_secret")
EVERYTHING = "*"
CONNECTION = "connection"
CONNECTION_KINDS = ("hang", "reset", "drip", "healthy")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to go wrong: its options with their defaults, and whether the call takes effect unless told otherwise."""

    options: Mapping[str, object] = field(default_factory=dict)
    processed: bool = False


def _status(status: int | None, **options: object) -> Kind:
    """An error answer; every one of them can carry a Retry-After."""
    common: dict[str, object] = {"status": status, "shape": "errorCode", "message": None, "error_code": None}
    more: dict[str, object] = {"body": None, "retry_after": None, "retry_after_date": None}
    return Kind({**common, **more, **options})


def _drip(processed: bool = True) -> Kind:
    return Kind({"every": 0.5, "chunk": 1}, processed)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "healthy": Kind(processed=True),
        # answers with an error
        "status": _status(None),
        "unauthorized": _status(401),
        "forbidden_role": _status(403),
        "guard_60012": _status(403, error_code="60012"),
        "forbidden_page": _status(403, shape="html"),
        "not_found": _status(404),
        "bad_request": _status(400),
        "method_not_allowed": _status(405),
        "throttled": _status(429),
        "server_error": _status(500),
        "bad_gateway": _status(502, shape="html"),
        "unavailable": _status(503, shape="html"),
        "gateway_timeout": _status(504, shape="html"),
        "error_in_200": _status(200, body_status="500", error_code="99999"),
        "html_in_200": _status(200, shape="html"),
        # nothing useful arrives
        "reset": Kind(),
        "hang": Kind(),
        "not_http": Kind(),
        "redirect": Kind({"status": 302, "location": "https://elsewhere.invalid/ccadmin/v1/login"}),
        # the real answer, spoilt on its way
        "slow": Kind({"delay": 3.0}, processed=True),
        "drip_head": _drip(),
        "drip_body": _drip(),
        "truncated": Kind(processed=True),
        "broken_json": Kind(processed=True),
        "close": Kind(processed=True),
        "huge": Kind({"size": 50_000_000}, processed=True),
        "huge_head": Kind({"size": 1_000_000}, processed=True),
        "gzip_bomb": Kind({"size": 64_000_000}, processed=True),
        "endless": Kind({"of": "interim"}, processed=True),
        "early_hints": Kind({"every": 0.05}, processed=True),
        # the real answer, in an unusual form
        "empty": Kind({"status": 200}, processed=True),
        "no_content": Kind({"status": 204}, processed=True),
        "bare_array": Kind(processed=True),
        "items": Kind(processed=True),
        "write_ignored": Kind({"answers": "stored"}),  # or "as_asked": the answer claims what was not done
        # connections only, besides hang and reset: every byte in both directions slowly, the TLS handshake as well
        "drip": _drip(),
    }
)
NUMBERED = MappingProxyType({401: "unauthorized", 403: "forbidden_role", 404: "not_found", 400: "bad_request",
                             405: "method_not_allowed", 429: "throttled", 500: "server_error", 502: "bad_gateway",
                             503: "unavailable", 504: "gateway_timeout"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of a script."""

    kind: str
    options: Mapping[str, object]
    processed: bool
    times: int | None
    seconds: float | None
    starts_now: bool
    delay: float

    def text(self, name: str) -> str | None:
        """An option that is text, or None."""
        value = self.options.get(name)
        return None if value is None else str(value)

    def number(self, name: str) -> float | None:
        """An option that is a number, or None."""
        value = self.options.get(name)
        return float(value) if isinstance(value, (int, float)) else None


def fault_from(entry: object) -> Fault:
    """From JSON: a kind's name, an HTTP status, or an object with `fault` and options. Raises SettingError."""
    if isinstance(entry, (str, int)):
        entry = {"fault": entry}
    if entry is None:
        entry = {"fault": "healthy"}
    if not isinstance(entry, Mapping):
        raise SettingError("a fault is a name, an HTTP status or an object")
    fields: dict[str, object] = dict(entry)
    name = fields.pop("fault", "healthy")
    kind_name = NUMBERED.get(int(str(name)), "status") if str(name).isdecimal() else str(name)
    if kind_name not in KINDS:
        raise SettingError(f"no fault {name!r}; there are {', '.join(KINDS)}")
    kind = KINDS[kind_name]
    options = dict(kind.options)
    if kind_name == "status":
        options["status"] = int(str(name)) if str(name).isdecimal() else None
    seconds = _number(fields.pop("seconds", None), "seconds")
    times = _times(fields.pop("times", None if seconds is not None else 1))
    starts = fields.pop("starts", "first_call")
    if starts not in ("first_call", "now"):
        raise SettingError("'starts' is 'first_call' or 'now'")
    processed = fields.pop("processed", kind.processed)
    delay = _number(fields.pop("delay", options.pop("delay", 0.0)), "delay") or 0.0
    if unknown := fields.keys() - options.keys():
        known = ", ".join(options) or "no options"
        raise SettingError(f"fault {kind_name!r} has no {', '.join(sorted(unknown))}; it has {known}")
    options.update(fields)
    if kind_name == "endless" and options["of"] not in ENDLESS:
        raise SettingError(f"'of' is one of {', '.join(ENDLESS)}")
    if kind_name == "status" and not isinstance(options["status"], int):
        raise SettingError("fault 'status' needs a number as 'status'")
    return Fault(kind_name, options, bool(processed), times, seconds, starts == "now", delay)


def _times(value: object) -> int | None:
    if value in (None, "always"):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SettingError("'times' is a number of calls or 'always'")
    return value


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise SettingError(f"{name!r} is a number, not negative")
    return float(value)


class Script:
    """What becomes of the calls to one target, in order."""

    def __init__(self, value: object, now: float) -> None:
        entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        self._faults = [fault_from(entry) for entry in entries]
        self._set_at = now
        self._position = 0
        self._used = 0
        self._since: float | None = None

    def next(self, now: float) -> Fault | None:
        """The fault for the call that has just come in, None if it is to go well."""
        while self._position < len(self._faults):
            fault = self._faults[self._position]
            if self._since is None:
                self._since = self._set_at if fault.starts_now else now
            worn = fault.times is not None and self._used >= fault.times
            over = fault.seconds is not None and now - self._since >= fault.seconds
            if not worn and not over:
                self._used += 1
                return None if fault.kind == "healthy" else fault
            self._position += 1
            self._used = 0
            self._since = None
        return None

    def remaining(self) -> list[str]:
        """The kinds still to come, the present one first."""
        return [fault.kind for fault in self._faults[self._position :]]


class FaultSwitches:
    """The scripts of one store by target. The most particular one that has something to say decides."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}

    def set(self, scripts: object, now: float) -> None:
        """Replace the named targets' scripts; None for a target takes it away, None for all takes all away.

        Raises SettingError, and then changes nothing.
        """
        if scripts is None:
            self._scripts.clear()
            return
        if not isinstance(scripts, Mapping):
            raise SettingError("'faults' maps targets to scripts")
        for target in scripts:
            _check_target(target)
        parsed = {target: Script(value, now) for target, value in scripts.items() if value is not None}
        for target, script in parsed.items():
            _check_fit(target, script.remaining())
        for target in scripts:
            self._scripts.pop(target, None)
        self._scripts.update(parsed)

    def next_for(self, endpoint: str, slot: str | None, now: float) -> Fault | None:
        """The fault for one call."""
        if not self._scripts:
            return None
        targets = [endpoint, EVERYTHING] if endpoint != CONNECTION else [CONNECTION]
        if slot is not None:
            targets = [f"{endpoint}:{slot}", f"slot:{slot}", *targets]
        for target in targets:
            script = self._scripts.get(target)
            fault = script.next(now) if script else None
            if fault is not None:
                return fault
        return None

    def remaining(self) -> dict[str, list[str]]:
        """What is still to come, by target."""
        return {target: left for target, script in self._scripts.items() if (left := script.remaining())}


def _check_target(target: str) -> None:
    head, colon, slot = target.partition(":")
    heads: Sequence[str] = (*SLOT_ENDPOINTS, "slot") if colon else (*ENDPOINTS, EVERYTHING, CONNECTION)
    if head not in heads or (colon and not slot):
        forms = ", ".join((*ENDPOINTS, EVERYTHING, CONNECTION, "read_slot:ID", "write_slot:ID", "slot:ID"))
        raise SettingError(f"no target {target!r}; there are {forms}")


def _check_fit(target: str, kinds: Sequence[str]) -> None:
    known = CONNECTION_KINDS if target == CONNECTION else tuple(kind for kind in KINDS if kind != "drip")
    if unfit := set(kinds) - set(known):
        raise SettingError(f"{target} cannot {', '.join(sorted(unfit))}; it can {', '.join(known)}")
