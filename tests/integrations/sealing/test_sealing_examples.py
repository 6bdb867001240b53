"""What the examples of docs/sealing.md seal, we open. Node's needs a package, which npm gets if it can."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integrations.sealing.keyring import Keyring, SealingKey

DOCUMENT = Path(__file__).parents[3] / "docs" / "sealing.md"


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


@pytest.fixture(scope="module")
def node_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package the example needs."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no Node here")
    folder = tmp_path_factory.mktemp("node")
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "libsodium-wrappers@0.8"]
    try:
        subprocess.run(install, cwd=folder, capture_output=True, check=True, timeout=180)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot get libsodium-wrappers here")
    return folder


@pytest.mark.end_to_end
def test_what_the_node_example_seals_opens(node_project: Path) -> None:
    key = SealingKey.generate()
    arguments = ", ".join(map(json.dumps, (key.public_key, key.key_id, "m-1", APPLICATION_KEY)))
    script = f"{example('js')}\nconsole.log(await seal({arguments}));\n"
    (node_project / "seal.mjs").write_text(script, encoding="utf-8")
    sealed = subprocess.run(
        ["node", "seal.mjs"], cwd=node_project, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    assert Keyring([key]).open(sealed, "m-1") == APPLICATION_KEY
