"""Putting our callback URL into one slot of a store and taking it out again, whatever else is in it.

`reading.py` reads a slot and `slot.py` decides what to write; here it is written and looked at again. Where a write
did not come to what it should, `learnt` of the error says what to remember of it: see `connections/drift.py`.
"""

from dataclasses import dataclass, replace
from typing import NoReturn, TypeVar

from integrations.connections.drift import MENDABLE, Drift, Seen
from integrations.errors import (
    IntegrationError,
    PermanentError,
    SlotNotFound,
    SlotNotReadable,
    TransientError,
)
from integrations.learnt import Learnt, Spelling
from integrations.oracle_commerce import drift, look_back
from integrations.oracle_commerce import slot as slots
from integrations.oracle_commerce.look_back import After, LookBack
from integrations.oracle_commerce.reading import SlotStore, Unlisted, confirmed, entry_in, read
from integrations.oracle_commerce.slot import Ours
from integrations.oracle_commerce.spelling import mark_of

Error = TypeVar("Error", bound=IntegrationError)


@dataclass(frozen=True, slots=True)
class Registration:
    """How a look at one slot ended.

    `wrote`: our callback URL was not in order, and is now. `rival`: somebody else wrote at the same moment. `drift`:
    what the look found changed, before it wrote; `lost`: the settings behind SETTINGS_LOST, by name, or whose URLs are
    behind URLS_ALTERED. `seen` and `spelling`: what to remember for the next look.
    """

    wrote: bool
    rival: bool = False
    drift: tuple[Drift, ...] = ()
    seen: Seen | None = None
    lost: tuple[str, ...] = ()
    spelling: Spelling | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """How taking our callback URL out of one slot ended: it is not in it now, unless `left`.

    `wrote`: it was there before. `rival`: somebody else wrote at the same moment. `gone`: the store says that it has no
    such slot. `left`: a cause, and its detail, for which our callback URL may still be in it; `spelling`: what to
    remember of it then.
    """

    wrote: bool
    rival: bool = False
    gone: bool = False
    left: tuple[str, str] | None = None
    spelling: Spelling | None = None


@dataclass(frozen=True, slots=True)
class _At:
    """Where we are at work."""

    store: SlotStore
    slot_id: str
    style: slots.BodyStyle


@dataclass(frozen=True, slots=True)
class _Written:
    """What a slot carries after a write. `is_answer`: as the answer to the write says, and not one more read."""

    content: slots.Content
    is_answer: bool


def register(
    store: SlotStore,
    slot_id: str,
    ours: Ours,
    style: slots.BodyStyle,
    *,
    once_registered: bool = False,
    seen: Seen | None = None,
    repair: bool = True,
    may_write: bool = True,
    unanswered: str = "",
    blindly: bool = False,
    at_least: int = 0,
) -> Registration:
    """Read, merge, write, and look at what came back. Run twice, it writes once; where all is in order, it only reads.

    Drift is looked for where we were `once_registered`; `seen` is what the last look said to remember. Without `repair`
    nothing is written, and `drift` says whether our callback URL is there (see `drift.MENDABLE`). Without `may_write`
    nothing is written either: it has been in vain often enough for now; `unanswered` is why, if the store said nothing
    of the last write. `blindly`: a slot that can be read in no way may be written. `at_least`: how many URLs of others
    are in it, as far as is known; what shows fewer than that, or than it did before, is written only if a second answer
    agrees.

    Raises PermanentError (SlotNotFound if a slot that was ours is gone; slot_not_offered, slot_refused,
    slot_unreadable, slot_occupied, and what `slot.plan` refuses with) and TransientError.
    """
    at, content = _At(store, slot_id, style), read(store, slot_id)
    if isinstance(content, Unlisted):
        if once_registered or not repair:
            return _unread(content, seen, ours, never_read=once_registered and seen is None)
        return _register_unread(at, content, ours, blindly=blindly)
    is_thin = drift.is_thin(content, ours, seen, at_least)
    ours = _recollected(content, ours, seen)
    found, lost = (
        drift.drift_and_lost(content, ours, seen) if once_registered or not repair or ours.is_altered else ((), ())
    )
    if not repair:
        in_order = not MENDABLE & {*found}
        found = _explained(store, slot_id, ours, found)
        seen = drift.remember(content, ours, seen) if in_order else seen
        return Registration(wrote=False, drift=found, seen=seen, lost=lost, spelling=_kept(ours.remembered))
    urls = slots.urls_in(content)
    changed = drift.changed_urls(urls, ours, seen) if once_registered else ()
    plan = slots.plan(
        content, ours, style, changed=changed, alike=drift.alike_in(seen), once_registered=once_registered
    )
    gone = look_back.pushed_out(content, ours)
    if is_thin and (gone or plan.write is not None):
        content = confirmed(at.store, at.slot_id, content, is_thin=True)
    if plan.refused is not None:
        _end_without(at, content, ours, plan, may_write=may_write)
    _end_if_pushed_out(ours, gone)
    # A spelling that is put right and comes back is the store's own.
    current = tuple(url for url in urls if ours.is_current(url))
    ours = replace(ours, remembered=look_back.with_spellings(ours.remembered, current, ours.callback_url))
    if plan.write is None:
        seen, spelling = drift.remember(content, ours, seen), _settled(ours)
        return Registration(wrote=False, drift=found, seen=seen, lost=lost, spelling=spelling)
    if not may_write:
        raise _in_vain(ours, unanswered, several=len(current) > 1)
    shown, back = _write(at, content, plan.write, ours)
    ours = replace(ours, remembered=_end_unless_in_order(at, ours, back, shown))
    if back.after is After.ALTERED:
        found, lost = (Drift.URLS_ALTERED, *found), (slots.hosts(back.about),)
    return Registration(
        wrote=True,
        rival=back.others_changed,
        drift=_explained(store, slot_id, ours, found),  # afterwards: nothing comes between read and write
        seen=drift.remember(shown, ours, seen),
        lost=lost,
        spelling=_settled(ours),
    )


