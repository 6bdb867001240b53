"""The app that the tests' workers run: two tasks, and settings like the product's. Told what to use by TEST_*."""

import os
import time
from functools import cache

import redis
from celery import Celery
from celery.signals import worker_ready

from tasks.worker.broker import install
from tests.tasks.worker.broker.messages import NOTE, QUEUE

if os.environ.get("TEST_TRANSPORT") != "stock":
    install()

app = Celery("test", broker=os.environ["TEST_BROKER"])
app.conf.update(
    accept_content=["json"],
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": 2,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "health_check_interval": 10,
    },
    task_acks_late=True,
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_reject_on_worker_lost=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_prefetch_multiplier=int(os.environ.get("TEST_PREFETCH", "1")),
)
if os.environ.get("TEST_CONSUMER") != "stock":
    app.conf.worker_consumer = "tasks.worker.broker.consumer:TolerantConsumer"


@cache  # one for each process: a prefork child must not share its parent's
def _client(process: int) -> redis.Redis:
    return redis.Redis.from_url(os.environ["TEST_REDIS"])


@worker_ready.connect
def _say_so(**_: object) -> None:
    _client(os.getpid()).set("ready", os.getpid())


@app.task(name=NOTE)
def note(*_args: object, mark: object = None, seconds: float = 0, **_kwargs: object) -> None:
    """Leave a mark, after a while if wanted."""
    if isinstance(seconds, (int, float)) and 0 < seconds < 1:
        time.sleep(seconds)
    for _ in range(50):
        try:
            _client(os.getpid()).rpush("noted", repr(mark))
        except redis.RedisError:  # the tests kill the server, and fill it
            time.sleep(0.1)
        else:
            return
