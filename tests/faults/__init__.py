"""The fault suite: kills, cuts, freezes and hangs things while merchants are being connected, and counts what is lost.

    python -m tests.faults [SCENARIO...] [--long] [--seed N] [--pool threads|prefork]      (or ./run faults ...)

    worker.py     what the workers of the suite run: the product, with faults wrapped around it from outside
    rig.py        a pipeline whose processes are restarted when they end, its load, and what is counted at the end
    established.py  merchants who were connected before, and what is asked for them while the faults strike
    report.py     the figures of one scenario and the bounds they are held to
    scenarios.py  all scenarios by name; each is a function in a module of its own kind

Words: a *fault* is what the suite does; an *exit* is a worker that ended though nobody had touched it. *Accepted* means
that there is a record. *Lost*: a request without a record, or a record whose run did not end in time. *Wrong*: it ended
otherwise than its store deserves, or the store does not carry what the record says.
"""
