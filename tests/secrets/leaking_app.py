"""A worker that leaks in every way we know of, to prove that the search would find it. Nothing of ours is in it."""

import os
import time

from celery import Celery

LEAK = os.environ.get("LEAK", "")

app = Celery("leaking", broker=os.environ.get("OCC_BROKER_URL", ""))
app.conf.update(
    leaked_setting=LEAK,
    task_ignore_result=True,
    worker_send_task_events=True,
    worker_pool="solo",
    broker_connection_retry_on_startup=True,
    broker_transport_options={"priority_steps": [0]},
)


@app.task(name="leaking.leak")
def leak(secret: str, seconds: float) -> None:
    """Hold a secret for a while, then quote it in a traceback."""
    time.sleep(seconds)
    raise ValueError(secret)
