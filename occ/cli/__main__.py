"""`occ`, and `python -m occ.cli`, which `./run occ` starts."""

import gc
import signal
import sys
from typing import NoReturn

gc.set_threshold(100_000)  # while modules load there is no garbage, and looking for it took a sixth of the time

from occ.cli.command_line import run  # noqa: E402

_TERMINATED = 128 + signal.SIGTERM


def main() -> NoReturn:
    """Run the command line of this process, and end with its exit code."""
    # An orderly exit, so that a live table gives the cursor back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    exit_code = run(sys.argv[1:])
    gc.freeze()  # nor for garbage in what ends with the process: another fifth
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
