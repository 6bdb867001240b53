"""`python -m occ.cli`: what `./run occ` starts."""

import gc
import signal
import sys

gc.set_threshold(100_000)  # while modules load there is no garbage, and looking for it took a sixth of the time

from occ.cli.command_line import run  # noqa: E402

_TERMINATED = 128 + signal.SIGTERM

if __name__ == "__main__":
    # An orderly exit, so that a live table gives the cursor back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    exit_code = run(sys.argv[1:])
    gc.freeze()  # nor for garbage in what ends with the process: another fifth
    sys.exit(exit_code)
