"""The real Celery app, with steps that crash for some merchants while they hold the key or the token.

celery -A tests.secrets.crashing_app worker
"""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from integrations.connections.lifecycle.outcomes import Outcome
from integrations.connections.record import Step
from integrations.oracle_commerce import steps
from tasks import step as running
from tasks.celery import app
from tasks.step import run_step

__all__ = ["app"]


def _quoted(secret: str) -> None:
    raise ValueError(f"cannot use {secret}")


def _as_bytes(secret: str) -> None:
    raise ValueError(f"cannot use {secret.encode()!r}")


def _in_an_object(secret: str) -> None:
    raise KeyError({"application_key": secret, "headers": {"Authorization": f"Bearer {secret}"}})


def _in_a_header(secret: str) -> None:
    raise RuntimeError(f"POST /login failed; sent Authorization: Bearer {secret}\r\nContent-Type: x")


def _as_cause(secret: str) -> None:
    try:
        int(secret)
    except ValueError as error:
        raise RuntimeError("while reading") from error


def _in_a_group(secret: str) -> None:
    raise ExceptionGroup("several", [ValueError(secret), TypeError(secret, [secret])])


def _as_a_note(secret: str) -> None:
    error = ValueError("see the note")
    error.add_note(f"it was {secret}")
    raise error


def _in_a_variable(secret: str) -> None:
    held = {"key": [secret] * 3}
    held["inverse"] = [str(1 // (len(held) - 1))]


def _in_its_repr(secret: str) -> None:
    class Holder(Exception):
        def __repr__(self) -> str:
            return f"Holder(token={secret!r})"

        __str__ = __repr__

    raise Holder


def _in_a_thread(secret: str) -> None:
    thread = threading.Thread(target=_quoted, args=(secret,))
    thread.start()
    thread.join()


def _on_its_way_out(secret: str) -> None:
    class Dying:
        def __del__(self) -> None:
            _quoted(secret)

    Dying()


def _as_a_warning(secret: str) -> None:
    warnings.warn(f"do not use {secret}", stacklevel=1)


def _in_a_log_line(secret: str) -> None:
    logger = logging.getLogger("some.library")
    logger.debug("sending %s", {"Authorization": f"Bearer {secret}"}, extra={"data": secret})
    logger.error("cannot send %r, %s", secret, [secret])
    logger.error("too few %s %s", secret)  # noqa: PLE1206 - logging complains, and must not quote it
    logger.error({"token": secret})


def _by_being_killed(secret: str) -> None:
    """Takes its process along, once; only where the pool is made of processes."""
    killed = Path(os.environ["OCC_DATA_DIR"]) / "killed-once"
    if os.environ.get("OCC_POOL") == "prefork" and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    _quoted(secret)


CRASHES: Mapping[str, Callable[[str], None]] = {
    function.__name__.strip("_").replace("_", "-"): function
    for function in (
        *(_quoted, _as_bytes, _in_an_object, _in_a_header, _as_cause, _in_a_group, _as_a_note, _in_a_variable),
        *(_in_its_repr, _in_a_thread, _on_its_way_out, _as_a_warning, _in_a_log_line, _by_being_killed),
    )
}
"""What goes wrong for merchants `crash-key-NAME` and `crash-token-NAME`; for `crash-task-NAME` outside of the step."""


def _crashing(step: Callable[[steps.Attempt], Outcome], kind: str) -> Callable[[steps.Attempt], Outcome]:
    def crash_or_do(attempt: steps.Attempt) -> Outcome:
        prefix = f"crash-{kind}-"
        if attempt.connection.merchant_id.startswith(prefix):
            store = attempt.store
            secret = store._open_key() if kind == "key" else store._token().text
            CRASHES[attempt.connection.merchant_id.removeprefix(prefix)](secret)
        return step(attempt)

    return crash_or_do


def _crashing_task(run: Callable[..., Any]) -> Callable[..., Any]:
    def crash_or_run(services: Any, dispatch: Any, merchant_id: str, *rest: Any, **options: Any) -> Any:
        if merchant_id.startswith("crash-task-"):
            secret = services.keyring.open(services.records.load(merchant_id).sealed_key, merchant_id)
            CRASHES[merchant_id.removeprefix("crash-task-")](secret)
        return run(services, dispatch, merchant_id, *rest, **options)

    return crash_or_run


STEPS: Any = steps.STEPS
STEPS[Step.VALIDATE_KEY] = _crashing(STEPS[Step.VALIDATE_KEY], "key")
STEPS[Step.CHECK_SHIPPING_METHODS] = _crashing(STEPS[Step.CHECK_SHIPPING_METHODS], "token")
running.run_step = _crashing_task(run_step)
