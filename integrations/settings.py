"""The settings of this installation: environment variables named `OCC_...`, checked together at start.

Any of them may come from a file instead: `OCC_REDIS_URL_FILE=/run/secrets/redis_url`. A problem names the variable and
what to do about it, and never repeats a value: what looks like a mistyped path may be a key pasted into the wrong line.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from integrations import setting_values as values
from integrations.cloud_event import SOURCE
from integrations.egress.addresses import DevStore, Network
from integrations.egress.url import EgressProxy
from integrations.errors import SettingsError
from integrations.sealing.keyring import SealingKey
from integrations.sealing.signing import SigningSecret
from integrations.server.options import authorities
from integrations.server.url import ServerUrl, server_url
from integrations.setting_values import SlotSpec

__all__ = [
    "DevStore",
    "EgressProxy",
    "KeylessSettings",
    "Settings",
    "SlotSpec",
    "load_keyless_settings",
    "load_sealing_keys",
    "load_settings",
]

PREFIX = "OCC_"
NAMES_OF_OTHER_PARTS: tuple[str, ...] = ()
"""Variables with our prefix that are not settings: read by `./run` or by a container, and no typo to warn about."""

_CLAIM_HEADROOM = 5.0
_WHEN_MISSING = {
    "redis_url": "required, as in redis://host:6379/0 (./run starts an embedded server when it is left out)",
    "sealing_keys": "required; `./run occ keygen` prints one (./run makes its own for the embedded set-up)",
    "callback_url": "required, as in https://hooks.example.com/occ/{merchant_id}/{slot}",
}
# Kubernetes sets variables for every service in every pod: OCC_REDIS_SERVICE_HOST and the like for "occ-redis".
_SERVICE_LINK = re.compile(
    r"OCC_\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)|OCC_(\w+_)?PORT", re.ASCII
)


def _written(parse: Callable[[str], object]) -> BeforeValidator:
    """Texts are read by `parse`; values that are no texts are taken as they are, for settings made in code."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


Duration = Annotated[float, _written(values.duration), Field(gt=0, le=3660 * 86400)]
BlindWrites = Literal["no", "dev_stores", "yes"]
Count = Annotated[int, _written(values.whole_number), Field(ge=1)]


