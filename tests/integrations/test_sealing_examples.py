"""What the examples of docs/sealing.md seal, we open. Node needs its package libsodium-wrappers, found by NODE_PATH."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integrations.sealing import Keyring, SealingKey

DOCUMENT = Path(__file__).parents[2] / "docs" / "sealing.md"


APPLICATION_KEY = "a.b+/=.\u00fc"


def example(language: str) -> str:
    """The code of one example."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_what_the_python_example_seals_opens() -> None:
    names: dict[str, Any] = {}
    exec(example("python"), names)  # noqa: S102 - our own documentation
    key = SealingKey.generate()
    sealed = names["seal"](key.public_key, key.key_id, "m-1", APPLICATION_KEY)
    assert Keyring([key]).open(sealed, "m-1") == APPLICATION_KEY


def module_folder() -> Path | None:
    """Where the package is installed, if it is."""
    folders = [Path(folder) for folder in os.environ.get("NODE_PATH", "").split(os.pathsep) if folder]
    return next((folder for folder in folders if (folder / "libsodium-wrappers").is_dir()), None)


@pytest.mark.skipif(not shutil.which("node") or not module_folder(), reason="no Node with libsodium-wrappers here")
def test_what_the_node_example_seals_opens(tmp_path: Path) -> None:
    folder = module_folder()
    assert folder is not None
    (tmp_path / "node_modules").symlink_to(folder)  # NODE_PATH is not for ES modules
    key = SealingKey.generate()
    arguments = ", ".join(map(json.dumps, (key.public_key, key.key_id, "m-1", APPLICATION_KEY)))
    (tmp_path / "seal.mjs").write_text(f"{example('js')}\nconsole.log(await seal({arguments}));\n", encoding="utf-8")
    sealed = subprocess.run(
        ["node", "seal.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    assert Keyring([key]).open(sealed, "m-1") == APPLICATION_KEY
