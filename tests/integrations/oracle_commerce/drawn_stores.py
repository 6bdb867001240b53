"""Draws stores at random and says at which of them a law breaks, and how; it does not stop at the first one.

Each is drawn for itself, by the seed and its number; one that was there before is not counted.

python -m tests.integrations.oracle_commerce.drawn_stores 1000 --seed 7
"""

import argparse
import itertools
import logging
import re
import sys
import time
from collections import Counter
from random import Random

import structlog

from tests.integrations.oracle_commerce.test_any_store import at_random, drawn_store_does_no_harm


def main() -> int:
    """Print each store at which a law breaks, and how many there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the same stores with the same seed")
    parser.add_argument("--within", type=float, default=500.0, help="seconds, after which no other store is drawn")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began, drawn, known, broken = time.monotonic(), 0, set[str](), Counter[str]()

    for number in itertools.count():
        if drawn == asked.stores or time.monotonic() - began > asked.within:
            break
        values = at_random(Random(f"{asked.seed}/{number}"))  # noqa: S311 - nothing is kept secret by it
        if repr(values) in known:
            continue
        known.add(repr(values))
        drawn += 1
        try:
            drawn_store_does_no_harm(**values)
        except AssertionError as law:
            said = (str(law) or repr(law)).partition("\n")[0]
            broken[re.sub(r"https?:\S+|'[^']*'|\d+", "_", said)] += 1
            say(f"{said}\n    {values}")
    say(f"{drawn} stores, seed {asked.seed}: {sum(broken.values())} break a law {dict(broken)}")
    return 1 if broken else 0


def say(line: str) -> None:
    """At once: a run takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
