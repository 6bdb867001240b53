"""The installation a command works on: its settings, its server, and what is needed to change something there.

The one place that asks the local set-up.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey
from integrations.server.client import client_of
from integrations.server.look import look_at
from integrations.server.trouble import trouble_behind
from integrations.server.url import ServerUrl
from integrations.settings import PREFIX, KeylessSettings, Settings, load_keyless_settings, load_sealing_keys
from occ.cli.failure import CommandError, ExitCode
from occ.clone import started_as
from occ.local import environment
from occ.local.server import EmbeddedServer

if TYPE_CHECKING:
    from integrations.oracle_commerce.accept import Asked

T = TypeVar("T")

READ_EVERY = 0.25
"""Seconds: a person sees a change at once, for one small read each time."""

_RESTARTS_WITHIN = 1.0  # seconds

_PATIENCE = 30.0
"""Seconds that the server may be away: long enough for a restart."""


def environment_of_what_runs() -> dict[str, str]:
    """The variables that processes beside the server get. Raises SettingsError or CommandError."""
    if not environment.wants_embedded_server(os.environ):
        return environment.own_settings(os.environ)
    data = environment.data_folder(os.environ)
    try:
        address = EmbeddedServer.running_in(environment.server_folder(data))
        if address is not None:
            return environment.embedded_settings(environment.beside_up(os.environ), address)
    except OSError as error:
        raise _no_server(f"cannot use the data folder {data} ({error.strerror}); is it another user's?") from None
    raise _no_server(
        f"no server runs on {data}; start `{started_as('up')}` in another terminal, or set OCC_REDIS_URL to your server"
    )


def settings_of_what_runs() -> KeylessSettings:
    """The settings beside the server, for commands that only read."""
    return load_keyless_settings(environment_of_what_runs())


def become(variables: Mapping[str, str]) -> None:
    """Make these the settings of this process, for code that reads its environment later on, such as Celery's."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(variables)


def newest_sealing_key() -> SealingKey:
    """The key that application keys are sealed with. Needs no server. Raises SettingsError."""
    return load_sealing_keys(environment.settings_without_server(os.environ))[0]


def servers_of(settings: KeylessSettings) -> list[ServerUrl]:
    """The servers that hold the queues and the records. Mostly that is one."""
    one = settings.broker_url.is_database_of(settings.redis_url)
    return [settings.redis_url] if one else [settings.broker_url, settings.redis_url]


@contextmanager
def records_of(settings: KeylessSettings) -> Iterator[Records]:
    """The records, on a server that answers. Raises CommandError when it does not, or stops answering."""
    _see_that_it_can_be_used(settings.redis_url, "OCC_REDIS_URL")
    client = client_of(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=10,
        socket_connect_timeout=3,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
    )
    try:
        with client:
            yield Records(client)
    except redis.RedisError as error:
        raise _no_server(trouble_behind(error, settings.redis_url, "OCC_REDIS_URL").sentence) from None


def see_that_servers_can_be_used(settings: KeylessSettings) -> None:
    """Both servers answer, and are of a kind we can use. Raises CommandError with the remedy."""
    _see_that_it_can_be_used(settings.redis_url, "OCC_REDIS_URL")
    if not settings.broker_url.is_database_of(settings.redis_url):
        _see_that_it_can_be_used(settings.broker_url, "OCC_BROKER_URL")


def _see_that_it_can_be_used(server: ServerUrl, setting: str) -> None:
    # Somebody is waiting: a server that restarts, or is busy, gets some seconds; a wrong one is reported at once.
    until = time.monotonic() + _RESTARTS_WITHIN
    while trouble := look_at(server, setting).trouble:
        if trouble.lasting or time.monotonic() > until:
            raise _no_server(trouble.sentence, setting)
        time.sleep(READ_EVERY)


@contextmanager
def broker_of(settings: KeylessSettings) -> Iterator[redis.Redis]:
    """The broker, which mostly is the server with the records. Raises CommandError when it does not answer."""
    try:
        with client_of(
            settings.broker_url,
            decode_responses=True,
            encoding_errors="replace",  # anything may lie in a queue
            socket_timeout=10,
            socket_connect_timeout=3,
        ) as broker:
            yield broker
    except redis.RedisError as error:
        setting = "OCC_REDIS_URL" if settings.broker_url.is_database_of(settings.redis_url) else "OCC_BROKER_URL"
        raise _no_server(trouble_behind(error, settings.broker_url, setting).sentence, setting) from None


def repeatedly(
    read: Callable[[], T],
    *,
    every: float = READ_EVERY,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[T]:
    """What `read` returns, every so often, until the clock says `until`; at least once.

    Rides out a short outage of the server; raises what redis-py raises when it lasts.
    """
    away_since: float | None = None
    while True:
        try:
            value = read()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            away_since = clock() if away_since is None else away_since
            refused = isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError)
            if refused or clock() - away_since > _PATIENCE or (until is not None and clock() >= until):
                raise
        else:
            away_since = None
            yield value
            if until is not None and clock() >= until:
                return
        sleep(every)


class Installation:
    """The services that workers use, in this process. A context manager; inside, safe to share between threads."""

    def __init__(self, settings: Settings, variables: Mapping[str, str]) -> None:
        from tasks.wiring import Wiring  # noqa: PLC0415 - commands that only read need not load it
        from tasks.worker.counting import Counts  # noqa: PLC0415

        self.services = Wiring(settings)
        self.services.counts = Counts(settings.redis_url)  # calls to stores count, whoever makes them
        self._variables = variables

    def __enter__(self) -> Self:
        # Created here, by one thread.
        _ = self.services.acceptance, self.services.tokens, self.services.session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.services.session.close()
        self.services.counts.close()
        self.services.redis.close()

    def prepare_to_send(self) -> None:
        """Load Celery. It takes longer than all the rest, so only once there is something to send."""
        become(self._variables)
        from tasks import doors  # noqa: F401, PLC0415
        from tasks.worker import logs  # noqa: PLC0415

        logs.configure("WARNING", self.services.settings.log_format)

    def start(self, asked: "Asked") -> None:
        """Send the messages for an accepted request. Best effort: if one is lost, the tick sends another."""
        from tasks.doors import start_work  # noqa: PLC0415

        start_work(asked)


def _no_server(remedy: str, setting: str = "OCC_REDIS_URL") -> CommandError:
    return CommandError(ExitCode.NO_SERVER, "no_server", remedy, field=setting)
