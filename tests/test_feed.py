"""When a feed tells at once, and when it lets changes gather; no database."""

from __future__ import annotations

import pytest

from taskapi.stream.feed import base
from taskapi.stream.feed.base import BURST, GATHER_SECONDS, Pace
from taskapi.stream.feed.postgresql import AGAIN_AFTER_SECONDS, Appointments


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
