"""The installation a command works on: its settings, its server, and what is needed to change something there.

The one place that asks the local set-up.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey
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


def servers_of(settings: KeylessSettings) -> list[str]:
    """The URLs, for redis-py, of the servers that hold the queues and the records. Mostly that is one."""
    url = settings.broker_url
    if url.startswith("redis+socket://"):
        url = settings.redis_url if settings.redis_url.startswith("unix:") else url.replace("redis+socket", "unix", 1)
    return list(dict.fromkeys([url, settings.redis_url]))


@contextmanager
def records_of(settings: KeylessSettings) -> Iterator[Records]:
    """The records, on a server that answers. Raises CommandError when it does not, or stops answering."""
    # Somebody is waiting: a server that restarts gets a second; one that is gone is reported at once.
    client = redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=10,
        socket_connect_timeout=3,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
    )
    try:
        with client:
            client.ping()
            yield Records(client)
    except redis.RedisError as error:
        raise _no_server(_explained(error, settings.redis_url)) from None


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

        self.services = Wiring(settings)
        self._variables = variables

    def __enter__(self) -> Self:
        # Created here, by one thread.
        _ = self.services.acceptance, self.services.tokens, self.services.session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.services.session.close()
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


def _explained(error: redis.RedisError, url: str) -> str:
    """In our own words: some texts of the server quote what was sent."""
    where = _place(url)
    code = str(error).split(" ", maxsplit=1)[0]
    match error:
        case redis.AuthenticationError() | redis.exceptions.AuthorizationError():
            return f"the server at {where} rejects the login; check user and password in OCC_REDIS_URL"
        case redis.exceptions.NoPermissionError():
            return f"the server at {where} does not permit this user to do that; docs/security.md lists what it needs"
        case redis.exceptions.BusyLoadingError():
            return f"the server at {where} is still loading its data; try again in a moment"
        case redis.ConnectionError() | redis.TimeoutError():
            return f"cannot reach the server at {where}; check that it runs and that OCC_REDIS_URL is right"
        case redis.ResponseError() if code.isupper() and code.isalpha():
            return f"the server at {where} refused a command ({code}); see its log"
    return f"the server at {where} gave an unexpected answer; is it Redis or Valkey?"


def _place(url: str) -> str:
    """Where a server is, without user, password or options."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname and parts.scheme != "unix" else parts.path


def _no_server(remedy: str) -> CommandError:
    return CommandError(ExitCode.NO_SERVER, "no_server", remedy, field="OCC_REDIS_URL")
