"""docker-compose.yml and the Dockerfile, as far as that can be seen without an engine: nothing is built or run here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from integrations.settings import KeylessSettings, Settings
from occ.cli.operate import METRICS_PORT
from occ.local.commands import flower_command
from tasks.queues import QUARANTINE, QUEUES
from tests.deploy.manifests import COMPOSE, KUBERNETES, ROOT, compose, services, tool

YAMLLINT = Path(__file__).with_name("yamllint.yaml")


def command_of(service: dict[str, Any]) -> str:
    return " ".join(str(service["command"]).split())


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "m" else 1)


def test_it_fits_the_compose_specification() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert done.returncode == 0, done.stdout


def test_the_check_of_the_specification_finds_a_wrong_key(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text(encoding="utf-8").replace("stop_grace_period", "stop_grace_time"), "utf-8")
    assert tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", wrong).returncode == 1


def test_the_dockerfile_has_no_finding() -> None:
    done = tool("hadolint", "--failure-threshold", "style", ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_yaml_is_in_order() -> None:
    done = tool("yamllint", "--strict", "--config-file", YAMLLINT, COMPOSE, KUBERNETES)
    assert (done.returncode, done.stdout) == (0, "")


def test_images_are_pinned_by_tag_and_ours_never_runs_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON=python:3\.\d+-slim-\w+$", text, re.MULTILINE)
    for stage in text.split("\nFROM ")[2:]:
        if "USER" in stage:
            assert re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1] == "65534:65534"
    assert re.fullmatch(r"valkey/valkey:\d+\.\d+", services()["redis"]["image"])


def test_everything_the_image_copies_is_there_and_let_in() -> None:
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"requirements.lock", "integrations", "tasks", "deploy/image"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists()
        assert f"!{path}" in let_in


def test_there_are_two_workers_two_beats_and_one_that_runs_suspects_alone() -> None:
    found = services()
    assert found["worker"]["deploy"]["replicas"] == "${WORKERS:-2}"
    assert found["beat"]["deploy"]["replicas"] == 2
    assert f"--queues {','.join(QUEUES)} " in command_of(found["worker"])
    assert f"--queues {QUARANTINE} --concurrency 1 " in command_of(found["quarantine"])
    assert command_of(found["demo-worker"]) == command_of(found["worker"])
    assert found["simulator"]["profiles"] == found["demo-worker"]["profiles"] == ["demo"]


@pytest.mark.parametrize("name", services())
def test_no_service_can_do_more_than_it_needs(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_who_holds_work_is_given_longer_than_a_lease_to_end() -> None:
    lease = Settings.model_fields["lease"].default
    for name, service in services(ours_only=True).items():
        if name != "simulator":
            assert seconds(service["stop_grace_period"]) > lease, name


def test_every_variable_is_a_setting_and_no_secret_is_among_them() -> None:
    for name, service in services(ours_only=True).items():
        for variable, value in service.get("environment", {}).items():
            setting = variable.removeprefix("OCC_").removesuffix("_FILE").lower()
            assert setting in Settings.model_fields, (name, variable)
            if setting == "broker_url":
                assert value == "${OCC_BROKER_URL:-}"  # of a server of one's own
            if setting in {"redis_url", "sealing_keys"}:
                assert variable.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in service["secrets"], (name, variable)


def test_only_workers_hold_sealing_keys_and_only_they_can_leave() -> None:
    found = services(ours_only=True)
    assert {name for name, one in found.items() if "sealing_keys" in one.get("secrets", [])} == {
        "worker",
        "quarantine",
        "demo-worker",
    }
    for name in ("beat", "flower", "metrics"):
        assert {
            variable.removeprefix("OCC_").removesuffix("_FILE").lower() for variable in found[name]["environment"]
        } <= (KeylessSettings.model_fields.keys())
    assert {name for name, one in found.items() if "stores" in one.get("networks", [])} == {"worker", "quarantine"}
    assert compose()["networks"]["server"]["internal"] is True
    assert services()["redis"]["networks"] == ["server"]
    assert "ports" not in services()["redis"]


def test_the_server_forgets_nothing_and_asks_who_is_there() -> None:
    command = command_of(services()["redis"])
    assert "--hash-max-listpack-value 4096 --stream-node-max-bytes 1536" in command, "as the embedded server has it"
    for option in ("--aclfile /run/secrets/redis_users", "--appendonly yes", "--maxmemory-policy noeviction"):
        assert option in command


def test_whoever_can_stand_still_is_watched_for_progress() -> None:
    found = services()
    for name in ("worker", "quarantine", "demo-worker"):
        assert found[name]["healthcheck"]["test"] == ["CMD", "occ-alive", "/data/worker-alive", "2"]
        assert "--include tasks.worker.heartbeat" in command_of(found[name])
    assert found["beat"]["healthcheck"]["test"] == ["CMD", "occ-alive", "/data/beat-alive", "2"]


def test_metrics_and_flower_are_on_loopback_and_flower_has_a_login() -> None:
    found = services()
    assert found["metrics"]["ports"] == [f"127.0.0.1:${{METRICS_PORT:-{METRICS_PORT}}}:{METRICS_PORT}"]
    assert command_of(found["metrics"]).endswith(f"--port {METRICS_PORT}")
    assert "FLOWER_BASIC_AUTH" in command_of(found["flower"])


def test_every_secret_is_a_file_that_make_secrets_makes(secrets_folder: Path) -> None:
    declared = compose()["secrets"]
    used = {secret for service in services().values() for secret in service.get("secrets", [])}
    assert used == set(declared)
    made = {file.name for file in secrets_folder.iterdir()}
    assert {Path(secret["file"]).name for secret in declared.values()} <= made
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_the_same_flags_start_flower_everywhere() -> None:
    everywhere = {option for option in flower_command(port=5555, database="x") if option.startswith("--")}
    everywhere -= {"--address=127.0.0.1", "--db=x"}
    units = ROOT / "deploy" / "systemd" / "occ-flower.service"
    for text in (
        command_of(services()["flower"]),
        units.read_text(encoding="utf-8"),
        (ROOT / "deploy" / "kubernetes" / "flower.yaml").read_text(encoding="utf-8"),
    ):
        assert [option for option in sorted(everywhere) if option not in text] == []


def test_documents_are_plain_data() -> None:
    assert json.loads(json.dumps(compose()))["name"] == "occ"
