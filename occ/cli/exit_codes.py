"""How `occ` ends. A contract with scripts: codes may be added, never changed."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    NEEDS_ATTENTION = 1
    REFUSED = 2
    NO_SERVER = 3
    UNKNOWN_MERCHANT = 4
    OUR_ERROR = 70
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


EXIT_CODES = """\b
Exit codes:
  0    done; with `connect --wait`: the connection is active
  1    somebody has to look: `connect --wait`: the connection needs attention, or the timeout passed; for many
       merchants: not done for some; `health`: work is overdue; `rotate-keys`: a key that no sealing key opens
  2    wrong usage, or a request or settings that were refused
  3    no server could be reached
  4    there is no connection of that merchant
  70   an error of our own
  130  interrupted (143: told to end)
  141  whoever read the output went away
"""
