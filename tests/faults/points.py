"""Crash points: places in the product at which a worker of the fault suite can be made to kill its own process.

The product knows nothing of them: at the start of a worker its functions are wrapped. A point is armed for one merchant
and strikes once (compare and delete in the server); several for the same merchant strike one after the other.
"""

# ruff: noqa: PLC0415 - this module is also imported by the suite itself, which needs no app

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

_STRIKE = """
if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then return 0 end
redis.call('LPOP', KEYS[1])
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[2], time[1] + time[2] / 1000000)
redis.call('RPUSH', 'faults:points', ARGV[2] .. ' ' .. ARGV[1])
return 1
"""
_STRUCK = "faults:struck"


def arm(client: redis.Redis, merchant_id: str, *points: str) -> None:
    """Let the worker that reaches the first of these points for this merchant die there; then the next."""
    client.rpush(_armed(merchant_id), *points)


def not_struck(client: redis.Redis, merchant_id: str) -> list[str]:
    """The points nobody has reached yet."""
    return [str(point) for point in client.lrange(_armed(merchant_id), 0, -1)]


def struck_at(client: redis.Redis, merchant_id: str) -> float | None:
    """When the last point struck, by the server's clock."""
    at = client.hget(_STRUCK, merchant_id)
    return float(at) if at else None


def _armed(merchant_id: str) -> str:
    return f"faults:armed:{merchant_id}"


class _Here(threading.local):
    """What this thread is at."""

    merchant_id = ""
    doing = ""


here = _Here()


def wrap(environment: Mapping[str, str]) -> None:
    """Wrap what was asked for around the product."""
    if "FAULTS_POINTS" in environment:
        _wrap_points()
    if deadly := environment.get("FAULTS_DEADLY"):
        _wrap_deadly(deadly)
    if copies := environment.get("FAULTS_COPIES"):
        _wrap_sending(int(copies))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _reached(point: str, merchant_id: str | None = None) -> None:
    from tasks.wiring import wiring

    merchant_id = merchant_id or here.merchant_id
    if merchant_id and wiring().redis.eval(_STRIKE, 2, _armed(merchant_id), _STRUCK, point, merchant_id):
        _die()


def _around(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: wrapper(original, *args, **kwargs))


def _wrap_points() -> None:
    from integrations.connections.records import Records
    from integrations.oracle_commerce.accept import Acceptance
    from integrations.oracle_commerce.access_token import AccessTokens
    from integrations.oracle_commerce.client import CommerceCloud
    from tasks import dispatch, doors, step, tick
    from tasks.claimed_step import ClaimedStep

    _around(Acceptance, "accept", _accept)
    _around(Acceptance, "revalidate", _ask_for("ask_revalidate"))
    _around(Acceptance, "disconnect", _ask_for("ask_disconnect"))
    _around(doors, "start_run", _begin)
    _around(doors, "start_work", _follow_up)
    _around(step, "go_on", _go_on)
    _around(step, "_after_disconnection", _after_disconnection)
    _around(step, "run_step", _run_step)
    for sender in (doors, step, tick):
        _around(sender, "dispatch", _start)
    _around(ClaimedStep, "attempt", _attempt)
    _around(Records, "take_due", _take_due)
    _around(AccessTokens, "_end", _before_and_after("share"))
    for call in ("login", "shipping_methods", "read_slot", "write_slot"):
        _around(CommerceCloud, call, _before_and_after(call))
    _around(dispatch, "send", _send)
    _around(ClaimedStep, "hand_on", _hand_on)
    _around(dispatch.FreeThreads, "take", _take)


def _accept(accept: Callable[..., Any], acceptance: object, request: object, *args: Any, **kwargs: Any) -> Any:
    merchant_id = request.get("merchant_id") if isinstance(request, dict) else None
    here.merchant_id, here.doing = merchant_id if isinstance(merchant_id, str) else "", "accept"
    _reached("accept:before")
    accepted = accept(acceptance, request, *args, **kwargs)
    _reached("accept:recorded")
    return accepted


def _ask_for(name: str) -> Callable[..., Any]:
    def ask(original: Callable[..., Any], acceptance: object, request: object, *args: Any, **kwargs: Any) -> Any:
        merchant_id = request.get("merchant_id") if isinstance(request, dict) else None
        here.merchant_id, here.doing = merchant_id if isinstance(merchant_id, str) else "", name
        _reached(f"{name}:before")
        asked = original(acceptance, request, *args, **kwargs)
        _reached(f"{name}:recorded")
        return asked

    return ask


def _follow_up(follow_up: Callable[..., Any], *args: Any) -> None:
    follow_up(*args)
    _reached(f"{here.doing}:enqueued")
    here.merchant_id = here.doing = ""