class KeylessSettings(BaseModel):
    """What processes need that open no application key and call no store: beat, Flower, metrics, who only reads.

    They hold no secret but how to reach the server. Durations are seconds.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, validate_default=True
    )

    # A check that compares two settings stands with the later one, where pydantic shows it the earlier: keep the order.
    server_ca_bundle: Annotated[str | None, _written(lambda file: authorities(str(Path(file).absolute())))] = None
    """File with authorities to trust, beside the system's, for the TLS of both servers."""
    redis_url: Annotated[ServerUrl, _written(server_url)]
    """The server with the records."""
    broker_url: ServerUrl = Field(cast("ServerUrl", None))
    """The server with Celery's messages: the one with the records, unless another is named."""
    dev_stores: Annotated[tuple[DevStore, ...], _written(values.dev_stores)] = ()
    allowed_hosts: Annotated[tuple[str, ...], _written(values.host_patterns)] = ()
    """Empty means the platform's own patterns: which hosts those are is known where that platform is."""
    slots: Annotated[Mapping[str, SlotSpec], _written(values.slots)] = {
        name: SlotSpec(name) for name in ("order-submit", "order-update", "shipment-create", "shipment-update")
    }
    shipping_methods_path: Annotated[str, _written(values.store_path)] = "/ccadmin/v1/shippingMethods"
    webhook_body: Literal["urls", "url"] = "urls"
    blind_writes: Annotated[BlindWrites, _written(str.lower)] = "dev_stores"
    """Whether a slot may be written that can be read in no way. What was in it is lost then, and nobody can know."""
    ca_bundle: str | None = None
    """File with authorities to trust beside the public ones."""
    call_deadline: Duration = 35.0
    connect_timeout: Duration = 5.0
    keep_alive: Duration = 30.0
    """How long a connection to a store may be idle and still be used; networks forget them, some after a minute."""
    retry_first: Duration = 2.0
    retry_max: Duration = 600.0
    retry_attempts: Count = 8
    lease: Duration = 60.0
    revalidate_every: Duration = 86400.0
    delivery_check_every: Annotated[float, _written(values.duration), Field(ge=0, le=3660 * 86400)] = 86400.0
    """How often a store's log of failed deliveries is looked into, with a re-validation. 0: never."""
    repairs_per_day: Count = 3
    """How often a slot is put back in order within a day before people have to decide."""
    clean_up_for: Duration = 7 * 86400.0
    """How long a disconnected store is asked again for what it refused, before the application key is forgotten."""
    second_look: Duration = 300.0
    recheck_degraded: Duration = 3600.0
    confirm_rejection: Duration = 300.0

    outage_share: Annotated[float, _written(values.share), Field(ge=0, le=1)] = 0.3
    """Of the stores asked within the window: when as many fail alike, it is an outage, not theirs. 0: never."""
    outage_merchants: Count = 20
    """Fewer failing merchants are no outage."""
    outage_window: Duration = 300.0

    allow_unsafe_server: bool = False
    """Use a server that may forget accepted work (eviction, no append-only file): for development."""

    server_program: str = ""
    """The Redis or Valkey that the embedded set-up runs instead of the one that comes with it: a name or a path."""

    data_dir: Annotated[Path, AfterValidator(values.folder)] = Path(".data")
    concurrency: Annotated[Count, Field(le=1000)] = 64
    """Threads (or, with that pool, processes) per worker."""
    pool: Literal["threads", "prefork"] = "threads"
    """Celery's own `--pool prefork` cannot overrule a configured pool."""
    max_events: Annotated[Count, Field(ge=1000)] = 1_000_000
    event_source: Annotated[str, _written(values.event_source)] = SOURCE
    """Who the events say they come from: other for each environment whose events come together somewhere."""
    timeline_length: Annotated[Count, Field(ge=10)] = 200
    traces: Literal["none", "otlp"] = "none"
    """OpenTelemetry's own variables, `OTEL_...`, say where to, and everything else."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _written(str.upper)] = "INFO"
    log_format: Literal["auto", "json", "columns"] = "auto"
    """`auto` is columns on a terminal and JSON elsewhere."""

    @field_validator("broker_url", mode="before")
    @classmethod
    def _broker_defaults_to_the_records_server(cls, broker_url: object, info: ValidationInfo) -> object:
        if not broker_url:  # one that cannot be read is reported once
            return info.data.get("redis_url", ServerUrl("redis"))
        return server_url(broker_url) if isinstance(broker_url, str) else broker_url

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _authorities_vouch_for_both(cls, server: ServerUrl, info: ValidationInfo) -> ServerUrl:
        bundle = info.data.get("server_ca_bundle")
        return server.with_authorities(bundle) if bundle else server

    @field_validator("slots")
    @classmethod
    def _slots_are_read_only(cls, slots: Mapping[str, SlotSpec]) -> Mapping[str, SlotSpec]:
        if not slots:
            raise ValueError("name at least one slot")
        return MappingProxyType(dict(slots))

    @field_validator("ca_bundle")
    @classmethod
    def _ca_bundle_is_a_file(cls, ca_bundle: str | None) -> str | None:
        if ca_bundle is not None and not Path(ca_bundle).is_file():
            raise ValueError("there is no such file; name one with certificates in PEM form, or leave it out")
        return ca_bundle

    @field_validator("connect_timeout")
    @classmethod
    def _dialling_is_part_of_a_call(cls, connect_timeout: float, info: ValidationInfo) -> float:
        call_deadline = info.data.get("call_deadline", connect_timeout)
        if connect_timeout > call_deadline:
            raise ValueError(
                f"must not be longer than OCC_CALL_DEADLINE ({call_deadline:g} s), which covers dialling too"
            )
        return connect_timeout

    @field_validator("retry_max")
    @classmethod
    def _waits_grow(cls, retry_max: float, info: ValidationInfo) -> float:
        retry_first = info.data.get("retry_first", retry_max)
        if retry_max < retry_first:
            raise ValueError(f"must not be shorter than OCC_RETRY_FIRST ({retry_first:g} s)")
        return retry_max

    @field_validator("lease")
    @classmethod
    def _claims_outlast_calls(cls, lease: float, info: ValidationInfo) -> float:
        call_deadline = info.data.get("call_deadline", lease - _CLAIM_HEADROOM)
        if lease < call_deadline + _CLAIM_HEADROOM:
            raise ValueError(
                f"must be at least {_CLAIM_HEADROOM:g} s longer than OCC_CALL_DEADLINE ({call_deadline:g} s): a claim "
                "that ends while its call still runs lets a second worker do the same work"
            )
        return lease

    @field_validator("second_look")
    @classmethod
    def _second_look_comes_before_the_next_round(cls, second_look: float, info: ValidationInfo) -> float:
        revalidate_every = info.data.get("revalidate_every")
        if revalidate_every is not None and second_look >= revalidate_every:
            raise ValueError(f"must be shorter than OCC_REVALIDATE_EVERY ({revalidate_every:g} s)")
        return second_look


class Settings(KeylessSettings):
    """All settings of an installation, valid and complete. Durations are seconds."""

    # Built when it is first used: what only reads starts sooner without it.
    model_config = ConfigDict(defer_build=True)

    sealing_keys: Annotated[tuple[SealingKey, ...], _written(values.sealing_keys), Field(min_length=1)]
    callback_url: str
    former_callback_urls: tuple[str, ...] = ()
    """What `callback_url` was before: still in slots of ours, and taken out of them."""
    egress_proxy: Annotated[EgressProxy | None, _written(values.egress_proxy)] = Field(None, repr=False)
    """All stores are called through it, except dev stores."""
    receiver_networks: Annotated[tuple[Network, ...], _written(values.receiver_networks)] = ()
    """Private networks in which the receiver of events may be; it is then called directly, at any port."""
    receiver_url: str = Field("", repr=False)
    """Where events are delivered to; empty: nowhere, other systems read them from the stream."""
    receiver_secrets: Annotated[tuple[SigningSecret, ...], _written(values.signing_secrets)] = Field((), repr=False)
    """Each signs every delivery, so that one can be changed for another."""
    receiver_patience: Duration = 3 * 86400.0
    """How long an event that the receiver refuses is tried again, before it is set aside for the next one."""

    @field_validator("callback_url")
    @classmethod
    def _callback_url_is_a_template(cls, callback_url: str, info: ValidationInfo) -> str:
        # With the dev stores unreadable, plain http is let through: one problem is reported, not two.
        return values.callback_url(callback_url, plain_http=info.data.get("dev_stores") != ())

    @field_validator("former_callback_urls", mode="before")
    @classmethod
    def _former_ones_were_templates(cls, former: object, info: ValidationInfo) -> object:
        if not isinstance(former, str):
            return former
        plain_http = info.data.get("dev_stores") != ()
        return values.former_callback_urls(former, info.data.get("callback_url"), plain_http=plain_http)

    @field_validator("receiver_url")
    @classmethod
    def _receiver_is_one_we_may_call(cls, receiver_url: str, info: ValidationInfo) -> str:
        # As above: what cannot be read is reported, and nothing that follows from it.
        plain_http = info.data.get("dev_stores") != ()
        any_port = plain_http or info.data.get("receiver_networks") != ()
        return receiver_url and values.receiver_url(receiver_url, plain_http=plain_http, any_port=any_port)

    @field_validator("receiver_secrets")
    @classmethod
    def _deliveries_are_signed(
        cls, receiver_secrets: tuple[SigningSecret, ...], info: ValidationInfo
    ) -> tuple[SigningSecret, ...]:
        if info.data.get("receiver_url") and not receiver_secrets:
            raise ValueError(
                "required with OCC_RECEIVER_URL: whsec_ and 24 to 64 random bytes in base64, as the receiver has it"
            )
        return receiver_secrets


_Kind = TypeVar("_Kind", bound=KeylessSettings)


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """All settings from an environment. Raises SettingsError with every problem it found."""
    return _loaded(Settings, environ)


def load_keyless_settings(environ: Mapping[str, str] = os.environ) -> KeylessSettings:
    """The same for what opens no application key: what only others need is neither required nor looked at."""
    return _loaded(KeylessSettings, environ)


def _loaded(kind: type[_Kind], environ: Mapping[str, str]) -> _Kind:
    given, problems = _given(environ, kind.model_fields)
    try:
        settings = kind.model_validate(given)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0])
            problems.setdefault(name, _explained(name, problem))
    unknown = list(_unknown(environ))
    if problems or unknown:
        in_order = [f"{_source(name, environ)}: {problems[name]}" for name in kind.model_fields if name in problems]
        raise SettingsError([*in_order, *unknown])
    return settings


def load_sealing_keys(environ: Mapping[str, str] = os.environ) -> tuple[SealingKey, ...]:
    """Only the sealing keys, for those who need no server: `occ seal`. Raises SettingsError."""
    given, problems = _given(environ, ["sealing_keys"])
    try:
        keys = values.sealing_keys(given["sealing_keys"])
    except KeyError:
        problems.setdefault("sealing_keys", _WHEN_MISSING["sealing_keys"])
    except ValueError as error:
        problems["sealing_keys"] = str(error)
    if problems:
        raise SettingsError([f"{_source(name, environ)}: {problem}" for name, problem in problems.items()])
    return keys


def _given(environ: Mapping[str, str], names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The text of each setting that is given, and the problems of getting at the others, both by setting.

    A blank variable counts as not given: that is what compose files make of a variable nobody set.
    """
    given: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in names:
        text, file = (environ.get(variable, "").strip() for variable in (_variable(name), f"{_variable(name)}_FILE"))
        if text and file:
            problems[name] = f"{_variable(name)} is given as well; keep one of the two"
        elif file:
            try:
                given[name] = _content(Path(file))
            except ValueError as error:
                problems[name] = str(error)
        elif text:
            given[name] = text
    return given, problems


def _content(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file it names cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("the file it names is not a text in UTF-8") from None
    if not text.strip():
        raise ValueError("the file it names is empty")
    return text


def _explained(name: str, problem: ErrorDetails) -> str:
    """What is wrong and what to do. Our own checks say it; pydantic's only speak of limits and choices."""
    if problem["type"] == "missing":
        return _WHEN_MISSING[name]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return problem["msg"].replace("Input should be", "must be")


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables with our prefix that nobody reads. A typo would otherwise be a default that is found at night."""
    settings = [_variable(name) for name in Settings.model_fields]
    known = {*settings, *(f"{variable}_FILE" for variable in settings), *NAMES_OF_OTHER_PARTS}
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in known and not _SERVICE_LINK.fullmatch(variable):
            near = get_close_matches(variable, sorted(known), n=1)
            yield f"{variable[:80]}: there is no such setting; {f'did you mean {near[0]}?' if near else 'remove it'}"


def _source(name: str, environ: Mapping[str, str]) -> str:
    """The variable somebody has to look at."""
    variable = _variable(name)
    return f"{variable}_FILE" if environ.get(f"{variable}_FILE", "").strip() else variable


def _variable(name: str) -> str:
    return PREFIX + name.upper()