def unregister(
    store: SlotStore,
    slot_id: str,
    ours: Ours,
    style: slots.BodyStyle,
    *,
    once_registered: bool = False,
    seen: Seen | None = None,
    may_write: bool = True,
    unanswered: str = "",
    settles_in: float = 0.0,
    at_least: int = 0,
) -> Removal:
    """Take our callback URL out of a slot, in every spelling, and what it was before, and nothing else.

    Where neither is, nothing is written. Before it is called removed, the slot is read once more after a write, or if
    it was `once_registered` and is not to be seen. `settles_in`: seconds for which a store may not show yet what went
    in moments ago. The others as in `register`.

    Raises PermanentError (slot_refused, slot_unreadable) and TransientError, `removal_not_kept` among them.
    """
    at, content = _At(store, slot_id, style), read(store, slot_id)
    if isinstance(content, Unlisted):
        left = None if content.is_gone else ("slot_unreadable", content.reason.detail)
        return Removal(wrote=False, gone=content.is_gone, left=left)
    urls = slots.urls_in(content)
    is_unseen = once_registered and not any(map(ours.includes, urls))
    content = confirmed(
        at.store, at.slot_id, content, is_thin=is_unseen or drift.is_thin(content, ours, seen, at_least)
    )
    ours = look_back.recollect(content, ours, drift.alike_in(seen))
    urls = slots.urls_in(content)
    changed = drift.changed_urls(urls, ours, seen) if once_registered and not any(map(ours.is_current, urls)) else ()
    plan = slots.plan_removal(content, ours, style, changed=changed, alike=drift.alike_in(seen))
    if plan.refused is not None:
        known = look_back.doubting(ours.remembered, ours.left_of(urls, drift.alike_in(seen)))
        return Removal(wrote=False, left=plan.refused, spelling=_kept(known))
    rival, shown = ours.is_altered, urls
    if plan.write is None:
        if settles_in:
            raise _learnt(TransientError("not_shown_yet", retry_after=settles_in), ours.remembered)
    else:
        if not may_write:
            raise _learnt(TransientError(unanswered or "removal_not_kept"), ours.remembered)
        written = _sent(at, content, plan.write, ours)
        rival, shown = (
            look_back.others_changed(content, plan.write, written.content, ours),
            slots.urls_in(written.content),
        )
        altered = look_back.altered(plan.write, written.content, ours)
        known = _stopped(ours.remembered, ours, slots.ALTERED, slots.hosts(altered)) if altered else ours.remembered
        if written.is_answer and not any(map(ours.includes, shown)):
            shown = slots.urls_in(_read_again(at, replace(ours, remembered=known)))
        if any(map(ours.includes, shown)):
            raise _learnt(TransientError("removal_not_kept"), known, writes=1)
    doubt = ours.in_doubt(shown)
    left = ("url_in_doubt", slots.named(doubt)) if doubt else None
    return Removal(
        wrote=plan.write is not None, rival=rival, left=left, spelling=_kept(ours.remembered) if left else None
    )


# --- Looking again ---------------------------------------------------------------------------------------------------


def _unread(unlisted: Unlisted, seen: Seen | None, ours: Ours, *, never_read: bool) -> Registration:
    """A slot that was ours and can be read in no way. Somebody else may be in it by now: it is not written blindly.

    `never_read`: one write registered it. That it cannot be read is no news then.
    """
    if isinstance(unlisted.reason, SlotNotReadable) or (never_read and not unlisted.has_list):
        # As far as anybody can tell, it still is.
        return Registration(wrote=False, seen=seen, spelling=_kept(ours.remembered))
    raise unlisted.reason


