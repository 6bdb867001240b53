"""`.env.example` has every setting with its default, and compose hands every one of them on."""

import re
import shlex

from integrations.settings import KeylessSettings, Settings, load_settings
from tests.deploy.env_example import FILE, env_example, variable
from tests.deploy.manifests import ROOT, services

NEEDED = {"OCC_REDIS_URL": "redis://127.0.0.1:6379/0", "OCC_SEALING_KEYS": f"k1:{'A' * 43}"}
NOT_HANDED_ON = {"data_dir", "server_program"}
"""The image says where its data is, and starts no server."""


def test_it_is_what_its_command_makes_of_the_settings_and_their_table() -> None:
    assert FILE.read_text(encoding="utf-8") == env_example()


def test_every_setting_is_in_it_once() -> None:
    names = re.findall(r"^(?:# )?(OCC_\w+)=", env_example(), re.MULTILINE)
    assert sorted(names) == sorted(map(variable, Settings.model_fields))


def test_its_defaults_are_the_defaults() -> None:
    written = [line.removeprefix("# ") for line in env_example().splitlines() if re.match(r"(# )?OCC_\w+=", line)]
    given = {
        name: shlex.split(value)[0] if value else "" for name, _, value in (line.partition("=") for line in written)
    }
    minimal = {**NEEDED, "OCC_CALLBACK_URL": given["OCC_CALLBACK_URL"]}
    assert load_settings({**given, **NEEDED}) == load_settings(minimal)


def test_a_copy_of_it_is_never_committed() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_compose_hands_on_every_setting_to_those_who_need_it() -> None:
    found = services()
    for name in ("worker", "quarantine", "demo-worker"):
        assert handed_on(found[name]["environment"]) == Settings.model_fields.keys() - NOT_HANDED_ON
    for name in ("beat", "flower", "metrics"):
        assert handed_on(found[name]["environment"]) == KeylessSettings.model_fields.keys() - NOT_HANDED_ON
    for setting, value in found["worker"]["environment"].items():
        if not setting.endswith("_FILE"):
            assert value.startswith(f"${{{setting}:"), "from the environment, or from .env"


def handed_on(environment: dict[str, str]) -> set[str]:
    return {name.removeprefix("OCC_").removesuffix("_FILE").lower() for name in environment}
