"""What workers, beat and Flower check before they start: the server answers, and keeps what it accepts."""

import resource
import sys
import time
from contextlib import suppress

import structlog

from integrations.errors import SettingsError
from integrations.server.look import look_at
from integrations.server.same_environment import SEALING_KEYS, keys_of_another_environment
from integrations.server.url import ServerUrl
from integrations.settings import KeylessSettings, load_keyless_settings
from tasks.wiring import Wiring

log = structlog.get_logger(__name__)

_ASK_EVERY = 1.0
_MANY_FILES = 10_240


def raise_file_limit() -> None:
    """Have as many files open as the system lets us: each call to a store takes one, and 1,024 are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    # Some systems say "any number" and take less, such as macOS.
    for limit in (hard, _MANY_FILES):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


def await_server_of_settings(*, wait: bool = True) -> None:
    """The same as `await_safe_server`, for what opens no application key: with the settings of its environment."""
    try:
        settings = load_keyless_settings()
    except SettingsError as error:
        sys.exit(str(error))
    await_safe_server(settings, wait=wait)


def await_safe_server(settings: KeylessSettings, *, wait: bool = True) -> None:
    """Wait for the servers, however long they are away; end the process, saying why, if one cannot be used.

    `wait` false: one look at each, for who can start without them.
    An unsafe one can be, where that is allowed. Of a broker of its own that may lose messages there is only a warning:
    the records say what is to be done.
    """
    dangers = _dangers_once_it_answers(settings.redis_url, "OCC_REDIS_URL", wait=wait)
    if dangers and not settings.allow_unsafe_server:
        allowance = "OCC_ALLOW_UNSAFE_SERVER=yes lets it be used all the same, for development."
        sys.exit("\n".join(["This server may forget accepted work:", *(f"  * {one}" for one in dangers), allowance]))
    if not settings.broker_url.is_database_of(settings.redis_url):
        of_broker = _dangers_once_it_answers(settings.broker_url, "OCC_BROKER_URL", wait=wait)
        dangers = dangers + [f"of the broker, {one}" for one in of_broker]
    for danger in dangers:
        log.warning("unsafe_server", danger=danger)
    for setting, server in (("OCC_REDIS_URL", settings.redis_url), ("OCC_BROKER_URL", settings.broker_url)):
        if not server.is_verified:
            log.warning("server_not_verified", setting=setting, remedy="leave out ssl_cert_reqs and ssl_check_hostname")


def refuse_another_environment(services: Wiring) -> None:
    """End the process if this database is used by workers with other sealing keys."""
    others = keys_of_another_environment(services.redis, services.settings.sealing_keys)
    if others:
        sys.exit(
            f"OCC_REDIS_URL: this database is used by another environment, with the sealing keys {', '.join(others)}; "
            "give each environment a server or a database of its own. If its keys were replaced for good, delete "
            f"{SEALING_KEYS} there. docs/servers.md tells more."
        )


def _dangers_once_it_answers(server: ServerUrl, setting: str, *, wait: bool) -> list[str]:
    waited = False
    while (trouble := (look := look_at(server, setting)).trouble) is not None:
        if trouble.lasting:
            sys.exit(f"{setting}: {trouble.sentence}.")
        if not wait:
            return []
        if not waited:
            log.warning("waiting_for_server", setting=setting, trouble=trouble.sentence)
        waited = True
        time.sleep(_ASK_EVERY)
    return look.dangers
