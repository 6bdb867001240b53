"""The queues of the pipeline; nothing else is ever sent to."""

REQUESTS = "occ"
"""Connect requests: the queue other systems write to, part of the public contract."""

STEPS = "occ.steps"
"""The steps of a run, one message each."""

TICKS = "occ.tick"
"""Apart from the work, so that a full queue of steps cannot delay the tick that heals it."""

QUARANTINE = "occ.quarantine"
"""Steps that may be what takes workers down. A worker of its own runs them one at a time, so that nobody is hit."""

QUEUES = (REQUESTS, STEPS, TICKS)
"""What ordinary workers consume."""
