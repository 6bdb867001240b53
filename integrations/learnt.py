"""What is remembered of our own writes into a slot, also of those that failed. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spelling:
    """What is remembered of our own writes into a slot whose store does not show our callback URL as it was sent.

    All but the last four are marks of URLs, short SHA-256. `ours`: our callback URL as this store spells it. `bent`:
    what became of it and leads elsewhere. `unsure`: came into the list with a write of ours, and nothing else tells
    whose it is. `before`: the list before a write of which nobody knows what it did; None if there is no such write.

    `stopped`: the cause for which nothing more is written, with its `detail`, as long as `callback_url` is wanted
    there. `at`: when we last wrote without our URL being in order, epoch seconds.
    """

    ours: tuple[str, ...] = ()
    bent: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    before: tuple[str, ...] | None = None
    callback_url: str = ""
    stopped: str = ""
    detail: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Learnt:
    """What an attempt that failed has learnt of a slot.

    `writes`: how often it wrote without our URL being in order. `unseen`: how often it wrote, and the store said
    nothing of it; that is no repair that anybody could have undone.
    """

    writes: int = 0
    unseen: int = 0
    spelling: Spelling | None = None
    store_id: str = ""
