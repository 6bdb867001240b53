"""`python -m tasks.cli`: what `./run occ` starts."""

import signal
import sys

from tasks.cli.command_line import run

_TERMINATED = 128 + signal.SIGTERM

if __name__ == "__main__":
    # An orderly exit, so that a live table gives the cursor back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    sys.exit(run(sys.argv[1:]))