def _read_again(at: _At, ours: Ours) -> slots.Content:
    """The slot after a write. Raises with what was learnt: that there was one.

    Twice if need be: what the write may have cost somebody can be put back only as long as we have it.
    """
    failed: IntegrationError = TransientError("unreadable_answer")
    for _ in range(2):
        try:
            content = read(at.store, at.slot_id)
            if not isinstance(content, Unlisted):
                return confirmed(at.store, at.slot_id, content)
            failed = TransientError("unreadable_answer", f"written, and then {content.reason.detail}")
        except IntegrationError as error:
            failed = error
    raise _learnt(failed, ours.remembered, writes=1) from None


# --- Writing ---------------------------------------------------------------------------------------------------------


def _write(at: _At, content: dict[str, object], urls: tuple[str, ...], ours: Ours) -> tuple[slots.Content, LookBack]:
    """Write, and look at what it came to: the slot as it is then, and the verdict."""
    content = confirmed(at.store, at.slot_id, content)
    written = _sent(at, content, urls, ours)
    back = look_back.look_back(content, urls, written.content, ours, is_answer=written.is_answer)
    if back.after is After.ALTERED and written.is_answer:  # or is it only how answers to writes spell them?
        unconfirmed = replace(ours, remembered=look_back.unconfirmed(content, ours))  # a later read will tell
        again = _Written(_read_again(at, unconfirmed), is_answer=False)
        second = look_back.look_back(content, urls, again.content, ours, is_answer=False)
        if second.after is After.IN_ORDER:
            written, back = again, second
    return {**content, **written.content}, back


def _sent(at: _At, content: slots.Content, urls: tuple[str, ...], ours: Ours) -> _Written:
    """Write, and what the slot then carries: as the answer shows, or else one more read."""
    sent = replace(ours, remembered=look_back.unconfirmed(content, ours))
    try:
        answer = at.store.write_slot(at.slot_id, slots.body_of(urls, at.style))
    except TransientError as error:  # it may have been carried out all the same: the next read will show
        raise _learnt(error, sent.remembered, unseen=int(error.code in UNSEEN)) from None
    if slots.says_urls(answer):
        return _Written(answer, is_answer=True)
    return _Written(_read_again(at, sent), is_answer=False)


UNSEEN = frozenset({"store_timeout", "store_unreachable", "unreadable_answer", "answer_too_large"})
"""After a write: the store does not say that it was not carried out. So it counts as one."""
_CAUSES = {
    After.ALTERED: slots.ALTERED,
    After.BENT: "callback_url_respelt",
    After.IN_DOUBT: "url_in_doubt",
    After.MULTIPLIED: "urls_multiplied",
    After.PUSHED_OUT: "url_pushed_out",
}


def _end_unless_in_order(at: _At, ours: Ours, back: LookBack, shown: slots.Content) -> Spelling:
    """What is to be remembered of a write after which our callback URL is in order; raise what else it came to."""
    if back.after is After.IN_ORDER:
        return back.spelling
    if back.after is After.NOT_SHOWN:
        raise _learnt(TransientError("registration_not_kept"), back.spelling, writes=1)
    code = _CAUSES[back.after]
    theirs = back.after in {After.ALTERED, After.MULTIPLIED, After.PUSHED_OUT}
    detail = slots.hosts(back.about) if theirs else slots.named(back.about)
    spelling, writes = back.spelling, 1
    if back.put_back is not None:
        is_back, again = _put_back(at, replace(ours, remembered=spelling), back.put_back, shown)
        spelling, writes = look_back.without_bent(spelling, is_out=is_back), 1 + again
        detail += "" if is_back else "; putting the former list back did not help"
    if back.after is not After.IN_DOUBT:  # which ends when it is taken out
        spelling = _stopped(spelling, ours, code, detail)
    if (
        back.after is After.ALTERED
        and sum(map(replace(ours, remembered=spelling).is_current, slots.urls_in(shown))) == 1
    ):
        return spelling
    raise _learnt(PermanentError(code, detail), spelling, writes=writes)


def _end_if_pushed_out(ours: Ours, gone: int) -> None:
    """Raise that a write which nobody saw the end of cost somebody their URL."""
    if gone:
        detail = f"{gone} of those that were there before"
        spelling = _stopped(ours.remembered, ours, "url_pushed_out", detail)
        raise _learnt(PermanentError("url_pushed_out", detail), spelling)


