"""What a write into a slot came to, and what is to be remembered of it. Pure.

It is told by which URLs have come and which are gone since the read before. What came with a write of ours and
resembles ours is ours as this store spells it; what came and may be anybody's is in doubt. Where a write cost somebody
their URL, the former list is what to write at once.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from integrations.learnt import Spelling
from integrations.oracle_commerce.slot import SETTINGS_OF_OTHERS, Content, Ours, key_of, unsendable, urls_in
from integrations.oracle_commerce.spelling import (
    Template,
    comparable,
    leads_on_to,
    mark_of,
    may_have_become,
    place_of,
    resembles,
)

_MOST_MARKS = 8
_MOST_BEFORE = 64
_SHOWS_WITHIN = 60.0  # seconds after which a store shows what it has accepted, however old its answers are
_MAY_BE_OURS_FOR = 3600.0  # seconds; what a store has kept to itself for longer did not come with our write


class After(Enum):
    """What a write came to."""

    IN_ORDER = auto()
    NOT_SHOWN = auto()  # not there, or not yet, or more than once; but nothing that may be ours has come
    BENT = auto()  # there as something that leads elsewhere
    ALTERED = auto()  # there; but the store made something else of somebody else's
    IN_DOUBT = auto()  # there is more than before, and nothing tells which of it is ours
    MULTIPLIED = auto()  # the store made several of somebody else's
    PUSHED_OUT = auto()  # the store dropped somebody else's for ours


@dataclass(frozen=True, slots=True)
class LookBack:
    """What a write came to.

    `about`: the URLs that this is about. `others_changed`: somebody else wrote, or the store changed what was not ours.
    `put_back`: the list to write at once, where the write cost somebody their URL, or what became of ours has to come
    out again. `spelling`: what is to be remembered.
    """

    after: After
    about: tuple[str, ...]
    others_changed: bool
    spelling: Spelling
    put_back: tuple[str, ...] | None = None


def look_back(read: Content, sent: Collection[str], came_back: Content, ours: Ours, *, is_answer: bool) -> LookBack:
    """What a write of ours came to, by what was read before it, and what the store shows after it.

    `is_answer`: it is the answer to the write. Another read may come out of a cache, and be older than the first.
    """
    before, urls = urls_in(read), urls_in(came_back)
    others_sent, others = ours.foreign(sent), ours.foreign(urls)
    gone, appeared = _difference(others_sent, others)
    former = _with_ours_once(before, ours)
    current = [url for url in urls if ours.is_current(url)]
    bent = tuple(url for url in urls if ours.is_bent(url))
    likely = None if current or bent else _likely(_not_of(gone, appeared), before, ours)
    is_shared = False  # with somebody else's that was made the same of
    if likely is not None:  # as often as there is more than before
        copies = max(1, len(others) - len(others_sent))
        others, appeared = _without(others, likely, copies), _without(appeared, likely, copies)
        is_shared = mark_of(likely) in map(mark_of, others)
    grown = len(others) - len(others_sent)
    is_changed = bool(gone or appeared) or _settings_changed(read, came_back)
    kind, known = _attributed(likely, ours, is_shared=is_shared)

    def found(
        after: After, about: tuple[str, ...] = (), spelling: Spelling = known, put_back: tuple[str, ...] | None = None
    ) -> LookBack:
        # What is there twice by now would be four of each.
        return LookBack(after, about, is_changed, spelling, None if put_back and unsendable(put_back) else put_back)

    is_taken = (
        likely is None and grown == 0 and not current and not bent and (is_answer or any(map(ours.may_be, appeared)))
    )
    if gone and ((grown < 0 and (current or likely or is_answer)) or is_taken):
        # What is new goes first: a store that keeps the last ones keeps the former list, any other keeps both. It is
        # sent only as a rival's: it may be what became of one that is gone, or, if it came instead, of ours.
        new = _unlike(appeared, (ours.callback_url, *gone) if is_taken else gone)
        back = found(After.PUSHED_OUT, gone, put_back=(*new, *former))
    elif grown > 0 and {*map(key_of, appeared)} <= {*map(key_of, others_sent)}:
        # Cut off, two callback URLs of ours may be one: then ours came out as another's, and that one is there twice.
        is_one = grown == 1 and not current and not bent and resembles(appeared[0], ours.callback_url)
        is_ours_among_them = not current and not bent and likely is None
        marks = map(mark_of, appeared) if is_ours_among_them else ()
        unsure = replace(known, unsure=_with_marks(known.unsure, marks))
        # Nor can it be told whether what was there is ours, from before.
        back = found(After.BENT, appeared, unsure, former) if is_one else found(After.MULTIPLIED, appeared, unsure)
    elif (current or bent or likely is not None) and (altered := _altered(others_sent, others)):
        learnt = with_spellings(known, current, ours.callback_url)
        back = found(After.ALTERED, altered, learnt)
    elif current:
        learnt = with_spellings(known, current, ours.callback_url)
        back = found(After.IN_ORDER if len(current) == 1 else After.NOT_SHOWN, spelling=learnt)
    elif bent:
        back = found(After.BENT, bent, put_back=None if ours.shared(bent) else others)
    elif likely is not None:
        rest = others if (gone or appeared) and not is_shared else ours.foreign(before)
        back = found(kind, (likely,), put_back=rest if kind is After.BENT else None)
    elif grown > 0:
        back = found(After.IN_DOUBT, appeared, replace(known, unsure=_with_marks(known.unsure, map(mark_of, appeared))))
    else:
        back = found(After.NOT_SHOWN, spelling=unconfirmed(read, ours))
    return back


def others_changed(read: Content, sent: Collection[str], came_back: Content, ours: Ours) -> bool:
    """Whether somebody else wrote between our read and what came back, or the store changed what was not ours."""
    others_sent, others = ours.foreign(sent), ours.foreign(urls_in(came_back))
    is_other = any(_difference(others_sent, others)) or bool(_altered(others_sent, others))
    return is_other or _settings_changed(read, came_back)


def without_bent(spelling: Spelling, *, is_out: bool) -> Spelling:
    """What is to be remembered after what became of ours was left out of a list.

    What shows the same later is somebody else's: another merchant's may come to the same. What still shows may be how
    the store shows somebody else's: it is in doubt.
    """
    return replace(spelling, bent=(), unsure=spelling.unsure if is_out else _with_marks(spelling.unsure, spelling.bent))


def altered(sent: Collection[str], came_back: Content, ours: Ours) -> tuple[str, ...]:
    """Those URLs of others that a write has made others of."""
    return _altered(ours.foreign(sent), ours.foreign(urls_in(came_back)))


def doubting(spelling: Spelling, urls: Iterable[str]) -> Spelling:
    """What may be left of ours is remembered as that."""
    return replace(spelling, unsure=_with_marks(spelling.unsure, map(mark_of, urls)))


def _altered(sent: Iterable[str], back: Iterable[str]) -> tuple[str, ...]:
    """Those of the others' that have come back as something else, also if that leads to the same place."""
    gone = Counter(map(comparable, sent))
    gone.subtract(map(comparable, back))
    left, new = list(gone.elements()), list((-gone).elements())
    return tuple(url for url in left if any(key_of(url) == key_of(it) or resembles(it, url) for it in new))


