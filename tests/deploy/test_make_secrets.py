"""deploy/make-secrets: keys, passwords and users that a real server takes."""

import subprocess
from pathlib import Path

import pytest
import redis

from integrations.settings import load_keyless_settings, load_settings
from occ.local.server import EmbeddedServer
from tests.deploy.manifests import ROOT


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="ascii")


def test_nobody_but_the_owner_reaches_the_files_and_containers_can_read_them(secrets_folder: Path) -> None:
    assert secrets_folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in secrets_folder.iterdir()} == {0o444}


def test_the_settings_take_what_was_made(secrets_folder: Path) -> None:
    settings = load_settings(
        {
            "OCC_REDIS_URL_FILE": str(secrets_folder / "redis_url"),
            "OCC_SEALING_KEYS_FILE": str(secrets_folder / "sealing_keys"),
            "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
        }
    )
    assert settings.redis_url.text.endswith("@redis:6379/0")
    metrics = load_keyless_settings({"OCC_REDIS_URL_FILE": str(secrets_folder / "redis_url_metrics")})
    assert metrics.redis_url.username == "occ-metrics"


def test_passwords_are_long_different_and_in_the_list_of_users_as_hashes_only(secrets_folder: Path) -> None:
    passwords = [read(secrets_folder, file.name) for file in secrets_folder.glob("redis_*password*")]
    assert len(set(passwords)) == len(passwords) == 6
    assert all(len(password) == 40 for password in passwords)
    users = read(secrets_folder, "redis_users")
    assert not any(password in users for password in passwords)


def test_what_is_there_already_is_left_alone(secrets_folder: Path) -> None:
    before = read(secrets_folder, "sealing_keys")
    again = subprocess.run([ROOT / "deploy" / "make-secrets", secrets_folder], check=False, capture_output=True)
    assert again.returncode == 1
    assert read(secrets_folder, "sealing_keys") == before


@pytest.mark.server
def test_a_server_takes_the_users_and_lets_nobody_else_in(secrets_folder: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "server") as server, redis.Redis.from_url(server.url) as admin:
        for line in read(secrets_folder, "redis_users").splitlines():
            _, user, *rules = line.split()
            if user != "default":  # that one is the test's own way in
                admin.execute_command("ACL", "SETUSER", user, "reset", *rules)
        path = server.url.partition("@")[2]
        for user in ("occ", "occ-inbox", "occ-celery", "occ-events", "occ-metrics"):
            password = read(secrets_folder, f"redis_password_{user}")
            with redis.Redis.from_url(f"unix://{user}:{password}@{path}") as client:
                assert client.ping()
            with (
                redis.Redis.from_url(f"unix://{user}:wrong@{path}") as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()
