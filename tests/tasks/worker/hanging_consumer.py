"""Included in a worker: it hangs at its first message and takes no other."""

import threading

from celery import signals


@signals.task_received.connect(weak=False)
def _hang(**_: object) -> None:
    threading.Event().wait()
