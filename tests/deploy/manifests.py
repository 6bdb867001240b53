"""What is deployed, as data: the services of docker-compose.yml, the manifests, the units."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
UNITS = ROOT / "deploy" / "systemd"
SCRIPTS = ROOT / "deploy" / "image"


@cache
def _documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))  # slow: once for all tests


def compose() -> dict[str, Any]:
    """docker-compose.yml, with its anchors resolved."""
    (document,) = deepcopy(_documents(COMPOSE))
    return document


def services(*, ours_only: bool = False) -> dict[str, dict[str, Any]]:
    """By name; `ours_only` leaves out the server."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return {name: service for name, service in found.items() if not (ours_only and name == "redis")}


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every Kubernetes object, with the name of its file."""
    for file in sorted(KUBERNETES.glob("*.yaml")):
        for document in deepcopy(_documents(file)):
            yield file.name, document


def deployments() -> dict[str, dict[str, Any]]:
    """The Deployments by name."""
    return {document["metadata"]["name"]: document for _, document in manifests() if document["kind"] == "Deployment"}


def tool(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """A program that came with the packages for tests, run to its end."""
    command: Sequence[str | Path] = [Path(sys.executable).with_name(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
