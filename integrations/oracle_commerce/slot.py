"""What a slot carries, and how our callback URL gets in and out of it without removing anybody else's. Pure.

A slot holds a list of URLs, and an update replaces the list: a careless one cuts off the merchant's order management.
An update may name only some properties, and the others stay (Oracle, "updateWebHook"; list rule in "Get started with
the API"). So we send the merged list and nothing else: headers, basic authentication, resend settings and the secret,
which is shared with others, are never touched.

`plan` and `plan_removal` say what to write, that nothing is to be written, or why it must not be; `look_back.py` says
what a write came to. Which URLs are ours is told by where they lead (`spelling.py`) and by what is remembered of our
own writes. In doubt a URL is neither taken out nor joined by another one of ours.

The API knows no condition on a write. A URL that a rival adds between our read and our write is lost, and no later
answer can show it; we keep that moment as short as one round trip. What can be seen afterwards is looked at.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard
from urllib.parse import quote

from integrations.errors import PermanentError, TransientError
from integrations.learnt import Spelling
from integrations.oracle_commerce.spelling import (
    Template,
    comes_out_alike,
    comparable,
    is_cut_of,
    is_plain,
    mark_of,
    place_of,
    resembles,
    same,
    shown,
)

BodyStyle = Literal["urls", "url"]
Content = Mapping[str, object]

ALTERED = "urls_altered"
"""The cause where a store changes the URLs of others when we write."""

_SEPARATOR = re.compile(r"\s*,\s*(?=https?://)", re.IGNORECASE)  # as the admin's form shows them; URLs may hold commas
_MOST_SHOWN = 3

SETTINGS_OF_OTHERS = (
    "headers",
    "basicAuthentication",
    "maxNumberOfResendAttempts",
    "resendDelaySeconds",
    "applyResendDelayToFirstAttempt",
    "includeChangesOnly",
    "subEntityTruncationSize",
    "urlApplicationSuppressionList",
)
"""Properties of a slot that all its receivers share: looked at, never written."""
_SLOT_FIELDS = frozenset(
    {"id", "name", "serverType", "displayName", "urls", "url", "secretKey", "secretKeySHA512", *SETTINGS_OF_OTHERS}
)


def callback_url_for(template: str, merchant_id: str, slot: str) -> str:
    """The callback URL of one merchant's slot."""
    return template.replace("{merchant_id}", quote(merchant_id, safe="")).replace("{slot}", quote(slot, safe=""))


# --- What a slot carries --------------------------------------------------------------------------------------------


def names(content: Content, slot_id: str) -> bool:
    """Whether an object says that it is this slot; stores do not tell ids apart by case."""
    named = content.get("id")
    return isinstance(named, str | int) and str(named).strip().casefold() == slot_id.strip().casefold()


def urls_in(content: Content) -> tuple[str, ...]:
    """The URLs a slot carries, as the store spells them.

    Raises PermanentError when that cannot be told, TransientError when this is no slot: then nothing may be written.
    """
    if content and not _SLOT_FIELDS & content.keys():
        raise TransientError("unreadable_answer", "not a slot")
    held = _listed(content.get("urls"))
    held = [*held, *(url for url in _listed(content.get("url")) if url not in held)]  # with both, either may count
    if not all(url is None or isinstance(url, str) for url in held):
        raise PermanentError("slot_unreadable")
    return tuple(url for url in held if isinstance(url, str) and url.strip())


def _listed(held: object) -> list[object]:
    if held is None:
        return []
    if isinstance(held, str):
        return list(_SEPARATOR.split(held))
    return held if isinstance(held, list) else [held]


def hides_any(content: Content) -> bool:
    """Whether something in the list is not shown: a null in it may be a URL that is not for us."""
    return any(None in held for held in (content.get("urls"), content.get("url")) if isinstance(held, list))


def has_settings(content: Content) -> bool:
    """Whether somebody has set something of the slot: then it is unlikely to hold no URL."""
    held = (content.get(name) for name in ("headers", "basicAuthentication", "urlApplicationSuppressionList"))
    return any(isinstance(value, Mapping | list) and len(value) > 0 for value in held)


def says_urls(content: Content | None) -> TypeGuard[Content]:
    """Whether an answer to a write tells, so that it can be understood, what the slot now carries."""
    if content is None or not {"urls", "url"} & content.keys():
        return False
    try:
        urls_in(content)
    except PermanentError:
        return False
    return True


def agree(content: Content, entry: Content) -> bool:
    """Whether two answers about one slot show the same URLs, in whatever order and spelling."""
    return Counter(map(key_of, urls_in(content))) == Counter(map(key_of, urls_in(entry)))


def key_of(url: str) -> object:
    """What is equal for all spellings of a URL."""
    return place_of(url) or comparable(url)


