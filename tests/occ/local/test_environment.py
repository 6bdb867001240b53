import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integrations.errors import SettingsError
from integrations.sealing.keyring import SealingKey
from integrations.server.url import server_url
from integrations.settings import load_settings
from occ.local.environment import (
    EXAMPLE_CALLBACK_URL,
    beside_up,
    data_folder,
    embedded_settings,
    keep_settings_of_up,
    own_settings,
    server_folder,
    settings_of_what_runs,
    settings_without_server,
)
from occ.local.private_files import kept_secret
from occ.local.server import EmbeddedServer
from occ.local.server_address import ServerAddress

ADDRESS = ServerAddress(Path("/data/server/server.sock"), "pass")


def test_the_embedded_setup_needs_no_settings_at_all(tmp_path: Path) -> None:
    settings = load_settings(embedded_settings({"OCC_DATA_DIR": str(tmp_path)}, ADDRESS))
    assert settings.redis_url == settings.broker_url == server_url(ADDRESS.url)
    assert settings.callback_url == EXAMPLE_CALLBACK_URL
    assert settings.data_dir == tmp_path
    assert len(settings.sealing_keys) == 1


def test_its_sealing_key_is_private_and_stays_the_same(tmp_path: Path) -> None:
    keys = [load_settings(embedded_settings({"OCC_DATA_DIR": str(tmp_path)}, ADDRESS)).sealing_keys for _ in range(2)]
    assert keys[0] == keys[1]
    assert stat.S_IMODE((tmp_path / "sealing-keys").stat().st_mode) == 0o600


def test_a_data_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="OCC_DATA_DIR: no sealing key can be kept"):
        settings_without_server({"OCC_DATA_DIR": str(tmp_path / "file")})


def test_what_is_given_stays(tmp_path: Path) -> None:
    given = {
        "OCC_DATA_DIR": str(tmp_path),
        "OCC_SEALING_KEYS": SealingKey.generate().export(),
        "OCC_CALLBACK_URL": "https://hooks.our.example/{merchant_id}/{slot}",
        "OCC_BROKER_URL": "redis://broker:6379/1",
        "OCC_RETRY_ATTEMPTS": "3",
        "PATH": "/bin",
    }
    assert embedded_settings(given, ADDRESS) == {**given, "OCC_REDIS_URL": ADDRESS.url}
    assert list(tmp_path.iterdir()) == []


def test_a_key_given_as_a_file_stays_and_its_path_holds_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = embedded_settings({"OCC_SEALING_KEYS_FILE": "keys", "OCC_CA_BUNDLE": "ca.pem"}, ADDRESS)
    assert settings["OCC_SEALING_KEYS_FILE"] == str(tmp_path / "keys")
    assert settings["OCC_CA_BUNDLE"] == str(tmp_path / "ca.pem")
    assert settings["OCC_DATA_DIR"] == str(tmp_path / ".data")
    assert list(tmp_path.iterdir()) == []


def test_blank_counts_as_not_given(tmp_path: Path) -> None:
    blank = {"OCC_REDIS_URL": "", "OCC_SEALING_KEYS": " ", "OCC_CALLBACK_URL": "", "OCC_BROKER_URL": ""}
    load_settings(embedded_settings({**blank, "OCC_DATA_DIR": str(tmp_path)}, ADDRESS))


def test_nothing_is_made_up_for_those_who_name_a_server(tmp_path: Path) -> None:
    named = {"OCC_REDIS_URL": "redis://host:6379/0", "OCC_DATA_DIR": str(tmp_path)}
    assert settings_of_what_runs(named) == settings_without_server(named) == own_settings(named) == named
    with pytest.raises(SettingsError, match="OCC_SEALING_KEYS"):
        load_settings(settings_of_what_runs(named))
    assert list(tmp_path.iterdir()) == []


def test_a_command_without_a_running_server_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"start `\./run up`, or name a server"):
        settings_of_what_runs({"OCC_DATA_DIR": str(tmp_path)})


@pytest.mark.server
def test_a_command_finds_the_server_that_runs(tmp_path: Path) -> None:
    environ = {"OCC_DATA_DIR": str(tmp_path)}
    with EmbeddedServer(server_folder(tmp_path)) as server:
        assert settings_of_what_runs(environ) == embedded_settings(environ, server.address)


def test_the_data_folder_can_be_named_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "name").write_text(f"{tmp_path / 'there'}\n", encoding="ascii")
    environ = {"OCC_DATA_DIR_FILE": str(tmp_path / "name")}
    assert data_folder(environ) == tmp_path / "there"
    assert own_settings(environ) == {"OCC_DATA_DIR": str(tmp_path / "there")}
    with pytest.raises(SettingsError, match="OCC_DATA_DIR_FILE"):
        data_folder({"OCC_DATA_DIR_FILE": str(tmp_path / "missing")})


def test_all_who_ask_for_a_secret_at_once_get_the_same_and_no_draft_is_left(tmp_path: Path) -> None:
    made = iter(range(100))
    with ThreadPoolExecutor(16) as pool:
        secrets = list(pool.map(lambda _: kept_secret(tmp_path / "new" / "secret", lambda: str(next(made))), range(64)))
    assert len(set(secrets)) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secret"]


def test_a_secret_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("known\n", encoding="ascii")
    secret.chmod(0o644)
    assert kept_secret(secret, lambda: "new") == "known"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_commands_know_what_up_was_told_about_stores_and_no_secret_is_kept(tmp_path: Path) -> None:
    here = {"OCC_DATA_DIR": str(tmp_path)}
    assert beside_up(here) == here
    about_stores = {"OCC_DEV_STORES": "127.0.0.0/8:8800", "OCC_SLOTS_FILE": str(tmp_path / "slots.json")}
    secret = {"OCC_SEALING_KEYS": "a-secret", "OCC_EGRESS_PROXY": "http://u:a-secret@p:1", "OCC_REDIS_URL": "a-secret"}
    keep_settings_of_up({**here, **about_stores, **secret, "PATH": "/bin"})
    assert beside_up(here) == {**here, **about_stores}
    assert all(b"a-secret" not in file.read_bytes() for file in tmp_path.iterdir())
    assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()] == [0o600]


def test_what_a_command_is_told_itself_counts_more(tmp_path: Path) -> None:
    here = {"OCC_DATA_DIR": str(tmp_path)}
    keep_settings_of_up({**here, "OCC_SLOTS_FILE": "/slots.json", "OCC_DEV_STORES": "127.0.0.0/8:8800"})
    told = {**here, "OCC_SLOTS": "{}", "OCC_DEV_STORES": " "}
    assert beside_up(told) == {**told, "OCC_DEV_STORES": "127.0.0.0/8:8800"}
    keep_settings_of_up(here)
    assert beside_up(here) == here, "the next start forgets"


def test_the_home_of_nobody_is_no_data_folder() -> None:
    with pytest.raises(SettingsError, match="OCC_DATA_DIR: nobody's home is known"):
        data_folder({"OCC_DATA_DIR": "~nobody-of-that-name/data"})
