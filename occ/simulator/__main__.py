"""`occ simulate`, or `python -m occ.simulator`: stores to try things with, for people who have no Oracle tenant."""

import argparse
import errno
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from occ.clone import started_as
from occ.simulator.process import watch_parent
from occ.simulator.runner import Simulator, TlsFiles
from occ.simulator.setting_error import SettingError
from occ.simulator.store import SimulatedStore

STORES_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal, or until the parent is gone; returns the exit code."""
    options = _options(arguments)
    # Not an Event: setting one in a signal handler deadlocks if the signal comes while `wait` holds its lock.
    stop: SimpleQueue[None] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.put(None))
    if options.with_parent is not None:
        watch_parent(options.with_parent or os.getppid(), lambda: stop.put(None), watch_pipe=options.stores != "-")
    simulator = Simulator(
        port=options.port,
        control_port=options.control_port,
        latency=options.latency,
        jitter=options.jitter,
        tls=TlsFiles(options.tls_cert, options.tls_key) if options.tls_cert else None,
        tls_port=options.tls_port,
        one_address=options.one_address or None,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="occ-simulator-") as folder, simulator:
            stores = _add_stores(simulator, options)
            simulator.courier.set_orders(options.orders)
            keys = _write_keys(stores, Path(options.keys or folder)) if options.keys or not options.json else {}
            _say(_as_json(simulator, stores, keys) if options.json else _as_text(simulator, stores, keys))
            stop.get()
    except (OSError, SettingError, ValueError) as problem:
        taken = isinstance(problem, OSError) and problem.errno == errno.EADDRINUSE
        hint = "; `--port 0 --control-port 0` finds free ports" if taken else ""
        sys.stderr.write(f"The simulator cannot start: {problem}{hint}\n")
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="occ simulate",
        description="Simulated stores to try things with: no Oracle tenant is needed. docs/first-steps.md uses them.",
    )
    parser.add_argument("--port", type=int, default=8800, help="port of all stores, 0 for a free one (8800)")
    parser.add_argument(
        "--control-port", type=int, default=8801, help="port of the control API, 0 for a free one (8801)"
    )
    parser.add_argument("--tenants", type=int, default=3, metavar="N", help="how many healthy stores to begin with (3)")
    parser.add_argument(
        "--stores", metavar="FILE", help="JSON list of stores with their settings; - for standard input"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds every answer takes (0)")
    parser.add_argument("--jitter", type=float, default=0.0, help="seconds added to that at random (0)")
    parser.add_argument(
        "--orders", type=float, default=0.0, metavar="RATE", help="orders a minute, at one store or another (0)"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain for HTTPS, PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")
    parser.add_argument("--tls-port", type=int, default=0, help="port of HTTPS, 0 for a free one")
    parser.add_argument("--one-address", action="store_true", help="127.0.0.1 only, a port per store")
    parser.add_argument("--keys", metavar="FOLDER", help="where to put the application keys (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    parser.add_argument(
        "--with-parent", nargs="?", type=int, const=0, metavar="PID", help="end when the process that started it does"
    )
    options = parser.parse_args(arguments)
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key belong together")
    return options


def _add_stores(simulator: Simulator, options: argparse.Namespace) -> list[SimulatedStore]:
    if options.stores is None:
        return simulator.add_many(options.tenants)
    text = sys.stdin.read() if options.stores == "-" else Path(options.stores).read_text(encoding="utf-8")
    entries = json.loads(text)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingError("--stores wants a JSON list of objects")
    return [simulator.add(**entry) for entry in entries]


def _write_keys(stores: Sequence[SimulatedStore], folder: Path) -> dict[str, str]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = {}
    for store in stores:
        path = folder / f"{store.name}.key"
        path.touch(mode=0o600)
        path.write_text(store.application_key + "\n", encoding="ascii")
        paths[store.name] = str(path)
    return paths


def _as_json(simulator: Simulator, stores: Sequence[SimulatedStore], keys: dict[str, str]) -> str:
    return json.dumps(
        {
            "port": None if simulator.one_address else simulator.port,
            "tls_port": simulator.tls_port or None,
            "control_url": simulator.control_url,
            "dev_stores": simulator.dev_stores,
            "tenants": [{**store.address(), "application_key_file": keys.get(store.name)} for store in stores],
        }
    )


def _as_text(simulator: Simulator, stores: Sequence[SimulatedStore], keys: dict[str, str]) -> str:
    lines = [f"{len(stores)} simulated stores; control API at {simulator.control_url}", ""]
    for store in stores[:STORES_SHOWN]:
        lines.append(f"  {store.name:<12} {store.url:<26} {keys[store.name]}")
        if store.https_url:
            lines.append(f"  {'':<12} {store.https_url}")
    if len(stores) > STORES_SHOWN:
        lines.append(f"  ... and {len(stores) - STORES_SHOWN} more: curl {simulator.control_url}/tenants")
    if stores:
        first = stores[0]
        script = json.dumps({"faults": {"write_slot:order-update": [{"fault": "forbidden_role", "times": "always"}]}})
        change = f"curl -fsS -o /dev/null -X PATCH {simulator.control_url}/tenants/{first.name} -d"
        lines += [
            "",
            (
                "Connect one, with this in another terminal: "
                f"OCC_DEV_STORES={shlex.quote(simulator.dev_stores)} {started_as('up')}"
            ),
            "",
            f"  {started_as('connect')} {first.name} --store-url {first.url} \\",
            f"      --application-key-file {shlex.quote(keys[first.name])} --wait",
            "",
            "Before that, make one of its slots refuse us; afterwards, fix it and re-validate; see what it was asked:",
            "",
            f"  {change} {shlex.quote(script)}",
            f"  {change} {shlex.quote(json.dumps({'faults': None}))} && {started_as('revalidate')} {first.name}",
            f"  curl {simulator.control_url}/tenants/{first.name}/calls",
            "",
            "docs/first-steps.md goes on from here, and lists what else can be made to fail.",
        ]
    lines += ["", "Ctrl+C ends it."]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
