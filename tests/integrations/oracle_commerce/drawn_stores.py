"""Draws stores at random and says at which of them a law breaks, and how; it does not stop at the first one.

python -m tests.integrations.oracle_commerce.drawn_stores 1000 --seed 7
"""

import argparse
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping

import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.integrations.oracle_commerce.test_any_store import DRAWN, drawn_store_does_no_harm

_AT_ONCE = 50  # after which the time is looked at


def main() -> int:
    """Print each store at which a law breaks, and how many there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the same stores with the same seed")
    parser.add_argument("--within", type=float, default=500.0, help="seconds, after which no other store is drawn")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began, drawn, broken = time.monotonic(), 0, Counter[str]()

    def draw(values: Mapping[str, object]) -> None:
        nonlocal drawn
        drawn += 1
        try:
            drawn_store_does_no_harm(**values)  # type: ignore[arg-type]
        except AssertionError as law:
            said = (str(law) or repr(law)).partition("\n")[0]
            broken[re.sub(r"https?:\S+|'[^']*'|\d+", "_", said)] += 1
            say(f"{said}\n    {values}")

    while drawn < asked.stores and time.monotonic() - began < asked.within:
        few = settings(
            max_examples=min(_AT_ONCE, asked.stores - drawn),
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        seed(asked.seed * 1_000_000 + drawn)(few(given(st.fixed_dictionaries(DRAWN))(draw)))()
    say(f"{drawn} stores, seed {asked.seed}: {sum(broken.values())} break a law {dict(broken)}")
    return 1 if broken else 0


def say(line: str) -> None:
    """At once: a run takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
