"""Stores that spell the URLs of their slots their own way, or keep and show other lists than they were sent.

None of it is documented or known of a real store; it is what a store could do to a URL that is put in there.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from occ.simulator.setting_error import SettingError

_TRUNCATE = re.compile(r"truncate:([1-9][0-9]{0,3})", re.ASCII)


def _slash(url: str) -> str:
    parts = urlsplit(url)
    return url if parts.query or parts.path.endswith("/") else f"{url}/"


def _lower_path(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=parts.path.lower()).geturl()


def _reencoded(url: str) -> str:
    """The dashes of the path in percent: they are the same without."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.replace("-", "%2D")).geturl()


def _with_port(url: str) -> str:
    parts = urlsplit(url)
    named = parts.port is not None or parts.scheme != "https"
    return url if named else parts._replace(netloc=f"{parts.netloc}:443").geturl()


RULES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "slash": _slash,
        "http": lambda url: re.sub(r"^https:", "http:", url),
        "lower_path": _lower_path,
        "reencode": _reencoded,
        "no_query": lambda url: urlsplit(url)._replace(query="", fragment="").geturl(),
        "port": _with_port,
        "entities": lambda url: re.sub(r"&(?!amp;)", "&amp;", url),
    }
)
"""By name; applied twice, each does no more than once. "truncate:N" is one more: the first N characters."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """What a store makes of a list of URLs: when it is stored, and when it is shown.

    `keeps_last`: so many, the latest of them. `shows_twice`: each twice.
    """

    stored_rules: Sequence[str] = ()
    shown_rules: Sequence[str] = ()
    keeps_last: int | None = None
    shows_twice: bool = False

    @property
    def bends(self) -> bool:
        """Whether what it shows is not what it keeps."""
        return bool(self.shown_rules) or self.shows_twice

    def stored(self, urls: Iterable[str]) -> list[str]:
        """What it keeps of a list."""
        kept = [spelt(url, self.stored_rules) for url in urls]
        return kept if self.keeps_last is None else kept[max(0, len(kept) - self.keeps_last) :]

    def shown(self, urls: Iterable[str]) -> list[str]:
        """How it shows the list that it keeps."""
        return [shown for url in urls for shown in [spelt(url, self.shown_rules)] * (2 if self.shows_twice else 1)]


def spelt(url: str, rules: Iterable[str]) -> str:
    """A URL after these rules, one after the other."""
    for rule in rules:
        cut = _TRUNCATE.fullmatch(rule)
        url = url[: int(cut[1])] if cut else RULES[rule](url)
    return url


def checked_rules(value: object) -> tuple[str, ...]:
    """From JSON. Raises SettingError."""
    rules = [value] if isinstance(value, str) else value
    if not isinstance(rules, (list, tuple)) or not all(_is_rule(rule) for rule in rules):
        raise SettingError(f"is a list of {', '.join(RULES)} and truncate:N")
    return tuple(rules)


def _is_rule(rule: object) -> bool:
    return isinstance(rule, str) and (rule in RULES or _TRUNCATE.fullmatch(rule) is not None)
