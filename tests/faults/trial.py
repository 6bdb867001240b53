"""One run of one scenario: how large, on which pool, with which seed."""

import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.report import Report


@dataclass(slots=True)
class Trial:
    """`long`: the full numbers instead of those small enough for every build."""

    scenario: str
    pool: str
    seed: int
    long: bool
    folder: Path
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.scenario} {self.pool} {self.seed}")  # noqa: S311 - dice

    def size(self, short: int, long: int) -> int:
        """The number for this form."""
        return long if self.long else short

    def report(self) -> Report:
        """An empty one."""
        return Report(self.scenario, self.pool, self.seed)
