"""Secrets of a deployment, made once for all tests that look at them."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT


@pytest.fixture(scope="session")
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/make-secrets makes."""
    folder = tmp_path_factory.mktemp("deployment") / "secrets"
    subprocess.run([ROOT / "deploy" / "make-secrets", folder], check=True, capture_output=True)
    return folder