# --- Which of it is ours --------------------------------------------------------------------------------------------


_NOTHING = Spelling()


@dataclass(frozen=True, slots=True)
class Ours:
    """What is ours in a slot.

    `former`: what the callback URL was before. `template`: the setting it is made from, so that another merchant's is
    known as such; "" if it is not known. `remembered`: what our own writes came to. `age`: seconds since the last of
    them of which that is remembered.
    """

    callback_url: str
    former: tuple[str, ...] = ()
    template: str = ""
    remembered: Spelling = _NOTHING
    age: float = 0.0

    def is_current(self, url: str) -> bool:
        """Whether this is our callback URL, in whatever spelling."""
        return same(url, self.callback_url) or mark_of(url) in self.remembered.ours

    def is_former(self, url: str) -> bool:
        """Whether this is what our callback URL was before."""
        return not self.is_current(url) and any(same(url, former) for former in self.former)

    def is_bent(self, url: str) -> bool:
        """Whether this is what a store made of our callback URL, and leads elsewhere."""
        return mark_of(url) in self.remembered.bent

    def includes(self, url: str) -> bool:
        """Whether this is certainly ours."""
        return self.is_current(url) or self.is_former(url) or self.is_bent(url)

    def in_doubt(self, urls: Iterable[str]) -> tuple[str, ...]:
        """Those that may be ours: they came with a write of ours, and nothing else tells whose they are."""
        return tuple(url for url in urls if mark_of(url) in self.remembered.unsure and not self.includes(url))

    def doubted_before(self, urls: Iterable[str]) -> tuple[str, ...]:
        """Those that may be what was in doubt: a write of another merchant may have changed it."""
        return tuple(filter(self.may_be, urls)) if self.remembered.unsure else ()

    def shared(self, urls: Iterable[str]) -> tuple[str, ...]:
        """What became of ours and is there more than once: cut off, somebody else's is the same, or another of ours."""
        bent = [url for url in urls if self.is_bent(url)]
        return tuple(bent) if len(bent) > len({*map(mark_of, bent)}) else ()

    def may_be(self, url: str) -> bool:
        """Whether a URL may be what became of ours, in whatever case. That is no evidence by itself."""
        return not self.includes(url) and resembles(url, self.callback_url)

    def may_come_out_as(self, url: str) -> bool:
        """Whether a store may make of ours what it has made of this one.

        What is as another merchant's is made, to the letter, no store has made anything of; unless ours begins so, and
        is cut off within the merchant's id.
        """
        if self.includes(url):
            return False
        is_as_made = bool(self.template) and Template(self.template).is_as_made(url)
        return is_cut_of(url, self.callback_url) if is_as_made else comes_out_alike(url, self.callback_url)

    def left_of(self, urls: Iterable[str], alike: Collection[str] | None = None) -> tuple[str, ...]:
        """Those that may be left of our callback URL: cut off; or anything like it where it is known what was there.

        `alike`: marks of those that were there beside ours when all was in order. None if that is not remembered.
        Another merchant's is not; but cut off, ours may look like that of one whose id begins like this one. Where that
        is known, it is told from theirs by what the store has made of it besides.
        """
        template = Template(self.template) if self.template else None
        is_like = is_cut_of if alike is None and self.remembered == _NOTHING else resembles

        def is_anothers(url: str) -> bool:
            if template is None or (alike is None and is_cut_of(url, self.callback_url)):
                return False
            return template.is_anothers(url, self.callback_url) and not template.may_be_cut(url, self.callback_url)

        urls = tuple(urls)
        counts = Counter(map(mark_of, urls))
        return tuple(
            url
            for url in urls
            if not self.includes(url)
            and is_like(url, self.callback_url)
            and (mark_of(url) not in (alike or ()) or counts[mark_of(url)] > 1)  # one of them may be ours by now
            and not is_anothers(url)
        )

    def foreign(self, urls: Iterable[str]) -> tuple[str, ...]:
        """Those that are not ours, in the store's order and spelling."""
        return tuple(url for url in urls if not self.includes(url))

    @property
    def is_altered(self) -> bool:
        """Whether a write of ours changed what is somebody else's: then none is made until people decide."""
        return self.is_stopped and self.remembered.stopped == ALTERED

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is written until people decide, or another callback URL is wanted."""
        known = self.remembered
        return bool(known.stopped) and known.callback_url == mark_of(self.callback_url)


# --- What to do about it --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about a slot.

    `write`: the list to send; None if nothing is to be written. `refused`: why our callback URL cannot be in order: a
    cause and its detail. With both, what became of ours is taken out, and then that is the end of it.
    """

    write: tuple[str, ...] | None = None
    refused: tuple[str, str] | None = None


