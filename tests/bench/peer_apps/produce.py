"""`python -m tests.bench.peer_apps.produce MODULE`: sends for each store on standard input; prints when each was sent.

The stores: a list of url, key, and wait (seconds after the start). Calls the module's `send`.
"""

import json
import sys
import time
from importlib import import_module
from typing import Any


def main() -> None:
    """See above."""
    module = import_module(f"tests.bench.peer_apps.{sys.argv[1]}")
    stores: list[dict[str, Any]] = json.load(sys.stdin)
    started, sent = time.monotonic(), []
    for store in stores:
        time.sleep(max(0.0, started + store["wait"] - time.monotonic()))
        sent.append(time.time())
        module.send(store["url"], store["key"])
    print(json.dumps(sent))  # noqa: T201


if __name__ == "__main__":
    main()
