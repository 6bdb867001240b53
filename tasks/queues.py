"""The queues of the pipeline. Workers consume all of them; nothing else is ever sent to."""

REQUESTS = "occ"
"""Connect requests: the queue other systems write to, part of the public contract."""

STEPS = "occ.steps"
"""The steps of a run, one message each."""

TICKS = "occ.tick"
"""Apart from the work, so that a full queue of steps cannot delay the tick that heals it."""

QUEUES = (REQUESTS, STEPS, TICKS)
