"""`python -m tests.deploy.env_example`: writes `.env.example`, every setting with its meaning and its default.

Names and defaults come from the settings' definitions, what they mean from the table in docs/settings.md. The file is
for compose (`.env`), for systemd (`settings.env`) and for `kubectl create configmap --from-env-file`.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from integrations.settings import PREFIX, Settings
from tests.deploy.manifests import ROOT

FILE = ROOT / ".env.example"
REQUIRED = {"callback_url": "https://hooks.example.com/occ/{merchant_id}/{slot}"}
"""What has to be set by hand: an example."""

_HEAD = """\
# All settings with their defaults. Copy this file and edit the copy: to .env for docker compose, to
# /etc/occ-connect/settings.env for systemd. docs/settings.md tells more. Made by `python -m tests.deploy.env_example`.
#
# OCC_REDIS_URL and OCC_SEALING_KEYS are secrets. Leave them out where they come from files: deploy/make-secrets makes
# those for compose, Kubernetes and systemd. A server's URL, the proxy and the receiver may hold a secret too: then only
# you should be able to read the copy (chmod 600).
"""
_UNITS = {"d": 86400, "h": 3600, "m": 60}


def env_example() -> str:
    """The content of the file."""
    return "\n".join([_HEAD, *_groups(), ""]).replace("\n\n\n", "\n\n")


def _groups() -> Iterator[str]:
    for names, meaning in _rows():
        yield from textwrap.wrap(meaning, 118, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
        for name in names:
            if name in REQUIRED:
                yield f"{variable(name)}={REQUIRED[name]}"
            else:
                yield f"# {variable(name)}={written(Settings.model_fields[name].get_default())}"
        yield ""


def _rows() -> Iterator[tuple[list[str], str]]:
    """The table of settings: names, and what they mean as plain text."""
    for line in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"| `{PREFIX}"):
            _, names, meaning, _, _ = line.split("|")
            plain = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", meaning.strip()).replace("`", "")
            yield [name.lower() for name in re.findall(rf"`{PREFIX}([A-Z_]+)`", names)], plain


def variable(name: str) -> str:
    """How a setting is called in the environment."""
    return PREFIX + name.upper()


def written(value: Any) -> str:
    """A default as it is written in the environment; nothing where none is given."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "'" + json.dumps({name: spec.id for name, spec in value.items()}) + "'"
    if isinstance(value, float):
        unit = next((unit for unit, seconds in _UNITS.items() if value and value % seconds == 0), None)
        return f"{value / _UNITS[unit]:g}{unit}" if unit else f"{value:g}"
    if isinstance(value, (int, Path)) or (isinstance(value, str) and value):
        return str(value)
    return ""


if __name__ == "__main__":
    FILE.write_text(env_example(), encoding="utf-8")
    sys.stdout.write(f"{FILE.name}\n")