def is_back(content: Content, urls: Collection[str], ours: Ours) -> bool:
    """Whether a slot carries the list that was put back, and nothing that became of ours."""
    gone, _ = _difference(urls, urls_in(content))
    return not gone and not any(map(ours.is_bent, urls_in(content)))


def with_spellings(spelling: Spelling, urls: Iterable[str], callback_url: str) -> Spelling:
    """With the spellings of our callback URL among what is remembered."""
    marks = {mark_of(url) for url in urls} - {mark_of(callback_url)}
    return replace(spelling, ours=_with_marks(spelling.ours, marks)) if marks else spelling


def unconfirmed(read: Content, ours: Ours) -> Spelling:
    """What is to be remembered of a write of which nobody knows yet what it did."""
    others = ours.foreign(urls_in(read))
    return replace(ours.remembered, before=tuple(map(mark_of, others)) if len(others) <= _MOST_BEFORE else None)


def pushed_out(content: Content, ours: Ours) -> int:
    """How many URLs of others went with a write that nobody saw the end of.

    One that came for another may have been put there instead of it. Which they were is not remembered, so they cannot
    be put back. Raises as `urls_in`.
    """
    before = ours.remembered.before
    return max(0, len(before) - len(ours.foreign(urls_in(content)))) if before is not None else 0


def recollect(content: Content, ours: Ours, alike: Collection[str] | None = None) -> Ours:
    """Ours, with what has come into the list since a write of which nobody knew what it did. Raises as `urls_in`.

    What came instead of another may be ours, and have pushed that one out: written again, ours might push out one more.
    Where ours comes out in the letters of one that is there, and has taken its place, nothing shows: what may be so is
    in doubt, unless it is among the `alike` that were there beside ours. What came long after the write may be
    anybody's.
    """
    before, urls = ours.remembered.before, urls_in(content)
    if before is None or any(map(ours.is_current, urls)):
        return ours
    others = ours.foreign(urls)
    missing, came = _since(before, others)
    if not came:
        if missing or ours.age <= _SHOWS_WITHIN:
            return ours
        likes = {mark_of(url) for url in others if ours.may_come_out_as(url)} - {*(alike or ())}
        unsure = _with_marks(ours.remembered.unsure, likes)  # if there are none, it came to nothing
        return replace(ours, remembered=replace(ours.remembered, before=None, unsure=unsure))
    more = len(others) - len(before)
    # What another has become may be among them; which other that was is not remembered.
    may_be_ours = [url for url in came if not missing or leads_on_to(url, ours.callback_url)]
    likely = _likely(may_be_ours, (), ours) if more > 0 and ours.age < _MAY_BE_OURS_FOR else None
    marks = Counter((*before, *map(mark_of, came)))  # somebody else's may have been made the same of
    if likely is not None and marks[mark_of(likely)] <= more:
        return replace(ours, remembered=_attributed(likely, ours)[1])
    unsure = _with_marks(ours.remembered.unsure, map(mark_of, came))
    return replace(ours, remembered=replace(ours.remembered, before=None, unsure=unsure))


