"""Claims: one worker at a time does a piece of work, and what takes its workers down is found out. Pure."""

from dataclasses import replace

from integrations.connections.change import Change, Moment, Stop, any_work, claimed_work, with_work
from integrations.connections.lifecycle.outcomes import give_up
from integrations.connections.record import Cause, Claim, Connection, Step, Target
from integrations.connections.schedule import days_left_to_report

DEATHS_ALONE = 3
_LONGEST_STAND_BACK = 60.0  # seconds


def claim(
    connection: Connection, run: int, target: Target, owner: str, at: Moment, *, alone: bool = False
) -> Change | Stop:
    """Take a piece of work for one lease, counting the attempt before anything is done about it.

    A lease that ended without an outcome is counted as a death of its worker. Work that was there at several deaths is
    a suspect and runs in the quarantine queue only (`alone`); what dies there too is given up.
    """
    if run != connection.run:
        return Stop("superseded")
    work = connection.work_on(target)
    if work is None:
        return Stop("already_done")
    if not work.is_ready(at.now):
        return Stop("held_by_another" if work.is_held(at.now) else "not_yet")
    work = work.with_death_counted()
    tried_enough = target.step is not Step.DISCONNECT and work.attempts >= at.pace.retry_attempts
    if work.deaths_alone >= DEATHS_ALONE or tried_enough:
        return give_up(with_work(connection, target, work), target, Cause("worker_lost"), at)
    if work.is_suspect and not alone:
        return Stop("quarantined")
    claimed = replace(
        work,
        claim=Claim(owner, until=at.now + at.pace.lease, since=at.now, alone=alone),
        due_at=at.now + at.pace.lease,
        attempts=work.attempts + 1,
    )
    return Change(_with_expiry_warning(with_work(connection, target, claimed), at))


def stand_back(connection: Connection, target: Target, share: float, at: Moment) -> Change:
    """No place is free for work that has made way for others before: it is left alone for a while. No attempt is spent.

    `share`: from 0 to 1, drawn at random, so that those who wait do not come back together. Each time the wait may be
    twice as long, so that many who wait cost little.
    """
    work = any_work(connection, target)
    if work is None:
        raise ValueError("only work that is there can wait")
    again = at.now + share * min(_LONGEST_STAND_BACK, 2.0 ** min(work.stood_back, 30))
    waiting = replace(work.with_death_counted(), not_before=again, due_at=again, stood_back=work.stood_back + 1)
    return Change(with_work(connection, target, waiting))


def claim_ahead(connection: Connection, target: Target, owner: str, at: Moment) -> Connection | None:
    """Take work for a free thread, together with the change that makes it ready; None if it is not to be taken so.

    Work that was tried before, had to make way, or took a worker down is left to whoever begins it.
    """
    work = connection.work_on(target)
    if work is None or (work.attempts, work.deaths, work.deaths_alone, work.stood_back) != (0, 0, 0, 0):
        return None
    claimed = claim(connection, connection.run, target, owner, at)
    if isinstance(claimed, Stop) or not is_mine(claimed.connection, connection.run, target, owner):
        return None
    return claimed.connection


def give_back(
    connection: Connection | None,
    now: float,  # noqa: ARG001 - as all that decides about a record has it
    *,
    run: int,
    target: Target,
    owner: str,
) -> Change | Stop:
    """Nobody begins what was claimed ahead: it is as it was before, for whoever gets a message."""
    if connection is None or not is_mine(connection, run, target, owner):
        return Stop("superseded")
    work = claimed_work(connection, target)
    return Change(with_work(connection, target, replace(work, claim=None, attempts=work.attempts - 1)))


def is_mine(connection: Connection, run: int, target: Target, owner: str) -> bool:
    """Whether the claim is still ours, so that our outcome counts."""
    work = any_work(connection, target)
    return run == connection.run and work is not None and work.claim is not None and work.claim.owner == owner


def _with_expiry_warning(connection: Connection, at: Moment) -> Connection:
    """Each warning before the end of the key is given once: the record remembers the last."""
    credential = connection.credential
    if connection.disconnection is not None:
        return connection  # nobody needs a new key for a store that is being disconnected
    days = days_left_to_report(credential.expires_at, at.now)
    if days is None or (credential.expiry_reported is not None and days >= credential.expiry_reported):
        return connection
    return replace(connection, credential=replace(credential, expiry_reported=days))