def plan(
    content: Content,
    ours: Ours,
    style: BodyStyle,
    *,
    changed: Collection[str] = (),
    alike: Collection[str] | None = None,
    once_registered: bool = False,
) -> Plan:
    """How our callback URL gets into a slot, once. Where it was `once_registered`, another may be what is left of it.

    `changed`: URLs in it that somebody made of ours (see `drift.changed_urls`); ours takes their place. `alike` as in
    `Ours.left_of`. Raises what `urls_in` raises.
    """
    urls = urls_in(content)
    others = tuple(url for url in ours.foreign(urls) if url not in changed)
    current = [url for url in urls if ours.is_current(url) and url not in changed]
    if style == "url" and others:
        return Plan(refused=("slot_occupied", ""))
    if len(current) == 1 and len(others) + 1 == len(urls):
        return Plan()
    refused: tuple[str, str] | None
    if doubt := ours.in_doubt(urls) or ours.doubted_before(urls):
        refused = "url_in_doubt", named(doubt)
    elif repeated := ours.shared(urls):
        refused = "url_in_doubt", named(repeated)
    elif ours.is_altered:
        refused = ours.remembered.stopped, ours.remembered.detail
    elif not current and (bent := [url for url in urls if ours.is_bent(url)]):
        return Plan(
            write=None if _unwritable(content, others) else others, refused=("callback_url_respelt", named(bent))
        )
    elif not current and not changed and once_registered and (like := ours.left_of(others, alike)):
        refused = "url_in_doubt", named(like)
    elif ours.is_stopped:
        refused = ours.remembered.stopped, ours.remembered.detail
    else:
        refused = _unwritable(content, others)
    return Plan(refused=refused) if refused else Plan(write=(*others, ours.callback_url))


def plan_removal(
    content: Content,
    ours: Ours,
    style: BodyStyle,
    *,
    changed: Collection[str] = (),
    alike: Collection[str] | None = None,
) -> Plan:
    """How everything that is certainly ours gets out of a slot, and what somebody made of it.

    Where nothing of ours is seen, it may still be among what is no URL.

    A slot has no switch: without URLs it sends nothing. `changed` and `alike` as in `plan`. Raises what `urls_in`
    raises.
    """
    urls = urls_in(content)
    others = tuple(url for url in ours.foreign(urls) if url not in changed)
    if len(others) == len(urls):
        if doubt := (*ours.in_doubt(urls), *ours.left_of(urls, alike), *ours.doubted_before(urls)):
            return Plan(refused=("url_in_doubt", named([*dict.fromkeys(doubt)])))
        return Plan(refused=_unwritable(content, {*urls}))
    if repeated := ours.shared(urls):
        return Plan(refused=("url_in_doubt", named(repeated)))
    if style == "url" and others:  # which of the two a write would take away cannot be told
        return Plan(refused=("slot_unreadable", ""))
    if ours.is_altered:
        return Plan(refused=(ours.remembered.stopped, named([url for url in urls if url not in others])))
    refused = _unwritable(content, others)
    return Plan(refused=refused) if refused else Plan(write=others)


def body_of(urls: Collection[str], style: BodyStyle) -> dict[str, object]:
    """The body of a write. Everything but URLs is left as it is."""
    return {"url": next(iter(urls), None)} if style == "url" else {"urls": [*urls]}


def _unwritable(content: Content, others: Iterable[str]) -> tuple[str, str] | None:
    if hides_any(content):
        return "slot_unreadable", "it does not show all that it holds"
    return unsendable(others)


def unsendable(others: Iterable[str]) -> tuple[str, str] | None:
    """Why a list with these URLs of others must not be sent back: a cause and its detail.

    What is shown more than once may be held once, and be four after that. What is no URL, has escapes in it, or is
    masked, may be how the store shows one, and be something else after that.
    """
    others = tuple(others)
    if repeated := [url for url, count in Counter(map(comparable, others)).items() if count > 1]:
        return "urls_multiplied", hosts(repeated)
    return (
        None
        if all(map(is_plain, others))
        else ("slot_unreadable", "it holds what is no URL, or one that is escaped, masked or cut")
    )


def named(urls: Collection[str]) -> str:
    """URLs that are ours, or may be, for people."""
    first = ", ".join(shown(url) for url in list(urls)[:_MOST_SHOWN])
    return first if len(urls) <= _MOST_SHOWN else f"{first} and {len(urls) - _MOST_SHOWN} more"


def hosts(urls: Collection[str]) -> str:
    """Whose URLs these are, for people. What is behind the host of somebody else's may be a secret of theirs."""
    found = sorted({place.host if (place := place_of(url)) else "no host" for url in urls})
    first = ", ".join(found[:_MOST_SHOWN])
    return first if len(found) <= _MOST_SHOWN else f"{first} and {len(found) - _MOST_SHOWN} more"
