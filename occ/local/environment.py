"""The settings of the embedded set-up: what is not given in the environment, and where it lies in the data folder.

Variables, because everything that runs is a process of its own. Whoever names a server in OCC_REDIS_URL has a set-up of
their own, and nothing is made up for them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from integrations.errors import SettingsError
from integrations.sealing.keyring import SealingKey
from integrations.setting_values import folder
from occ.clone import started_as
from occ.local.private_files import kept_secret, private_file
from occ.local.server import EmbeddedServer
from occ.local.server_address import ServerAddress

EXAMPLE_CALLBACK_URL = "https://hooks.example.com/occ/{merchant_id}/{slot}"

_DEFAULT_DATA_FOLDER = ".data"
_SEALING_KEYS = "sealing-keys"
_SETTINGS_OF_UP = "settings-of-up"
_ABOUT_STORES = tuple(
    f"OCC_{name}{suffix}"
    for name in ("ALLOWED_HOSTS", "CALLBACK_URL", "DEV_STORES", "SHIPPING_METHODS_PATH", "SLOTS", "WEBHOOK_BODY")
    for suffix in ("", "_FILE")
)
"""What a request is judged by. None of it is a secret; those stay where they were given."""


def wants_embedded_server(environ: Mapping[str, str]) -> bool:
    """Whether no server is named in the environment."""
    return not _is_given("OCC_REDIS_URL", environ)


def data_folder(environ: Mapping[str, str]) -> Path:
    """The folder that OCC_DATA_DIR names, absolute; it need not exist. Raises SettingsError."""
    text, file = (environ.get(name, "").strip() for name in ("OCC_DATA_DIR", "OCC_DATA_DIR_FILE"))
    if file and not text:
        try:
            text = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise SettingsError(["OCC_DATA_DIR_FILE: the file it names cannot be read"]) from None
    try:
        return folder(Path(text or _DEFAULT_DATA_FOLDER)).absolute()
    except ValueError as error:
        raise SettingsError([f"OCC_DATA_DIR: {error}"]) from None


def server_folder(data: Path) -> Path:
    """Where the embedded server keeps its data."""
    return data / "server"


def own_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for child processes, who run in another folder: paths are absolute, the rest is as it was."""
    settings = dict(environ)
    for name, value in environ.items():
        if name.startswith("OCC_") and name.endswith("_FILE") and value.strip():
            settings[name] = str(Path(value.strip()).absolute())
    for name in ("OCC_CA_BUNDLE", "OCC_SERVER_CA_BUNDLE"):
        if environ.get(name, "").strip():
            settings[name] = str(Path(environ[name].strip()).absolute())
    settings.pop("OCC_DATA_DIR_FILE", None)
    settings["OCC_DATA_DIR"] = str(data_folder(environ))
    return settings


def embedded_settings(environ: Mapping[str, str], address: ServerAddress) -> dict[str, str]:
    """The environment for child processes of the embedded set-up. What is given stays as it is."""
    settings = settings_without_server(environ)
    if not _is_given("OCC_BROKER_URL", environ):
        settings["OCC_BROKER_URL"] = address.broker_url
    settings["OCC_REDIS_URL"] = address.url
    if not _is_given("OCC_CALLBACK_URL", environ):
        settings["OCC_CALLBACK_URL"] = EXAMPLE_CALLBACK_URL
    return settings


def settings_without_server(environ: Mapping[str, str]) -> dict[str, str]:
    """The same for what needs no server: the sealing keys alone, made in a private file when first needed.

    Raises SettingsError if they cannot be kept.
    """
    settings = own_settings(environ)
    if wants_embedded_server(environ) and not _is_given("OCC_SEALING_KEYS", environ):
        keys = data_folder(environ) / _SEALING_KEYS
        try:
            kept_secret(keys, lambda: SealingKey.generate().export())
        except OSError as error:
            raise SettingsError([f"OCC_DATA_DIR: no sealing key can be kept in {keys} ({error.strerror})"]) from None
        settings.pop("OCC_SEALING_KEYS", None)
        settings["OCC_SEALING_KEYS_FILE"] = str(keys)
    return settings


def keep_settings_of_up(environ: Mapping[str, str]) -> None:
    """Keep the embedded set-up's settings about stores for commands in another terminal."""
    kept = {name: value for name, value in own_settings(environ).items() if name in _ABOUT_STORES and value.strip()}
    private_file(data_folder(environ) / _SETTINGS_OF_UP, json.dumps(kept))


def beside_up(environ: Mapping[str, str]) -> dict[str, str]:
    """A command's environment, with the embedded set-up's settings about stores where it has none of its own."""
    try:
        kept = json.loads((data_folder(environ) / _SETTINGS_OF_UP).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return dict(environ)
    new = {name: value for name, value in kept.items() if not _is_given(name.removesuffix("_FILE"), environ)}
    return {**environ, **new}


def settings_of_what_runs(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a command beside a running set-up: the server that is named, or else the embedded one.

    Raises SettingsError if neither is there.
    """
    if not wants_embedded_server(environ):
        return own_settings(environ)
    data = data_folder(environ)
    address = EmbeddedServer.running_in(server_folder(data))
    if address is None:
        raise SettingsError(
            [
                (
                    f"OCC_REDIS_URL: not set, and no server runs on {data}; "
                    f"start `{started_as('up')}`, or name a server of your own"
                )
            ]
        )
    return embedded_settings(beside_up(environ), address)


def _is_given(name: str, environ: Mapping[str, str]) -> bool:
    """Blank counts as not given, as in the settings themselves."""
    return any(environ.get(variable, "").strip() for variable in (name, f"{name}_FILE"))
