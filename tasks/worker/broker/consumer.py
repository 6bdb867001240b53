"""The worker's consumer: what is no task we can run goes to the quarantine.

Celery's own consumer lets some malformed tasks end the worker, and again after each restart (celery#4308, celery#7975);
others it drops and logs with their whole body, where an application key may be.

Set as `worker_consumer`. A message stays in `unacked` until it is in the quarantine, so a worker that dies in between
leaves it to the next one: it may be set aside twice, but it is never nowhere.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from celery import signals
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer
from kombu.utils.json import dumps

from integrations.sealing.redaction import redact
from tasks.worker.broker.envelope import content_problem, task_problem
from tasks.worker.broker.options import request_set_aside, settle_options
from tasks.worker.broker.transport import Channel

log = structlog.get_logger(__name__)

_DIAL_EVERY = 2.0  # seconds


class TolerantConsumer(Consumer):
    """Hands tasks on as Celery does, and sets everything else aside."""

    connection_errors: tuple[type[Exception], ...]

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """As Celery's, but its facts are shown to everybody who may ask: `celery inspect stats`, Flower."""

        def info(self, parent: Any) -> dict[str, Any]:
            """Celery takes the password out of its own field, and leaves it in the URL that names a socket."""
            facts: dict[str, Any] = super().info(parent)
            return {**facts, "broker": redact(facts["broker"])} if isinstance(facts.get("broker"), dict) else facts

    def ensure_connected(self, conn: Any) -> Any:
        """Celery waits two seconds longer each time, up to thirty: so long may a server that is back lack workers."""
        steadily = {"interval_start": _DIAL_EVERY, "interval_step": 0, "interval_max": _DIAL_EVERY}
        conn.ensure_connection = partial(conn.ensure_connection, **steadily)
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Celery's handler, behind a check. Errors of the handler itself keep their meaning."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            problem = _problem(message) or settle_options(message.headers, message.payload, _now(message))
            if problem:
                self._set_aside(message, problem)
                request_set_aside.send(sender=self, message=message, reason=problem)
            else:
                handle(message)

        return on_task_received

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        """A task nobody registered: a producer's typo, or a newer producer than this worker."""
        self._set_aside(message, "the task is unknown")
        signals.task_unknown.send(
            sender=self, message=message, exc=exc, name=message.headers["task"], id=message.headers["id"]
        )

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        """Whatever Celery finds wrong with a task that we did not."""
        self._set_aside(message, "the task is invalid", exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Whatever Celery does not take for a task though we did."""
        self._set_aside(message, "the message is no task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Whatever Celery cannot read though we could."""
        self._set_aside(message, "the body cannot be read", exc)

    def _set_aside(self, message: Any, reason: str, exc: Exception | None = None) -> None:
        queue = (message.delivery_info or {}).get("routing_key", "")
        if isinstance(message.channel, Channel):
            message.channel.set_aside(dumps(message._raw).encode(), queue, reason)  # noqa: SLF001
        else:  # another broker than Redis
            log.error("message_dropped", queue=queue, reason=reason)
        message.reject_log_error(get_logger(__name__), self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=exc)


def _now(message: Any) -> float:
    """By the server's clock: a worker whose own is ahead must not let a request expire."""
    return message.channel.clock.now() if isinstance(message.channel, Channel) else time.time()


def _problem(message: Any) -> str | None:
    problem = content_problem(message.content_type, message.content_encoding)
    if problem:
        return problem
    try:
        body = message.payload  # Celery reads it too; Kombu remembers it
        text = message.body.decode()
    except Exception:  # noqa: BLE001 - no UTF-8, too deep, a number of a million digits, a type Kombu cannot rebuild
        return "the body is not JSON"
    return task_problem(message.headers, body, text)
