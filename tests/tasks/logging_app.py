"""An app whose tasks succeed, fail, retry and take their process down; for workers whose log lines a test reads."""

import logging
import os
from typing import Any

import structlog
from celery import Celery, Task

from integrations.settings import load_settings
from tasks.worker.logs import connect_signals


class Quiet(Task):  # type: ignore[type-arg]
    Request = "tasks.worker.message_view:Request"


app: Celery[Any] = Celery("logging", task_cls=Quiet, set_as_current=False)
app.conf.update(
    broker_url=os.environ.get("OCC_BROKER_URL", "memory://"),
    task_ignore_result=True,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
    worker_send_task_events=True,
)


def connect() -> None:
    connect_signals(load_settings)


@app.task(name="occ.works", shared=False)
def works(merchant_id: str, run: int, slot: str, attempt: int, application_key: str) -> dict[str, str]:
    structlog.get_logger("ours").info("inside")
    logging.getLogger("theirs").info("inside too")
    return {"application_key": application_key, "text": application_key}


@app.task(name="occ.fails", shared=False)
def fails(merchant_id: str, run: int, slot: str, attempt: int, application_key: str) -> None:
    raise ValueError(f"cannot use token={application_key}")


@app.task(name="occ.retries", shared=False, bind=True, max_retries=1)
def retries(  # noqa: PLR0917 - as our own tasks have them
    self: Any, merchant_id: str, run: int, slot: str, attempt: int, application_key: str
) -> None:
    raise self.retry(exc=ValueError(f"token={application_key}"), countdown=0.01)


@app.task(name="occ.exits", shared=False)
def exits(merchant_id: str, run: int, slot: str, attempt: int, application_key: str) -> None:
    os._exit(3)


if "OCC_LOG_FORMAT" in os.environ:
    connect()
