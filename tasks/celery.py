"""The Celery app: `celery -A tasks worker`, `celery -A tasks beat`."""

from celery import Celery, Task
from celery.signals import worker_init

from tasks import broker
from tasks.logs import connect_signals
from tasks.start_up import await_safe_server
from tasks.wiring import wiring


class QuietTask(Task):  # type: ignore[type-arg]
    """Shows its ids and nothing else of its message, wherever Celery shows messages."""

    Request = "tasks.message_view:Request"


broker.install()
app = Celery("occ", task_cls=QuietTask)
app.config_from_object("celeryconfig")
connect_signals(lambda: wiring().settings)


@worker_init.connect(weak=False)
def _before_work(**_: object) -> None:
    await_safe_server(wiring())
