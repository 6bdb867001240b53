"""What a worker shows of its broker to everybody who may ask."""

from types import SimpleNamespace

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