def missing_since(content: Content, ours: Ours) -> int:
    """How many of the URLs are gone that were there before a write that nobody saw the end of. Raises as `urls_in`."""
    before = ours.remembered.before
    return len(_since(before, ours.foreign(urls_in(content)))[0]) if before is not None else 0


def altered_since(content: Content, ours: Ours, before: Collection[str] | None) -> tuple[str, ...]:
    """What URLs of others seem to have become with a write that nobody saw the end of, if ours is there.

    `before`: marks of what was there. What is another merchant's to the letter has come by itself. Raises as `urls_in`.
    """
    urls = urls_in(content)
    if before is None or not any(map(ours.includes, urls)):
        return ()
    missing, came = _since(before, ours.foreign(urls))
    template = Template(ours.template) if ours.template else None
    by_itself = [url for url in came if template and template.is_anothers(url, ours.callback_url)]
    suspects = [url for url in came if url not in by_itself] or [
        url for url in by_itself if not (template and template.is_as_made(url))
    ]
    return tuple(suspects) if missing else ()


def _since(before: Iterable[str], urls: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The marks that are gone, and the URLs that have come."""
    left, came = Counter(before), []
    for url in urls:
        left[mark_of(url)] -= 1
        if left[mark_of(url)] < 0:
            came.append(url)
    return tuple((+left).elements()), tuple(came)


def _likely(appeared: Collection[str], before: Collection[str], ours: Ours) -> str | None:
    """What certainly became of ours, among what came with a write of it; None if that is not one thing alone.

    What was there before is not: two callback URLs of ours may look alike when they are cut off.
    """
    template = Template(ours.template) if ours.template else None
    likely = {
        mark_of(url): url
        for url in appeared
        if may_have_become(url, ours.callback_url) and not (template and template.is_anothers(url, ours.callback_url))
    }
    if len(likely) != 1 or {*likely} & {*map(mark_of, before)}:
        return None
    return next(iter(likely.values()))


def _not_of(gone: Collection[str], appeared: Collection[str]) -> Collection[str]:
    """What cannot have become of one that is gone; or all, if they are alike: one of them may be ours then."""
    if len(appeared) > 1 and len({*map(mark_of, appeared)}) == 1:
        return appeared
    return [url for url in appeared if not any(resembles(url, it) for it in gone)]


def _attributed(url: str | None, ours: Ours, *, is_shared: bool = False) -> tuple[After, Spelling]:
    """What a URL that ours has become is worth, if there is one, and that it is remembered.

    `is_shared`: somebody else's shows as the same, and nobody can tell which is whose.
    """
    known = replace(ours.remembered, before=None)
    if url is None:
        return After.NOT_SHOWN, known
    if is_shared:
        return After.BENT, replace(known, unsure=_with_marks(known.unsure, [mark_of(url)]))
    if leads_on_to(url, ours.callback_url):
        return After.IN_ORDER, replace(known, ours=_with_marks(known.ours, [mark_of(url)]))
    return After.BENT, replace(known, bent=_with_marks(known.bent, [mark_of(url)]))


def _without(urls: tuple[str, ...], url: str, copies: int) -> tuple[str, ...]:
    """Without the last of these."""
    left = list(urls)[::-1]
    for _ in range(min(copies, left.count(url))):
        left.remove(url)
    return tuple(left[::-1])


def _with_marks(marks: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*marks, *sorted(more))))[-_MOST_MARKS:]


def _difference(sent: Iterable[str], back: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is missing and what has come, however it is spelt."""
    back = tuple(back)
    left, gone = Counter(map(key_of, back)), []
    for url in sent:
        if left[key_of(url)]:
            left[key_of(url)] -= 1
        else:
            gone.append(url)
    appeared: list[str] = []
    for url in reversed(back):
        if left[key_of(url)]:
            left[key_of(url)] -= 1
            appeared.insert(0, url)
    return tuple(gone), tuple(appeared)


def _with_ours_once(urls: Collection[str], ours: Ours) -> tuple[str, ...]:
    return (*ours.foreign(urls), *[url for url in urls if ours.is_current(url)][:1])


def _unlike(urls: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    """Those that no store can have made of one of the others: it is a URL, and resembles none of them."""
    return tuple(url for url in urls if place_of(url) and not any(resembles(url, it) for it in others))


def _settings_changed(read: Content, came_back: Content) -> bool:
    return any(
        name in read and name in came_back and _plain(read[name]) != _plain(came_back[name])
        for name in SETTINGS_OF_OTHERS
    )


def _plain(value: object) -> str:
    """Oracle's samples quote numbers; "5" and 5 are the same setting, and so are null and an empty map."""
    return "" if value in (None, {}, []) else str(value).lower()


def forgetting_bent(content: Content, ours: Ours) -> Ours:
    """Ours, without what had become of it if that is no longer there: one day it may be another merchant's."""
    if ours.age < _SHOWS_WITHIN or any(map(ours.is_bent, urls_in(content))):
        return ours
    return replace(ours, remembered=replace(ours.remembered, bent=()))
