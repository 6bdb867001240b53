"""The server as docker-compose.yml starts it: its options, and the users that deploy/make-secrets makes."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from occ.local.server_binary import find_server_binary
from occ.local.tether import tethered
from tests.deploy.manifests import ROOT, services
from tests.ports import free_port
from tests.waiting import wait_until


class DeployedServer:
    """Runs while the context is open. `url` is the administrator's, for the tests themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.secrets = folder / "secrets"

    def __enter__(self) -> Self:
        make = [ROOT / "deploy" / "make-secrets", self.secrets]
        where = {**os.environ, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.port)}
        subprocess.run(make, check=True, capture_output=True, env=where)
        (self.folder / "data").mkdir()
        command = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", services()["redis"]["command"])
        _, *options = shlex.split(command.replace("/run/secrets/", f"{self.secrets}/"))
        ours = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder / "data")]
        line, _ = tethered([find_server_binary().path, *options, *ours], on_parent_death=9)  # type: ignore[arg-type]
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, what="the server")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(60)

    @property
    def url(self) -> str:
        """The administrator's."""
        password = (self.secrets / "redis_admin_password").read_text(encoding="ascii")
        return f"redis://admin:{password}@127.0.0.1:{self.port}/0"

    @property
    def broker_url(self) -> str:
        """The same."""
        return self.url

    def url_of(self, file: str) -> str:
        """As it lies among the secrets, such as `redis_url`."""
        return (self.secrets / file).read_text(encoding="ascii")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
