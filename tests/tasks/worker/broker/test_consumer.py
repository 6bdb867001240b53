"""What a worker shows of its broker to everybody who may ask."""

from types import SimpleNamespace
from typing import Any

from celery import Celery
from celery.worker.consumer.connection import Connection as ConnectionStep
from kombu import Connection

from tasks.worker.broker.consumer import TolerantConsumer


def test_no_password_is_shown_wherever_a_broker_url_has_it() -> None:
    for url in ("redis+socket://:pa55w0rd-of-ours@/run/occ.sock", "redis://occ:pa55w0rd-of-ours@127.0.0.1:6379/0"):
        parent = SimpleNamespace()
        parent.steps = [ConnectionStep(parent)]
        parent.connection = Connection(url)
        shown = TolerantConsumer.Blueprint().info(parent)
        assert shown["broker"]["transport"] == "redis"
        assert "pa55w0rd" not in str(shown)


def test_a_broker_that_is_away_is_dialled_every_two_seconds_however_long_it_is() -> None:
    waits: list[float] = []

    class Away(Connection):
        def _ensure_connection(self, *_: Any, **options: Any) -> Any:
            at_first, more, most = (options[f"interval_{name}"] for name in ("start", "step", "max"))
            waits.extend(min(at_first + number * more, most) for number in range(20))
            return self

    consumer = TolerantConsumer.__new__(TolerantConsumer)
    consumer.app, consumer.first_connection_attempt = Celery(set_as_current=False), True
    consumer.app.conf.broker_connection_retry_on_startup = True
    consumer.ensure_connected(Away("memory://"))
    assert set(waits) == {2.0}
