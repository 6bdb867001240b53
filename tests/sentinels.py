"""A master, its two replicas and sentinels, all of them real: each server can be killed and started again."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from occ.local.server_binary import find_server_binary
from tests.ports import free_port
from tests.waiting import wait_until

PASSWORD = "of the server"
SENTINEL_PASSWORD = "of the sentinels"


class Sentinels:
    """Three servers that replace each other. With passwords, and writes only while a replica follows."""

    def __init__(self, folder: Path, *, sentinels: int = 1) -> None:
        self.folder = folder
        self.servers = [free_port() for _ in range(3)]
        self.sentinel_ports = [free_port() for _ in range(sentinels)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        first, *others = self.servers
        self.start(first)
        for port in others:
            self.start(port, replica_of=first)
        wait_until(lambda: all(map(self._follows, others)), what="the replicas to follow")
        for port in self.sentinel_ports:
            self._start_sentinel(port)
        wait_until(lambda: self.sees_replicas, what="the sentinels to know of the replicas")

    @property
    def url(self) -> str:
        """For OCC_REDIS_URL."""
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        passwords = f"sentinel_password={SENTINEL_PASSWORD.replace(' ', '%20')}"
        return f"redis+sentinel://:{PASSWORD.replace(' ', '%20')}@{places}/0?master=ours&{passwords}"

    @property
    def master(self) -> int:
        """The port of the server that the first sentinel takes for the master."""
        with self._sentinel() as client:
            address: list[str] = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "ours")
            return int(address[1])

    @property
    def replaced(self) -> int:
        """How often another server has become the master, also without being asked to."""
        return int(self._facts["config-epoch"])

    @property
    def is_replacing(self) -> bool:
        """Whether a failover is under way. It never ends if the server that was chosen ends first."""
        return "failover_in_progress" in self._facts["flags"]

    @property
    def _facts(self) -> dict[str, str]:
        with self._sentinel() as client:
            return _said(client.execute_command("SENTINEL", "MASTER", "ours"))

    @property
    def sees_replicas(self) -> bool:
        """Whether all the others could take the master's place."""
        with self._sentinel() as client:
            try:
                replicas: list[Any] = client.execute_command("SENTINEL", "REPLICAS", "ours")
            except redis.RedisError:
                return False
        flags = [_said(replica)["flags"] for replica in replicas]
        well = [its for its in flags if "slave" in its and "down" not in its]
        return len(well) == len(self.servers) - 1

    def kill_master(self) -> int:
        """As `kill -9` does; its port."""
        port = self.master
        process = self._processes.pop(port)
        process.kill()
        process.wait(60)
        return port

    def start(self, port: int, *, replica_of: int | None = None) -> None:
        """A server on this port, with what is in its files."""
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        options: Mapping[str, object] = {
            "port": port,
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "appendonly": "yes",
            "min-replicas-to-write": 1,
            "min-replicas-max-lag": 2,
            "repl-diskless-sync-delay": 0,
        }
        command = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        command += ["--replicaof", "127.0.0.1", str(replica_of)] if replica_of else []
        self._spawn(port, [str(find_server_binary().path), *command, "--save", ""], folder)

    def end(self) -> None:
        """All of them."""
        for process in self._processes.values():
            process.kill()
            process.wait(60)

    def _start_sentinel(self, port: int) -> None:
        folder = self.folder / f"sentinel-{port}"
        folder.mkdir()
        lines = [
            f"port {port}", "bind 127.0.0.1", f'requirepass "{SENTINEL_PASSWORD}"',
            f"sentinel monitor ours 127.0.0.1 {self.servers[0]} {len(self.sentinel_ports) // 2 + 1}",
            f'sentinel auth-pass ours "{PASSWORD}"',
            f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"',
            "sentinel down-after-milliseconds ours 1000", "sentinel failover-timeout ours 4000",
        ]  # fmt: skip
        file = folder / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        self._spawn(port, [str(find_server_binary().path), str(file), "--sentinel"], folder)

    def _spawn(self, port: int, command: list[str], folder: Path) -> None:
        with (folder / "log").open("ab") as log:
            self._processes[port] = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)

    def _sentinel(self) -> redis.Redis:
        return redis.Redis(port=self.sentinel_ports[0], password=SENTINEL_PASSWORD, decode_responses=True)

    def _follows(self, port: int) -> bool:
        with redis.Redis(port=port, password=PASSWORD, decode_responses=True) as client:
            try:
                return bool(client.info("replication").get("master_link_status") == "up")
            except redis.RedisError:
                return False


def _said(of_one: Any) -> dict[str, str]:
    """Of one server, which comes as a list of names and values, or as a dictionary."""
    return of_one if isinstance(of_one, dict) else dict(zip(of_one[::2], of_one[1::2], strict=True))


@contextmanager
def sentinels(folder: Path, *, number: int = 1) -> Iterator[Sentinels]:
    """Running."""
    group = Sentinels(folder, sentinels=number)
    try:
        yield group
    finally:
        group.end()
