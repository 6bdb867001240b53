"""Beat's scheduler: what is sent when clocks are set, and what it refuses."""

import datetime as dates
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import crontab

from tasks.worker.beat import ALIVE, SteadyScheduler
from tests.waiting import wait_until

INTERVAL = 0.05


class Wall:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.ahead = dates.timedelta()

    def now(self) -> dates.datetime:
        return dates.datetime.now(dates.UTC) + self.ahead


def scheduler_of(
    wall: Wall, folder: Path, monkeypatch: pytest.MonkeyPatch, every: Any = INTERVAL
) -> tuple[Scheduler, list[str]]:
    app = Celery("beat", set_as_current=False)
    app.conf.beat_schedule = {"tick": {"task": "occ.tick", "schedule": every}}
    sent: list[str] = []
    monkeypatch.setattr(app, "now", wall.now)
    monkeypatch.setattr(app, "send_task", lambda name, *_args, **_options: sent.append(name))
    monkeypatch.setattr(app.amqp, "Producer", lambda *_, **__: None)
    scheduler = SteadyScheduler(app, schedule_filename=str(folder / "beat-schedule"))
    vars(scheduler)["producer"] = None  # a cached property that would open a connection
    return scheduler, sent


@pytest.mark.parametrize("set_by", [dates.timedelta(seconds=-120), dates.timedelta(hours=-1), dates.timedelta(hours=1)])
def test_a_tick_is_sent_at_its_interval_however_the_clock_is_set(
    set_by: dates.timedelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()
    scheduler, sent = scheduler_of(wall, tmp_path, monkeypatch)
    scheduler.tick()
    assert sent == ["occ.tick"]  # at once
    wall.ahead = set_by
    assert 0 <= scheduler.tick() <= INTERVAL
    assert len(sent) <= 2  # a clock that went ahead is no flood
    wait_until(lambda: scheduler.tick() >= 0 and len(sent) >= 3, what="the ticks to go on")


def test_each_message_that_was_sent_leaves_a_sign_of_life_and_no_schedule_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, _ = scheduler_of(Wall(), tmp_path, monkeypatch)
    assert not list(tmp_path.iterdir())
    scheduler.tick()
    assert [file.name for file in tmp_path.iterdir()] == [ALIVE]


def test_a_schedule_that_is_no_interval_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="plain interval"):
        scheduler_of(Wall(), tmp_path, monkeypatch, every=crontab(minute="0"))
