"""The manifests fit the schemas of Kubernetes, and each other. No cluster takes part."""

import shutil
import subprocess
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from integrations.settings import Settings
from tasks.worker.metric import METRICS
from tests.deploy.manifests import KUBERNETES, deployments, manifests, services

OF_OTHERS = {"Kustomization", "ScaledObject"}  # kustomize's and KEDA's own kinds: no schema of Kubernetes' covers them
NEWEST = kubernetes_validate.latest_version()


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(deployment)["containers"]
    return dict(only)


@pytest.mark.parametrize(
    ("file", "manifest"), list(manifests()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_object_fits_the_schema_of_its_kind(file: str, manifest: dict[str, Any]) -> None:
    if manifest["kind"] in OF_OTHERS:
        assert manifest["apiVersion"].split("/")[0] in {"kustomize.config.k8s.io", "keda.sh"}
    else:
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_the_check_of_the_schema_finds_a_wrong_field() -> None:
    wrong = deployments()["worker"]
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["failureLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_the_kustomization_names_every_file_and_leaves_out_secrets_and_autoscaling() -> None:
    kustomization = dict(manifests())["kustomization.yaml"]
    files = {file.name for file in KUBERNETES.glob("*.yaml")}
    assert set(kustomization["resources"]) == files - {
        "kustomization.yaml",
        "secrets.example.yaml",
        "autoscaling.yaml",
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which contains kustomize, is not installed here")
def test_kustomize_builds_them_with_one_image_and_namespace() -> None:
    done = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    for manifest in built:
        kubernetes_validate.validate(manifest, NEWEST, strict=True)
    images = {container(one)["image"] for one in built if one["kind"] == "Deployment"}
    assert images == {"registry.example.com/occ-connect:0.1.0"}
    assert {one["metadata"].get("namespace") for one in built if one["kind"] != "Namespace"} == {"occ-connect"}


@pytest.mark.parametrize("name", deployments())
def test_pods_run_with_as_few_rights_as_possible(name: str) -> None:
    spec, one = pod(deployments()[name]), container(deployments()[name])
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert one["securityContext"]["allowPrivilegeEscalation"] is False
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in one["resources"]["limits"]
    assert spec["terminationGracePeriodSeconds"] > Settings.model_fields["lease"].default
    assert one["livenessProbe"]


@pytest.mark.parametrize("name", deployments())
def test_commands_and_secrets_are_those_of_compose(name: str) -> None:
    one, service = container(deployments()[name]), services()[name]
    spoken = " ".join(" ".join(map(str, one["command"])).replace("sh -c ", "").split())
    in_compose = " ".join(str(service["command"]).replace("sh -c '", "").removesuffix("'").replace("$$", "$").split())
    assert spoken.replace("/run/secrets/occ/", "/run/secrets/") == in_compose
    variables = {entry["name"]: entry["value"] for entry in one["env"]}
    for variable, value in variables.items():
        assert service["environment"][variable] == value.replace("/secrets/occ/", "/secrets/")
    secret = pod(deployments()[name])["volumes"][0]["secret"]["secretName"]
    (held,) = (m["stringData"] for _, m in manifests() if m["kind"] == "Secret" and m["metadata"]["name"] == secret)
    assert {value.rpartition("/")[2] for value in variables.values()} <= set(held)


def test_the_probes_of_workers_and_beats_are_those_of_compose() -> None:
    for name in ("worker", "quarantine", "beat"):
        one = container(deployments()[name])
        expected = services()[name]["healthcheck"]["test"][1:]
        assert one["livenessProbe"]["exec"]["command"] == one["startupProbe"]["exec"]["command"] == expected
        assert one["livenessProbe"]["timeoutSeconds"] > 10  # occ-alive gives `occ health` ten


def test_settings_are_settings() -> None:
    (data,) = (manifest["data"] for _, manifest in manifests() if manifest["kind"] == "ConfigMap")
    assert {name.removeprefix("OCC_").lower() for name in data} <= set(Settings.model_fields)


def test_disruptions_and_policies_select_pods_that_exist() -> None:
    components = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in deployments().items()}
    for _, manifest in manifests():
        if manifest["kind"] == "PodDisruptionBudget":
            assert manifest["spec"]["selector"]["matchLabels"] in components.values()
            assert deployments()[manifest["metadata"]["name"]]["spec"]["replicas"] > manifest["spec"]["minAvailable"]
        if manifest["kind"] == "NetworkPolicy":
            wanted = manifest["spec"]["podSelector"].get("matchLabels")
            assert wanted is None or wanted in components.values()


def test_autoscaling_goes_by_metrics_that_exist_and_never_below_what_may_be_evicted() -> None:
    (scaled,) = (manifest["spec"] for _, manifest in manifests() if manifest["kind"] == "ScaledObject")
    assert scaled["scaleTargetRef"]["name"] in deployments()
    assert scaled["minReplicaCount"] >= 2
    (trigger,) = scaled["triggers"]
    named = {word for word in METRICS if word in trigger["metadata"]["query"]}
    assert named == {"occ_overdue", "occ_queue_messages", "occ_inbox_requests"}
