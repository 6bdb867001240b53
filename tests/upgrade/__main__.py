"""`python -m tests.upgrade COMMIT`: an upgrade and a rollback, tried with the workers of two releases on one server.

A former release runs alone, then beside this one, then this one alone; and back again. In each phase merchants are
connected through both doors while the former ones are re-validated and one is disconnected. Every store is slow now and
then. What it says afterwards is what docs/deploying.md tells.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from integrations.connections.lifecycle.requests import is_at_rest
from integrations.messages.quarantine import list_quarantine
from occ.simulator.store import SimulatedStore
from tests.pipeline import REPOSITORY, SLOTS, Pipeline
from tests.waiting import eventually, wait_until

THEIRS = "https://oms.example.net/in"
PER_PHASE = 8
PHASES = ("former", "both, up", "new", "both, back", "former again")
BUSY = {"write_slot:order-update": [{"fault": "unavailable", "times": 1}]}


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of a commit."""
    with tempfile.TemporaryDirectory(prefix="occ-former-") as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


class Trial:
    """Forty merchants, two releases, one server."""

    def __init__(self, pipeline: Pipeline, former: Path) -> None:
        self.pipeline = pipeline
        self.former = former
        self.stores: dict[str, SimulatedStore] = {}
        self.gone: set[str] = set()
        self.running: dict[str, list[str]] = {"former": [], "new": []}
        self.outputs: dict[str, list[str]] = {"former": [], "new": []}

    def start(self, release: str) -> None:
        """Two workers and a beat of a release, ready."""
        self.pipeline.code = self.former if release == "former" else REPOSITORY
        names = [self.pipeline.start_worker(), self.pipeline.start_worker(), self.pipeline.start_beat()]
        self.running[release] = names
        self.outputs[release] += names
        self.pipeline.await_workers()

    def stop(self, release: str) -> None:
        """As a deployment does: each ends its tasks and goes."""
        for name in self.running[release]:
            self.pipeline.kill(name, signal.SIGTERM)
        self.running[release] = []

    def phase(self, number: int) -> None:
        """New merchants, a look at all the others, and one of them leaves."""
        present = [name for name in self.stores if name not in self.gone]
        calls = {name: self.stores[name].calls.endpoints["login"] for name in present}
        for name in present:
            self.ask("revalidate", name)
        news = [f"m-{number}-{place}" for place in range(PER_PHASE)]
        for place, name in enumerate(news):
            faults = BUSY if place % 4 == 3 else {}
            held = {slot: {"urls": [THEIRS]} for slot in SLOTS}
            self.stores[name] = self.pipeline.simulator.add(name, faults=faults, slots=held)
            request = self.pipeline.request(self.stores[name])
            self.pipeline.send(request) if place % 2 else self.pipeline.post(request)
        self.pipeline.await_end(*news, within=180)
        wait_until(lambda: all(self._looked_at(name, calls[name]) for name in present), within=180, what="looks")
        leaving = news[0]
        self.ask("disconnect", leaving)
        self.gone.add(leaving)
        wait_until(lambda: self.pipeline.status(leaving)["status"] == "disconnected", within=120, what="a disconnect")

    def ask(self, what: str, name: str) -> None:
        """In turn by the queue and by the inbox."""
        if hash(name) % 2:
            self.pipeline.producer.send_task(f"occ.{what}", kwargs={"merchant_id": name}, queue="occ")
        else:
            self.pipeline.redis.xadd("occ:inbox", {what: json.dumps({"merchant_id": name})})

    def _looked_at(self, name: str, logins: int) -> bool:
        connection = self.pipeline.connection(name)
        asked = self.stores[name].calls.endpoints["read_slot"] > 0
        return connection is not None and is_at_rest(connection) and asked and logins <= self._logins(name)

    def _logins(self, name: str) -> int:
        return self.stores[name].calls.endpoints["login"]

    def wrong(self) -> list[str]:
        """Everything that is not as it should be."""
        found = []
        for name, store in self.stores.items():
            status = self.pipeline.status(name)
            expected = "disconnected" if name in self.gone else "active"
            if status["status"] != expected:
                found.append(f"{name} is {status['status']}: {status['findings']}")
            ours = [] if name in self.gone else [f"https://hooks.example.com/occ/{name}/{{}}"]
            wanted = {slot: [THEIRS, *(url.format(slot) for url in ours)] for slot in SLOTS}
            found += [f"{name} {slot} holds {store.urls(slot)}" for slot in SLOTS if store.urls(slot) != wanted[slot]]
        found += [f"refused: {refusal}" for refusal in self.pipeline.records.refusals(count=100)]
        return found

    def set_aside(self) -> Counter[str]:
        """Messages that a release did not know; their work was sent again."""
        return Counter(message.reason for message in list_quarantine(self.pipeline.redis, 10_000))

    def said(self) -> dict[str, Counter[str]]:
        """By release: lines at WARNING and above, by event."""
        said: dict[str, Counter[str]] = {}
        for release, names in self.outputs.items():
            said[release] = Counter()
            for name in names:
                for line in self.pipeline.output(name).decode(errors="replace").splitlines():
                    with contextlib.suppress(ValueError):
                        fact = json.loads(line)
                        if isinstance(fact, dict) and fact.get("level") in {"warning", "error", "critical"}:
                            said[release][str(fact.get("event"))[:80]] += 1
        return said


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("commit", help="of the former release")
    parser.add_argument("--keep", type=Path, help="a folder for what the processes say")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with checkout(options.commit) as former, tempfile.TemporaryDirectory() as folder:
        where = options.keep or Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        with Pipeline(where, latency=0.05, settings={"OCC_LOG_LEVEL": "INFO"}) as pipeline:
            trial = Trial(pipeline, former)
            changes = (
                partial(trial.start, "former"),
                partial(trial.start, "new"),
                partial(trial.stop, "former"),
                partial(trial.start, "former"),
                partial(trial.stop, "new"),
            )
            wrong: list[str] = []
            for number, (name, change) in enumerate(zip(PHASES, changes, strict=True)):
                change()
                trial.phase(number)
                if not eventually(lambda: not trial.wrong(), within=60):
                    wrong = trial.wrong()
                sys.stdout.write(f"{name}: {len(trial.stores)} merchants, {wrong or 'all as they should be'}\n")
                sys.stdout.flush()
            for release, lines in trial.said().items():
                sys.stdout.write(f"{release} said: {dict(lines)}\n")
            sys.stdout.write(f"set aside: {dict(trial.set_aside())}\n")
            writes = sum(store.calls.endpoints["write_slot"] for store in trial.stores.values())
            sys.stdout.write(f"{len(trial.stores)} merchants, {writes} writes, {time.monotonic() - began:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
