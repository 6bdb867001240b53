"""The matrix: every fault on every occasion, run to its end."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from occ.simulator import make_application_key
from tests.fault_matrix import faults
from tests.fault_matrix.course import Course, Look
from tests.fault_matrix.faults import SLOTS, Fault, Occasion
from tests.fault_matrix.sections import Section
from tests.fault_matrix.stand import OTHERS_URL, Stand

_AN_HOUR = 3600.0
"""Between the run and what people ask for: by then the access token has ended."""


@dataclass(frozen=True)
class Result:
    """What one fault came to on one occasion. `healed`: the look after its end; None if it has none."""

    fault: Fault
    occasion: Occasion
    looks: tuple[Look, ...]
    healed: Look | None
    lost: tuple[object, ...]

    @property
    def end(self) -> Look:
        """The last look, which is like all that would follow."""
        return self.looks[-1]


def results_of(section: Section) -> list[Result]:
    """Every fault of a section, on every occasion it can be had on."""
    with quiet():
        return [
            _result(section, fault, occasion)
            for fault in section.faults
            for occasion in section.occasions
            if not fault.only or occasion in fault.only
        ]


def _result(section: Section, fault: Fault, occasion: Occasion) -> Result:
    stand, course = struck(section, fault, occasion)
    course.until_settled(at_least=fault.lasts)
    healed = None
    if fault.end is not None:
        if occasion is Occasion.DISCONNECT and course.looks[-1].rest is None and len(course.looks) > 1:
            stand, course_again = struck(section, fault, occasion)  # that one was run until the key was forgotten
            look = course_again.look()
        else:
            look = course.looks[-1]
        healed = _healed(stand, fault, look)
    losses = stand.store.losses
    return Result(fault, occasion, tuple(course.looks), healed, (*losses.urls, *losses.settings))


def _healed(stand: Stand, fault: Fault, last: Look) -> Look | None:
    if last.rest is None or fault.end is None:
        return None
    fault.end(stand)
    stand.clock.advance(last.rest)
    return Course(stand).look()


def struck(section: Section, fault: Fault, occasion: Occasion) -> tuple[Stand, Course]:
    """A stand with the fault begun, and the work it strikes."""
    stand = Stand(section.target, **{"slots": SLOTS, **fault.settings})
    course = Course(stand)
    if occasion is Occasion.ONBOARDING:
        fault.begin(stand)
        stand.connect()
        stand.records.told.clear()  # that it is being onboarded goes without saying
        return stand, course
    stand.connect()
    onboarded = Course(stand).look()
    if occasion is Occasion.REVALIDATION:
        stand.clock.advance(onboarded.rest or 0.0)
        if section.needs_write:
            stand.store.change(slots={stand.wiring.settings.slots[faults.FAULTY].id: {"urls": [OTHERS_URL]}})
        fault.begin(stand)
        return stand, course
    stand.clock.advance(_AN_HOUR)
    if occasion is Occasion.NEW_KEY:
        stand.store.change(application_key=make_application_key(issued_at=stand.now, lifetime=None))
        fault.begin(stand)
        stand.connect()
    else:
        fault.begin(stand)
        stand.desk.disconnect()
    return stand, course


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines of a hundred thousand steps."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
        structlog.contextvars.unbind_contextvars("attempt")
