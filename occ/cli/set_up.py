"""The installation a command works on: its settings and its server. The one place that asks the local set-up."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey
from integrations.settings import PREFIX, KeylessSettings, load_keyless_settings, load_sealing_keys
from occ.cli.exit_codes import ExitCode
from occ.cli.failure import CommandError
from occ.clone import started_as
from occ.local import environment
from occ.local.server import EmbeddedServer


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
        raise _no_server(f"the data folder {data} cannot be used ({error.strerror}); is it another user's?") from None
    raise _no_server(
        f"no server runs on {data}; start `{started_as('up')}` in another terminal, "
        "or name a server of yours in OCC_REDIS_URL"
    )


def settings_of_what_runs() -> KeylessSettings:
    """The settings beside the server, for commands that read; what opens keys loads all of them."""
    return load_keyless_settings(environment_of_what_runs())


def become(variables: Mapping[str, str]) -> None:
    """Make these the settings of this process, for what reads its environment later on."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(variables)


def newest_sealing_key() -> SealingKey:
    """The key that application keys are sealed for. Needs no server. Raises SettingsError."""
    return load_sealing_keys(environment.settings_without_server(os.environ))[0]


@contextmanager
def records_of(settings: KeylessSettings) -> Iterator[Records]:
    """The records, on a server that answers. Raises CommandError when it does not, or stops doing so."""
    # Somebody is waiting: one that is restarting gets a second, one that is gone is told at once.
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


def _explained(error: redis.RedisError, url: str) -> str:
    """In our own words: some texts of the server quote what was sent."""
    where = _place(url)
    code = str(error).split(" ", maxsplit=1)[0]
    match error:
        case redis.AuthenticationError() | redis.exceptions.AuthorizationError():
            return f"the server at {where} does not accept the login; check user and password in OCC_REDIS_URL"
        case redis.exceptions.NoPermissionError():
            return f"the server at {where} does not let this user do it; docs/security.md lists what it must be allowed"
        case redis.exceptions.BusyLoadingError():
            return f"the server at {where} is still loading its data; try again in a moment"
        case redis.ConnectionError() | redis.TimeoutError():
            return f"the server at {where} cannot be reached; see that it runs, and that OCC_REDIS_URL names it"
        case redis.ResponseError() if code.isupper() and code.isalpha():
            return f"the server at {where} refused a command ({code}); see its log"
    return f"the server at {where} answered with something else than expected; is it Redis or Valkey?"


def _place(url: str) -> str:
    """Where a server is, without user, password or options."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname and parts.scheme != "unix" else parts.path


def _no_server(remedy: str) -> CommandError:
    return CommandError(ExitCode.NO_SERVER, "no_server", remedy, field="OCC_REDIS_URL")
