"""`./run up` with simulated stores, all that it connects having come to an end: what a person sees of it in Flower."""

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from integrations.connections.records import Records
from integrations.sealing.keyring import SealingKey, seal
from occ.demo.merchants import Part
from occ.local.server import EmbeddedServer
from occ.simulator.process import SimulatorProcess
from tasks.inbox import STREAM
from tests.browser import Browser, Login
from tests.occ.local.running_up import Up, up
from tests.pipeline import PACE, ended
from tests.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Window:
    """Where Flower is and how to get in; the records behind what it shows."""

    up: Up
    url: str
    login: Login
    redis: redis.Redis
    records: Records

    def restart_flower(self) -> int:
        """It ends in order, and `./run up` starts it again; returns the process that ends."""
        process = self.up.started["flower"]
        os.kill(process, signal.SIGTERM)
        return process


@contextmanager
def window(folder: Path, parts: Sequence[Part]) -> Iterator[Window]:
    """Connects the merchants of these parts, one after the other, under the names of the parts."""
    key = SealingKey.generate()
    with SimulatorProcess(["--port=0", "--control-port=0", "--tenants=0", "--latency=0.05"]) as simulator:
        settings = {
            **PACE,
            "OCC_SEALING_KEYS": key.export(),
            "OCC_DEV_STORES": simulator.dev_stores,
            "OCC_CONCURRENCY": "8",
        }
        with up(folder, "--workers", "1", "--flower-port", "5560", **settings) as running:
            running.await_words("occ-connect is running.")
            running.await_words("worker-1@")
            (url,) = re.findall(r"Flower +(http://127\.0\.0\.1:\d+)", running.said)
            password = (running.data / "flower" / "password").read_text(encoding="ascii").strip()
            server = EmbeddedServer.running_in(running.data / "server")
            assert server is not None
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                shown = Window(running, url, Login("occ", password), client, Records(client))
                # What happens before it listens, Flower never hears of.
                wait_until(lambda: flower_listens(client))
                for part in parts:
                    store = simulator.client.add(part.name, **part.settings)
                    sealed = seal(key.public_key, key.key_id, part.name, store["application_key"])
                    request = {
                        "merchant_id": part.name,
                        "store_url": store["store_url"],
                        "application_key": sealed,
                    }
                    client.xadd(STREAM, {"request": json.dumps(request)})
                    await_end(shown, part.name)
                yield shown


def flower_listens(client: redis.Redis) -> bool:
    """One pattern is that of commands to workers; the other, that of events."""
    return client.pubsub_numpat() >= 2


def await_end(shown: Window, merchant_id: str, run: int = 1) -> None:
    """Until a run has an outcome."""

    def has_ended() -> bool:
        connection = shown.records.load(merchant_id).connection
        return connection is not None and ended(connection, run)

    wait_until(has_ended)


def opened(browser: Browser, shown: Window, search: str = "") -> None:
    """The list of tasks, searched, once it shows some: Flower hears of them a little later."""

    def shows_tasks() -> bool:
        browser.open(f"{shown.url}/tasks")
        browser.wait_for("(document.querySelector('#tasks-table_info') || {}).innerText")  # once there is an answer
        browser.type_into("#tasks-table_filter input", search)
        browser.wait_for(f"$('#tasks-table').DataTable().search() === {json.dumps(search)} && $.active === 0")
        return bool(browser.run("!!document.querySelector('#tasks-table tbody a')"))

    wait_until(shows_tasks)
