"""`unacked`: the messages that workers have in hand, as Kombu keeps them.

    unacked          hash          by tag: [message, "", queue]
    unacked_index    sorted set    tags by when they were taken

Here a message is filed by the step that takes it (`take.lua`) and leaves by the step that gives it back
(`give_back.lua`), so whoever dies in between leaves it in one of both places. Kombu takes it, then files it in a second
step: what a worker that is killed in between had taken is gone. The queue is where it was found. Kombu restores a
message to the exchange it names, and drops it if a foreign producer named one that nobody declared.

The message is filed as it came, before anybody knows whether it is JSON.
"""

import time
from typing import TYPE_CHECKING, Any

from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps, loads

from integrations.clock import SET_BY
from integrations.lua import lua_beside

_BEFORE_QUEUE = b', "", '


def filed_end(queue: str) -> str:
    """How an entry of `unacked` ends whose message was found in this queue; `[` and the message come before it."""
    return f"{_BEFORE_QUEUE.decode()}{dumps(queue)}]"


def unfiled(entry: bytes) -> tuple[bytes, str] | None:
    """The message and the queue of an entry; None if an entry is not ours to read."""
    message, separator, queue = entry.removeprefix(b"[").rpartition(_BEFORE_QUEUE)
    try:
        return (message, loads(queue.removesuffix(b"]").decode())) if separator else None
    except ValueError:
        return None


def marked_redelivered(message: bytes) -> bytes:
    """The message with the marks of one that is delivered again; as it is, if it can carry none."""
    try:
        envelope: Any = loads(message.decode())
        envelope["headers"]["redelivered"] = True
        properties = envelope["properties"]
        properties["delivery_info"] = (properties.get("delivery_info") or {}) | {"redelivered": True}
        return dumps(envelope).encode()
    except Exception:  # noqa: BLE001 - whatever a producer has sent; it is set aside when it is taken again
        return message


if TYPE_CHECKING:

    class _StockQoS(stock.QoS):
        """The private part of Kombu's that we rely on."""

        def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any: ...

else:
    _StockQoS = stock.QoS


class QoS(_StockQoS):
    """The messages that a channel has in hand, filed by the time of the server, as nobody can set it.

    Kombu takes the worker's time: one whose clock is an hour ahead would keep what it had in hand for an hour after its
    death, one that is behind would have it sent twice.
    """

    channel: Any  # ours (`transport.py`)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message as in hand. What came from a queue that is waited for has been filed when it was taken."""
        if delivery_tag == self.channel.taken_as:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def forget(self, tag: str) -> None:
        """Take a message out of `unacked` that is no longer anybody's work."""
        self._remove_from_indices(tag).execute()

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002
        """Give a message back; `leftmost` puts it behind all others."""
        with self.channel.conn_or_acquire(client) as connected:
            entry = connected.hget(self.unacked_key, tag)
            if entry is None:  # somebody else has finished it, or given it back
                connected.zrem(self.unacked_index_key, tag)
                return
            found = unfiled(entry)
            if found is None:
                super().restore_by_tag(tag, connected, leftmost)
                return
            message, queue = found
            keys = map(self.channel.prefixed, (self.unacked_key, self.unacked_index_key, queue))
            arguments = tag, marked_redelivered(message), "LPUSH" if leftmost else "RPUSH"
            connected.eval(lua_beside(__file__, "give_back"), 3, *keys, *arguments)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Return what was taken too long ago."""
        with self.channel.conn_or_acquire() as client:
            now = self.channel.clock.now()
            # By the clock of a worker of an earlier release that is ahead: taken just now, at the latest.
            ahead = client.zrangebyscore(self.unacked_index_key, now + SET_BY, "+inf", start=0, num=100)
            if ahead:
                client.zadd(self.unacked_index_key, dict.fromkeys(ahead, now), xx=True)
        super().restore_visible(start, num, interval)

    @property
    def visibility_timeout(self) -> float:  # type: ignore[override]
        """Kombu takes it off the worker's time; here that comes out as taken off the server's."""
        return float(self.channel.visibility_timeout) + (time.time() - float(self.channel.clock.now()))
