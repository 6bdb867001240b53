"""A failover by address: the name leads to a new master, and the demoted one keeps its connections open."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis

from occ.local.server_binary import find_server_binary
from tasks.wiring import connect
from tests.waiting import wait_until

pytestmark = pytest.mark.server


@contextmanager
def server(folder: Path) -> Iterator[redis.Redis]:
    folder.mkdir()
    command = [find_server_binary().path, "--port", "0", "--unixsocket", str(folder / "s"), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        wait_until((folder / "s").exists, what="the server")
        with redis.Redis(unix_socket_path=str(folder / "s"), decode_responses=True) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


class Address:
    """A path that leads to one server, and then to another."""

    def __init__(self, link: Path, folder: Path) -> None:
        self.link = link
        self.lead_to(folder)

    def lead_to(self, folder: Path) -> None:
        new = self.link.with_suffix(".new")
        new.symlink_to(folder / "s")
        new.replace(self.link)


def in_a_pipeline(client: redis.Redis, *, transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        pipe.set("written", 1)
        pipe.execute()


WRITES: dict[str, Callable[[redis.Redis], Any]] = {
    "a command": lambda client: client.set("written", 1),
    "a script": lambda client: client.register_script("redis.call('SET', KEYS[1], 1)")(keys=["written"]),
    "a pipeline": lambda client: in_a_pipeline(client, transaction=False),
    "a transaction": lambda client: in_a_pipeline(client, transaction=True),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_demoted_master_is_left_for_the_one_at_its_address(
    tmp_path: Path, write: Callable[[redis.Redis], Any]
) -> None:
    with ExitStack() as running:
        old, new = (running.enter_context(server(tmp_path / name)) for name in ("old", "new"))
        address = Address(tmp_path / "address", tmp_path / "old")
        client = running.enter_context(connect(f"unix://{address.link}"))
        threads = [Thread(target=client.blpop, args=(["nothing"], 0.2)) for _ in range(3)]
        for thread in threads:
            thread.start()  # connections that are in the pool afterwards
        for thread in threads:
            thread.join()
        write(client)
        old.replicaof("127.0.0.1", "1")
        address.lead_to(tmp_path / "new")
        write(client)
        assert new.get("written") == "1"
