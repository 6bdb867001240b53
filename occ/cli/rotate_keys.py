"""`occ rotate-keys`."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from integrations.connections.rotation import Progress, Rotation
from integrations.connections.sealed_keys import SealedKeys
from integrations.errors import RequestRefused
from integrations.sealing.keyring import Keyring
from integrations.settings import Settings, load_settings
from occ.cli.exit_codes import ExitCode
from occ.cli.failure import CommandError
from occ.cli.parameters import json_option
from occ.cli.set_up import environment_of_what_runs, records_of

_TELL_EVERY = 1.0  # seconds


@click.command("rotate-keys")
@click.option("--retire", metavar="KEY_ID", help="Seal nothing: see whether this key may leave OCC_SEALING_KEYS.")
@json_option
def command(*, retire: str | None, as_json: bool) -> None:
    """Seal all application keys anew for the newest sealing key.

    Runs beside everything else, as often as you like; started again after it was stopped, it goes on where it was. To
    change keys: make a pair (`occ keygen`), put it first in OCC_SEALING_KEYS everywhere and restart the workers, give
    its public half to the producers, rotate, then ask with --retire whether an old key may be taken out.

    The exit code is 1 when there are keys that no active sealing key opens.
    """
    settings = load_settings(environment_of_what_runs())
    with _rotation(settings) as rotation:
        if retire is not None:
            _retire(rotation, settings, retire, as_json=as_json)
            return
        progress = rotation.run(_teller())
        needed = rotation.needed()
    newest = settings.sealing_keys[0].key_id
    if as_json:
        told = {
            "newest_key_id": newest,
            "looked_at": progress.looked_at,
            "resealed": progress.resealed,
            "unreadable": len(progress.unreadable),
            "needed": _by_key_id(needed),
        }
        click.echo(json.dumps(told))
    else:
        click.echo(f"{progress.resealed} sealed anew, {needed[newest]} of {needed.total()} records under key {newest}.")
    if progress.unreadable:
        who = ", ".join(progress.named())
        click.echo(f"{len(progress.unreadable)} cannot be opened by any active sealing key: {who}", err=True)
        raise click.exceptions.Exit(ExitCode.NEEDS_ATTENTION)


def _retire(rotation: Rotation, settings: Settings, key_id: str, *, as_json: bool) -> None:
    if key_id == settings.sealing_keys[0].key_id:
        raise RequestRefused("key_id", "newest_key", "it is the newest sealing key; put another before it first")
    needed = rotation.needed()
    if needed[key_id]:
        raise CommandError(
            ExitCode.REFUSED,
            "key_in_use",
            f"{needed[key_id]} of {needed.total()} records need this key; `occ rotate-keys` seals them anew",
            field="key_id",
        )
    # Not what was typed: a private key in its place would be repeated.
    known = next((key.key_id for key in settings.sealing_keys if key.key_id == key_id), None)
    if known is None:
        raise RequestRefused(
            "key_id", "unknown_key_id", "OCC_SEALING_KEYS has no key of that id, and no record needs it"
        )
    rotation.confirm()
    if as_json:
        click.echo(json.dumps({"retired_key_id": known, "needed": _by_key_id(needed)}))
    else:
        click.echo(f"No record needs key {known}: take it out of OCC_SEALING_KEYS and restart the workers.")


@contextmanager
def _rotation(settings: Settings) -> Iterator[Rotation]:
    with records_of(settings) as records:
        yield Rotation(SealedKeys(records), Keyring(settings.sealing_keys))


def _teller() -> Callable[[Progress], None]:
    """Progress on standard error, about once a second."""
    said_at = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= _TELL_EVERY:
            said_at = time.monotonic()
            click.echo(f"{progress.looked_at} looked at, {progress.resealed} sealed anew", err=True)

    return tell


def _by_key_id(needed: Counter[str | None]) -> dict[str, int]:
    return {key_id or "": count for key_id, count in sorted(needed.items(), key=lambda entry: entry[0] or "")}
