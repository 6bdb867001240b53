"""The figures of one scenario, and the bounds they have to keep."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

COLUMNS = (
    "scenario",
    "pool",
    "accepted",
    "terminal",
    "wrong",
    "lost",
    "repeated_puts",
    "foreign_urls_lost",
    "worker_exits",
    "seconds_to_heal",
)


@dataclass(slots=True)
class Report:
    """What a scenario counted. `own` are figures only it has, `broken` the bounds that were not kept, in words."""

    scenario: str
    pool: str
    seed: int
    accepted: int = 0
    terminal: int = 0
    wrong: int = 0
    lost: int = 0
    repeated_puts: int = 0
    foreign_urls_lost: int = 0
    worker_exits: int = 0
    seconds_to_heal: float | None = None
    own: dict[str, object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def hold(self, what: str, value: float | None, at_most: float) -> None:
        """A bound; None never keeps it."""
        if value is None or value > at_most:
            self.broken.append(f"{what} {value} > {at_most:g}")

    def require(self, true: bool, otherwise: str) -> None:
        """A bound that is no number."""
        if not true:
            self.broken.append(otherwise)

    def line(self) -> str:
        """One JSON line."""
        figures = asdict(self)
        own = figures.pop("own")
        broken = figures.pop("broken")
        return json.dumps({**figures, **own, "broken": broken})


LOSSES = ("wrong", "lost", "foreign_urls_lost", "worker_exits", "events_in_disorder", "outcomes_recorded_twice")


def is_a_loss(row: dict[str, object]) -> bool:
    """Whether something was lost or wrong, or nobody knows; a bound on time alone is none."""
    return "accepted" not in row or any(row.get(name) for name in LOSSES)


def table(rows: Sequence[dict[str, object]]) -> str:
    """The common figures of all scenarios, and which bounds were broken."""
    cells = [[name.replace("_", " ") for name in COLUMNS] + ["bounds"]]
    for row in rows:
        broken = row.get("broken") or []
        verdict = "; ".join(map(str, broken)) if isinstance(broken, list) and broken else "kept"
        cells.append([_shown(row.get(name)) for name in COLUMNS] + [verdict])
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in cells
    )


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
