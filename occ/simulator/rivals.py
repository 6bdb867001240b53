"""Other writers of the same slots, a store that forgets our URL, and a record of what our writes cost the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from occ.simulator.setting_error import SettingError
from occ.simulator.webhooks import Change, Slot

When = Literal["between_read_and_write", "after_write"]
How = Literal["merge", "replace", "undo"]
WHENS = ("between_read_and_write", "after_write")
HOWS = ("merge", "replace", "undo")


@dataclass(slots=True)
class Rival:
    """Somebody who writes into a slot at the worst moment.

    `how`: merge adds `url` to what is there; replace leaves only `url`; undo takes out what our write added. `slot`
    None means every slot. `times` writes per slot, None without end. After our write it happens `delay` seconds
    later, and before the answer is made if `seen_in_answer`.
    """

    url: str
    when: When = "between_read_and_write"
    how: How = "merge"
    slot: str | None = None
    times: int | None = 1
    delay: float = 0.0
    seen_in_answer: bool = False
    writes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, entry: object) -> "Rival":
        """From JSON. Raises SettingError."""
        if not isinstance(entry, Mapping):
            raise SettingError("a rival is an object")
        known = {"url", "when", "how", "slot", "times", "delay", "seen_in_answer"}
        if unknown := entry.keys() - known:
            raise SettingError(f"a rival has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
        rival = cls(url="https://rival.example.net/hook")
        for name, value in entry.items():
            setattr(rival, name, value)
        if rival.slot == "*":
            rival.slot = None
        if cast("object", rival.times) == "always":
            rival.times = None
        if rival.when not in WHENS or rival.how not in HOWS:
            raise SettingError(f"a rival's 'when' is one of {', '.join(WHENS)}, its 'how' one of {', '.join(HOWS)}")
        return rival

    def wants(self, when: When, slot: Slot) -> bool:
        """Whether it writes into this slot now; counts the write."""
        if self.when != when or self.slot not in (None, slot.id):
            return False
        done = self.writes.get(slot.id, 0)
        if self.times is not None and done >= self.times:
            return False
        self.writes[slot.id] = done + 1
        return True

    def write(self, slot: Slot, ours: Change | None = None) -> None:
        """Do it."""
        if self.how == "undo":
            added = ours.added_urls if ours else ()
            slot.replace_urls(url for url in slot.urls if url not in added)
            return
        slot.foreign_urls.add(self.url)
        others = [url for url in slot.urls if url != self.url] if self.how == "merge" else []
        slot.replace_urls([*others, self.url])


@dataclass(frozen=True, slots=True)
class _Later:
    due: float
    slot: Slot
    rival: Rival | None  # None: the store itself drops what our write added
    ours: Change


@dataclass(slots=True)
class Losses:
    """What our writes took away from others: `urls` as (slot, url), `settings` as (slot, field)."""

    urls: list[tuple[str, str]] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)

    def note(self, slot: Slot, change: Change) -> None:
        """Judge one of our writes."""
        self.urls += [(slot.id, url) for url in change.removed_urls if url in slot.foreign_urls]
        self.settings += [(slot.id, name) for name in change.fields if name in slot.foreign_settings]


class Disturbances:
    """Everything that changes slots besides our own writes. Time is handed in; what is due happens at the next look."""

    def __init__(self) -> None:
        self.rivals: list[Rival] = []
        self.drop_after: float | None = None
        self.drop_times: int | None = None
        self._drops: dict[str, int] = {}
        self._later: list[_Later] = []

    def catch_up(self, now: float) -> None:
        """Let happen what is due."""
        due = [later for later in self._later if later.due <= now]
        if not due:
            return
        self._later = [later for later in self._later if later.due > now]
        for later in sorted(due, key=lambda later: later.due):
            if later.rival is not None:
                later.rival.write(later.slot, later.ours)
            else:
                later.slot.replace_urls(url for url in later.slot.urls if url not in later.ours.added_urls)

    def before_write(self, slot: Slot) -> None:
        """Somebody gets in between our read and our write."""
        for rival in self.rivals:
            if rival.wants("between_read_and_write", slot):
                rival.write(slot)

    def after_write(self, slot: Slot, ours: Change, now: float, *, seen_in_answer: bool) -> None:
        """Called before the answer is made and again after it."""
        for rival in self.rivals:
            if rival.seen_in_answer == seen_in_answer and rival.wants("after_write", slot):
                if rival.delay:
                    self._later.append(_Later(now + rival.delay, slot, rival, ours))
                else:
                    rival.write(slot, ours)
        if not seen_in_answer and self.drop_after is not None and ours.added_urls and self._may_drop(slot.id):
            self._later.append(_Later(now + self.drop_after, slot, None, ours))

    def _may_drop(self, slot_id: str) -> bool:
        done = self._drops.get(slot_id, 0)
        if self.drop_times is not None and done >= self.drop_times:
            return False
        self._drops[slot_id] = done + 1
        return True
