"""Programs of others connect stores through a deployed server: stock Celery, a Redis client, Node.

They come over plain TCP, as the users of the deployment, and over TLS with a private authority.

The Celery client is the one that is installed. `STOCK_CELERY=/path/to/python:/path/to/another` runs those of other
environments too, which need Celery, redis-py and PyNaCl.
"""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from tests.contract.conftest import EXAMPLES, node_project  # noqa: F401 - a fixture
from tests.deploy.deployed_server import DeployedServer
from tests.pipeline import Pipeline
from tests.tls_relay import TlsRelay
from tests.waiting import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

CELERY = ["connect_with_celery.py"]
CLIENTS: dict[str, list[str]] = {
    "celery": [sys.executable, *CELERY],
    "redis": [sys.executable, "connect_with_redis.py"],
    "node": ["node", "connect.mjs"],
} | {f"celery of {python}": [python, *CELERY] for python in os.environ.get("STOCK_CELERY", "").split(":") if python}
WAYS = ("plain", "users", "tls")


class Deployment:
    """The pipeline on a deployed server, and how strangers reach it."""

    def __init__(self, pipeline: Pipeline, server: DeployedServer, folder: Path) -> None:
        self.pipeline, self.server = pipeline, server
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.relay = TlsRelay(context, ("127.0.0.1", server.port))

    def url_for(self, client: str, way: str) -> str:
        """As whoever set this up hands it to the client's people."""
        url = self.server.url_of("redis_url_celery" if client.startswith("celery") else "redis_url_inbox")
        if way == "plain":
            return f"redis://127.0.0.1:{self.server.port}/0"
        if way == "users":
            return url
        url = url.replace("redis://", "rediss://").replace(str(self.server.port), str(self.relay.port))
        return url if client == "node" else f"{url}?ssl_cert_reqs=required&ssl_ca_certs={self.authority}"

    def run(self, command: list[str], folder: Path, url: str, arguments: list[str], **kwargs: Any) -> str:
        """A program of somebody else's, to its end."""
        environment: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": url,
            "BROKER_URL": url,
            "NODE_EXTRA_CA_CERTS": str(self.authority),
            "SEALING_KEY_ID": self.pipeline.key.key_id,
            "SEALING_PUBLIC_KEY": self.pipeline.key.public_key,
        }
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, **kwargs
        )
        assert done.returncode == 0, done.stderr
        return f"{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployed")
    pipeline = Pipeline(tmp_path_factory.mktemp("pipeline"))
    server = DeployedServer(folder)
    pipeline.server = server  # type: ignore[assignment]
    with pipeline:
        pipeline._settings |= {"OCC_REDIS_URL": server.url_of("redis_url")}
        deployment = Deployment(pipeline, server, folder)
        pipeline.start_worker()
        pipeline.start_beat()
        pipeline.await_workers()
        yield deployment
        deployment.relay.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_stranger_connects_a_store(
    deployment: Deployment, client: str, way: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("node_project") if client == "node" else EXAMPLES / "python"
    pipeline = deployment.pipeline
    admin: Any = pipeline.redis
    admin.acl_log_reset()
    store = pipeline.simulator.add(f"{way}-{list(CLIENTS).index(client)}")
    # Without users: anybody may do anything, as with a server nobody has set up.
    login = ["on", "nopass", "~*", "&*", "+@all"] if way == "plain" else ["off"]
    admin.execute_command("ACL", "SETUSER", "default", "reset", *login)
    url = deployment.url_for(client, way)
    said = deployment.run(CLIENTS[client], folder, url, [store.name, store.url], input=f"{store.application_key}\n")
    assert said == ""
    pipeline.await_end(store.name)
    assert pipeline.status(store.name)["status"] == "active"
    assert admin.acl_log() == [], "it asks for nothing more"


SENDS = """
import sys, os
from celery import Celery
with Celery(broker=os.environ["BROKER_URL"]) as app:
    for priority in range(10):
        app.send_task("occ.revalidate", queue="occ", kwargs={"merchant_id": "nobody"}, priority=priority)
    app.send_task("occ.revalidate", kwargs={"merchant_id": "nobody"})  # to the client's own default queue
    app.signature("occ.revalidate", kwargs={"merchant_id": "nobody"}, queue="occ", countdown=1).apply_async()
"""


@pytest.mark.parametrize("client", [name for name in CLIENTS if name.startswith("celery")])
def test_a_celery_client_may_send_with_any_option_and_do_nothing_else(deployment: Deployment, client: str) -> None:
    admin: Any = deployment.pipeline.redis
    admin.acl_log_reset()
    before = admin.xlen("occ:refused")
    url = deployment.server.url_of("redis_url_celery")
    deployment.run([CLIENTS[client][0], "-c", SENDS], EXAMPLES, url, [])
    assert admin.acl_log() == [], "it asks for nothing more"
    wait_until(lambda: admin.xlen("occ:refused") == before + 12, what="all of them: none is of a known merchant")
    with redis.Redis.from_url(url) as sender:
        for command in ("LRANGE occ 0 -1", "RPOP occ", "DEL occ", "XADD occ:inbox * a b", "LPUSH occ.steps x",
                        "LPUSH occ:quarantine x", "HGETALL occ:connection:m", "KEYS *", "EVAL x 0"):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                sender.execute_command(*command.split())
    admin.acl_log_reset()


def test_another_system_follows_the_events_as_the_user_for_that(deployment: Deployment, tmp_path: Path) -> None:
    admin: Any = deployment.pipeline.redis
    admin.acl_log_reset()
    admin.xadd("occ:events", {"event": json.dumps({"id": "e-1", "type": "t", "sequence": "1", "subject": "m-1"})})
    ledger = tmp_path / "ledger"
    environment = {"PATH": os.environ["PATH"], "REDIS_URL": deployment.server.url_of("redis_url_events")}
    command = [sys.executable, "follow_events.py", "one", str(ledger)]
    with subprocess.Popen(command, cwd=EXAMPLES / "python", env=environment, stderr=subprocess.PIPE) as following:
        wait_until(
            lambda: any(group["pending"] == 0 and group["lag"] == 0 for group in admin.xinfo_groups("occ:events"))
        )
        following.terminate()
        following.communicate()
    assert admin.acl_log() == []
