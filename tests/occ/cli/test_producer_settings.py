"""`occ producer-settings`: what it prints is all that the example producers ask for."""

import shlex
from pathlib import Path

import pytest

from integrations.sealing.keyring import SealingKey
from occ.local.server import EmbeddedServer
from tests.occ.cli.conftest import PROJECT, Occ


@pytest.mark.server
def test_on_the_embedded_set_up_a_producer_needs_nothing_else(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCC_DATA_DIR", str(tmp_path))
    with EmbeddedServer(tmp_path / "server") as server:
        told = occ("producer-settings", "--json").object
        lines = occ("producer-settings").stdout.splitlines()
    assert (told["REDIS_URL"], told["BROKER_URL"]) == (server.url, server.broker_url)
    assert dict(shlex.split(line)[1].split("=", maxsplit=1) for line in lines) == told
    asked_for = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "examples").glob("*/connect*"))
    assert all(name in asked_for for name in told)


def test_of_a_server_of_yours_only_the_public_half_is_told(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, older = SealingKey.generate(), SealingKey.generate()
    monkeypatch.setenv("OCC_REDIS_URL", "redis://:pa55word@127.0.0.1:1/0")
    monkeypatch.setenv("OCC_SEALING_KEYS", f"{newest.export()},{older.export()}")
    told = occ("producer-settings", "--json").object
    assert told == {"SEALING_KEY_ID": newest.key_id, "SEALING_PUBLIC_KEY": newest.public_key}


def test_without_a_running_set_up_it_is_told_how_to_start_one(
    occ: Occ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCC_DATA_DIR", str(tmp_path))
    ended = occ("producer-settings")
    assert (ended.exit_code, ended.stdout) == (3, "")
    assert "./run up" in ended.stderr