def _go_on(go_on: Callable[..., Any], connection: Any, *args: Any) -> Any:
    """The store that was left is done with; the new run is about to be done so."""
    if connection is not None:
        _reached("go_on:before", connection.merchant_id)
    return go_on(connection, *args)


def _after_disconnection(original: Callable[..., Any], services: object, start: object, recorded: Any) -> Any:
    if recorded.snapshot.sealed_key is None:
        _reached("key_forgotten")
    return original(services, start, recorded)


def _begin(begin: Callable[..., Any], *args: Any) -> Any:
    done = begin(*args)
    _reached("accept:enqueued")
    here.merchant_id = here.doing = ""
    return done


def _run_step(run_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    _, _, here.merchant_id, _, target = args
    here.doing = str(target)
    try:
        _reached(f"{here.doing}:before_claim")
        done = run_step(*args, **kwargs)
        _reached(f"{here.doing}:enqueued")
    finally:
        here.merchant_id = here.doing = ""
    return done


def _attempt(attempt: Callable[..., Any], *args: Any) -> Any:
    _reached(f"{here.doing}:claimed")
    outcome = attempt(*args)
    _reached(f"{here.doing}:before_record")
    return outcome


def _before_and_after(name: str) -> Callable[..., Any]:
    def call(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        _reached(f"{here.doing}:before_{name}")
        answer = original(*args, **kwargs)
        _reached(f"{here.doing}:after_{name}")
        return answer

    return call


def _start(start: Callable[..., Any], connection: Any, *args: Any, **kwargs: Any) -> Any:
    if here.doing in {"accept", "ask_revalidate", "ask_disconnect"}:
        return start(connection, *args, **kwargs)
    if here.doing and connection.merchant_id != here.merchant_id:
        _reached("go_on:recorded", connection.merchant_id)
        start(connection, *args, **kwargs)
        return _reached("go_on:enqueued", connection.merchant_id)
    if here.doing:
        _reached(f"{here.doing}:recorded")
        return start(connection, *args, **kwargs)
    _reached("tick:before_enqueue", connection.merchant_id)
    start(connection, *args, **kwargs)
    return _reached("tick:enqueued", connection.merchant_id)


def _send(send: Callable[..., Any], task: str, arguments: Mapping[str, Any], *args: Any) -> None:
    send(task, arguments, *args)
    if here.doing:
        _reached(f"{here.doing}:sent/{arguments.get('slot', '')}")


def _hand_on(hand_on: Callable[..., Any], *args: Any) -> None:
    """What is claimed for threads of this worker is recorded, and nobody has been told of it."""
    _reached(f"{here.doing}:recorded")
    hand_on(*args)


def _take(take: Callable[..., Any], threads: object, connection: Any, target: Any, **claimed: Any) -> Any:
    taken = take(threads, connection, target, **claimed)
    _reached(f"{here.doing}:sent/{target.slot or ''}")
    return taken


def _take_due(take_due: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    due = take_due(*args, **kwargs)
    for merchant_id, _ in due.work:
        _reached("tick:taken", merchant_id)
    return due


def _wrap_deadly(prefix: str) -> None:
    from integrations.oracle_commerce.accept import Acceptance
    from tasks.claimed_step import ClaimedStep

    def attempt(original: Callable[..., Any], step: Any, snapshot: Any, connection: Any, lease: Any) -> Any:
        if connection.merchant_id.startswith(prefix):
            _die()
        return original(step, snapshot, connection, lease)

    def accept(original: Callable[..., Any], acceptance: object, request: object, *args: Any, **kwargs: Any) -> Any:
        if isinstance(request, dict) and str(request.get("merchant_id")).startswith(f"request-of-{prefix}"):
            _die()
        return original(acceptance, request, *args, **kwargs)

    _around(ClaimedStep, "attempt", attempt)
    _around(Acceptance, "accept", accept)


def _wrap_sending(copies: int) -> None:
    from tasks import dispatch

    def send_more(send: Callable[..., Any], *args: Any) -> None:
        for _ in range(copies - 1):
            later = threading.Timer(random.uniform(0, 2), send, args)  # noqa: S311 - dice
            later.daemon = True
            later.start()

    def send_several(send: Callable[..., Any], *args: Any) -> None:
        send_more(send, *args)
        send(*args)

    def take_and_send(take: Callable[..., Any], threads: object, connection: Any, target: Any, **claimed: Any) -> Any:
        send_more(send, *dispatch.message_for(connection, target), connection.chain)
        return take(threads, connection, target, **claimed)

    send = dispatch.send
    _around(dispatch, "send", send_several)
    _around(dispatch.FreeThreads, "take", take_and_send)
