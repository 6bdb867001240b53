"""The Celery app: `celery -A tasks worker`, `celery -A tasks beat`."""

import os
import sys
from functools import cache

from celery import Celery, Task
from celery.signals import celeryd_init, worker_init, worker_process_shutdown, worker_shutdown

from integrations.errors import SettingsError
from integrations.settings import load_keyless_settings
from tasks.wiring import wiring
from tasks.worker import broker
from tasks.worker.logs import connect_signals
from tasks.worker.start_up import await_safe_server, raise_file_limit


class QuietTask(Task):  # type: ignore[type-arg]
    """Shows its ids and nothing else of its message, wherever Celery shows messages."""

    Request = "tasks.worker.message_view:Request"


broker.install()
app = Celery("occ", task_cls=QuietTask)
app.config_from_object("celeryconfig")
connect_signals(cache(load_keyless_settings))


@celeryd_init.connect(weak=False)
def _note_concurrency(options: dict[str, object], **__: object) -> None:
    if concurrency := options.get("concurrency"):  # given as an option: the bulkhead is as large as the pool
        os.environ["OCC_CONCURRENCY"] = str(concurrency)


@worker_init.connect(weak=False)
def _before_work(**__: object) -> None:
    try:
        services = wiring()
        _ = services.traces  # their packages may be missing
        _ = services.bulkhead  # the processes of a prefork worker share it
    except SettingsError as error:
        sys.exit(str(error))  # Celery would log any other exception, and go on
    raise_file_limit()
    await_safe_server(services)


@worker_shutdown.connect(weak=False)
@worker_process_shutdown.connect(weak=False)  # of each child of the prefork pool
def _after_work(**_: object) -> None:
    wiring().traces.close()
