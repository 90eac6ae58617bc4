"""When a feed tells at once, when it lets changes gather, and what it must not pass over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness import insert
from sqlalchemy.engine import make_url

from taskapi.database import connections, schema
from taskapi.database.sqlite import LAST_REVISION
from taskapi.database.store import Store
from taskapi.stream.feed import base
from taskapi.stream.feed.base import BURST, GATHER_SECONDS, Following, Pace
from taskapi.stream.feed.postgresql import AGAIN_AFTER_SECONDS, Appointments
from taskapi.stream.feed.sqlite import SqliteFeed


class Clock:
    """Time that passes only in sleep, or when told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(base, "time", clock)
    return clock


def test_changes_that_come_one_by_one_are_told_at_once(clock: Clock) -> None:
    pace = Pace()

    for _ in range(100):
        pace.rest()
        clock.now += GATHER_SECONDS

    assert clock.slept == []


def test_a_burst_is_told_at_once_and_what_goes_on_gathers(clock: Clock) -> None:
    pace = Pace()

    for _ in range(BURST):
        pace.rest()
        clock.now += 0.001
    assert clock.slept == []

    for _ in range(25):
        pace.rest()
        clock.now += 0.001
    assert 24 <= len(clock.slept) <= 25

    clock.now += BURST * GATHER_SECONDS
    for _ in range(BURST):
        pace.rest()
    assert 24 <= len(clock.slept) <= 25


def test_an_announced_task_is_read_again_at_each_delay() -> None:
    again = Appointments()
    again.plan({(1, 7)}, 100.0)
    again.plan({(2, 7)}, 100.05)

    first, second, third = AGAIN_AFTER_SECONDS
    assert again.wait(100.0) == pytest.approx(first)
    assert again.due(100.0 + first) == {(1, 7)}
    assert again.due(100.0 + second + 0.05) == {(1, 7), (2, 7)}
    assert again.due(100.0 + third + 1) == {(1, 7), (2, 7)}
    assert again.due(200.0) == set()


def test_a_task_that_is_announced_again_has_new_appointments_instead_of_the_old_ones() -> None:
    again = Appointments()
    again.plan({(1, 7), (2, 7)}, 100.0)
    again.plan({(1, 7)}, 100.06)

    first, second, third = AGAIN_AFTER_SECONDS
    assert again.due(100.0 + first) == {(2, 7)}
    assert again.due(100.06 + first) == {(1, 7)}
    again.plan({(1, 7)}, 100.3)
    assert again.due(100.3 + first) == {(1, 7)}
    assert again.due(100.0 + second) == {(2, 7)}
    assert again.due(100.3 + second) == {(1, 7)}
    assert again.due(100.0 + third) == {(2, 7)}
    assert again.due(100.3 + third) == {(1, 7)}
    assert again.wait(103.0) == math.inf


class Told:
    """A listener that notes the ids it is told."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def changed(self, keys: Iterable[tuple[int, int]]) -> None:
        self.ids += [task for task, _ in keys]

    def following(self, most: int) -> Following | None:
        raise AssertionError("SQLite's feed looks at everything")

    def gap(self) -> None:
        raise AssertionError("nothing was restored")


class Interrupted:
    """A connection between whose questions somebody else commits."""

    def __init__(self, connection: Any, engine: sa.Engine) -> None:
        self._connection, self._engine = connection, engine

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Any:
        if statement == LAST_REVISION:
            insert(self._engine, "meanwhile")
        return self._connection.execute(statement, parameters or {})


def test_a_commit_between_two_questions_is_told_with_the_next(tmp_path: Path) -> None:
    engine = connections.open_engine(make_url(f"sqlite:///{tmp_path}/tasks.db"))
    schema.upgrade(engine)
    store = Store(engine.url)
    told = Told()
    feed = SqliteFeed(store, told)
    connection = store.dialect.open_reader(store.url)
    revision = int(connection.execute(LAST_REVISION).fetchone()[0])
    between: Any = Interrupted(connection, engine)

    revision = feed._tell(between, revision)  # finds nothing, and then looks how far the counter is
    feed._tell(connection, revision)
    connection.close()
    store.close()

    assert len(told.ids) == 1
