"""The Celery app: `celery -A tasks worker`, `celery -A tasks beat`."""

import os
import sys
from functools import cache
from typing import Any

import structlog
from celery import Celery, Task
from celery.signals import beat_init, celeryd_init, worker_init, worker_process_shutdown, worker_ready, worker_shutdown

from integrations.errors import SettingsError
from integrations.settings import load_keyless_settings
from tasks.queues import QUARANTINE
from tasks.start_up import await_safe_server, await_server_of_settings, raise_file_limit, refuse_another_environment
from tasks.wiring import wiring
from tasks.worker import broker, handing_on
from tasks.worker.logs import connect_signals
from tasks.worker.watchdog import watch

log = structlog.get_logger(__name__)


class QuietTask(Task):  # type: ignore[type-arg]
    """Shows its ids and nothing else of its message, wherever Celery shows messages."""

    Request = "tasks.worker.message_view:Request"


broker.install()
app = Celery("occ", task_cls=QuietTask)
app.config_from_object("celeryconfig")
connect_signals(cache(load_keyless_settings))


@celeryd_init.connect(weak=False)
def _leave_the_quarantine_to_its_own_worker(options: dict[str, Any], **__: object) -> None:
    if not options.get("queues"):
        app.amqp.queues.deselect([QUARANTINE])  # else a plain worker takes what may be taking workers down
    if concurrency := options.get("concurrency"):  # the bulkhead is as large as the pool
        os.environ["OCC_CONCURRENCY"] = str(concurrency)


@worker_ready.connect(weak=False)
def _log_the_queues(sender: Any, **__: object) -> None:
    log.info("worker_takes", queues=sorted(app.amqp.queues.consume_from), concurrency=sender.controller.concurrency)


@worker_init.connect(weak=False)
def _before_work(**__: object) -> None:
    try:
        services = wiring()
        _ = services.traces  # their packages may be missing
        _ = services.bulkhead  # the processes of a prefork worker share it
    except SettingsError as error:
        sys.exit(str(error))  # Celery would log any other exception, and go on
    raise_file_limit()
    await_safe_server(services.settings)
    refuse_another_environment(services)


@beat_init.connect(weak=False)
def _before_ticks(**__: object) -> None:
    await_server_of_settings()


@worker_ready.connect(weak=False)
def _watch_over_it(sender: object, **_: object) -> None:
    watch(sender, wiring().settings.lease)
    handing_on.begin(sender)


@worker_shutdown.connect(weak=False)
@worker_process_shutdown.connect(weak=False)  # of each child of the prefork pool
def _after_work(**_: object) -> None:
    wiring().traces.close()