def _put_back(at: _At, ours: Ours, urls: tuple[str, ...], shown: slots.Content) -> tuple[bool, int]:
    """Write a list at once over what the slot has just `shown`: whether it is there then, and how often it was written.

    A write that fails for a moment may have been carried out all the same, and somebody else may have written since. So
    it is made once more only if the slot still shows the same; or that list itself, for such an answer may be older
    than the write that cost somebody their URL.
    """
    writes = 0
    for is_again in (False, True):
        try:
            if is_again:
                now = read(at.store, at.slot_id)
                if isinstance(now, Unlisted):
                    return False, writes
                if not (slots.agree(now, shown) or slots.agree(now, {"urls": [*urls]})):
                    return look_back.is_back(now, urls, ours), writes
            writes += 1
            answer = at.store.write_slot(at.slot_id, slots.body_of(urls, at.style))
            content = answer if slots.says_urls(answer) else read(at.store, at.slot_id)
            return not isinstance(content, Unlisted) and look_back.is_back(content, urls, ours), writes
        except TransientError:
            continue
        except PermanentError:
            break
    return False, writes


def _end_without(at: _At, content: slots.Content, ours: Ours, plan: slots.Plan, *, may_write: bool) -> NoReturn:
    """Our callback URL cannot be in order here. What became of it is taken out, if the plan says so."""
    assert plan.refused is not None  # noqa: S101 - that is why we are here
    code, detail = plan.refused
    spelling, writes = ours.remembered, 0
    if plan.write is not None and may_write:
        is_out, writes = _put_back(at, ours, plan.write, content)
        spelling = look_back.without_bent(spelling, is_out=is_out)
    if code not in {"url_in_doubt", "slot_occupied"}:
        spelling = _stopped(spelling, ours, code, detail)
    raise _learnt(PermanentError(code, detail), spelling, writes=writes)


def _register_unread(at: _At, unlisted: Unlisted, ours: Ours, *, blindly: bool) -> Registration:
    """A slot that can be read in no way: one write decides whether the store offers it, if that is allowed."""
    if unlisted.can_be_read or not isinstance(unlisted.reason, SlotNotFound):
        raise unlisted.reason
    if not blindly:
        raise PermanentError("slot_unreadable", unlisted.reason.detail)
    try:
        answer = at.store.write_slot(at.slot_id, slots.body_of([ours.callback_url], at.style))
    except PermanentError as refused:
        if refused.code == "slot_refused":  # 400 or 405 for an id the store does not know
            raise PermanentError("slot_not_offered", refused.detail) from None
        raise
    if slots.says_urls(answer):
        back = look_back.look_back({}, [ours.callback_url], answer, ours, is_answer=True)
        if back.after is not After.IN_ORDER:
            raise _learnt(TransientError("registration_not_kept"), back.spelling, writes=1)
        return Registration(wrote=True, spelling=_settled(replace(ours, remembered=back.spelling)))
    return Registration(wrote=True)


# --- What is remembered ----------------------------------------------------------------------------------------------


def _learnt(error: Error, spelling: Spelling, *, writes: int = 0, unseen: int = 0) -> Error:
    error.learnt = Learnt(writes, unseen, spelling)
    return error


def _in_vain(ours: Ours, unanswered: str, *, several: bool) -> IntegrationError:
    """It was written often enough, and is still not there, or not once."""
    if not several:
        return _learnt(TransientError(unanswered or "registration_not_kept"), ours.remembered)
    detail = slots.named([ours.callback_url])
    return _learnt(
        PermanentError("urls_multiplied", detail), _stopped(ours.remembered, ours, "urls_multiplied", detail)
    )


def _recollected(content: slots.Content, ours: Ours, seen: Seen | None) -> Ours:
    """Ours, with what can be seen by now of a write that nobody saw the end of."""
    before, ours = ours.remembered.before, look_back.forgetting_bent(content, ours)
    ours = look_back.recollect(content, ours, drift.alike_in(seen))
    if altered := look_back.altered_since(content, ours, before):
        return replace(ours, remembered=_stopped(ours.remembered, ours, slots.ALTERED, slots.hosts(altered)))
    return ours


def _stopped(spelling: Spelling, ours: Ours, code: str, detail: str) -> Spelling:
    return replace(spelling, callback_url=mark_of(ours.callback_url), stopped=code, detail=detail)


def _settled(ours: Ours) -> Spelling | None:
    """All is in order: what was in doubt of a write is over, and what stopped us, unless it concerns others."""
    known = replace(ours.remembered, before=None)
    return _kept(known if ours.is_altered else replace(known, callback_url="", stopped="", detail="", at=0.0))


def _kept(spelling: Spelling) -> Spelling | None:
    return None if spelling == Spelling() else spelling


def _explained(store: SlotStore, slot_id: str, ours: Ours, found: tuple[Drift, ...]) -> tuple[Drift, ...]:
    """The drift with the preview twin looked at, where that may be the cause: at most one call, which may fail."""
    preview = drift.preview_of(slot_id)
    if preview is None or Drift.URL_MISSING not in found:
        return found
    try:
        return drift.with_preview(found, entry_in(store.list_slots(), preview) or {}, ours)
    except IntegrationError:  # a name for the cause is not worth the outcome
        return found
