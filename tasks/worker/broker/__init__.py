"""Celery's Redis broker, hardened for kombu and celery 5.7.

    transport.py  what is no message at all goes to the quarantine; one client per channel; a closed channel says so
    unacked.py    what is taken is filed, and what is given back leaves, in one step (`take.lua`, `give_back.lua`)
    watches.py    queues are waited for, and nothing is taken by that
    turns.py      from which queue the next message is taken
    consumer.py   what is a message but no task we can run goes to the quarantine
    envelope.py   what a message and a task look like
    options.py    what a producer may ask for beside the task

`tests/tasks/worker/broker` runs the stock classes too, and says which override a newer kombu or celery makes needless.
"""

from kombu import transport as kombu_transport

_TRANSPORTS = {  # kombu reads redis+socket://... as the alias redis
    "redis": "tasks.worker.broker.transport:Transport",
    "rediss": "tasks.worker.broker.transport:Transport",
    "sentinel": "tasks.worker.broker.transport:SentinelTransport",
}


def install() -> None:
    """Make `redis://`, `rediss://`, `redis+socket://` and `sentinel://` brokers use the hardened transport.

    Twice is harmless.
    """
    for alias, transport in _TRANSPORTS.items():
        kombu_transport.TRANSPORT_ALIASES[alias] = transport
        getattr(kombu_transport, "_transport_cache").pop(alias, None)  # noqa: B009 - the stubs leave it out
