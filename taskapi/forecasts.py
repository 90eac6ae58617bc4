"""Forecasts of tasks as they are now: the past of a kind is read once for all who ask within a second."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from .database.models import FINAL, WAITING
from .database.store import Standing, Store
from .forecast import Forecast, History, Run, of_started, of_waiting

# How many tasks that have ended, and how many that run, are the past of a kind.
RUNS_AT_MOST = 100
KEPT_SECONDS = 1.0
KINDS_AT_MOST = 1_000
# Whoever is further back in a line is told nothing unasked.
LINE_AT_MOST = 10_000

# For each task of a line its place, and the moment when the first was created.
Line = dict[int, tuple[int, float]]


class Forecasts:
    """Tells what is expected of tasks. May be asked by many threads at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, tuple[float, History]] = {}

    def of(self, task: int) -> Forecast:
        """What is expected of a task: nothing of one that has no kind, or is gone."""
        for standing in self._store.standings([task]):
            if standing.kind is not None:
                place = self._store.place(task) if standing.status in WAITING else (0, None)
                return _forecast(self._history(standing.kind), standing, *place)
        return Forecast()

    def of_many(self, tasks: Iterable[int]) -> Iterator[tuple[int, Forecast]]:
        """The same, one after another, of tasks whose end can be told: not of one too far back in line."""
        lines: dict[str, Line] = {}
        for standing in self._store.standings(tasks):
            if standing.kind is None or not (history := self._history(standing.kind)).is_enough:
                continue
            if standing.status in WAITING and standing.kind not in lines:
                lines[standing.kind] = self._line(standing.kind)
            place = lines.get(standing.kind, {}).get(standing.id, (0, None))
            told = _forecast(history, standing, *place)
            if told.ends_at is not None:
                yield standing.id, told

    def _history(self, kind: str) -> History:
        until, history = self._kept.get(kind, (0.0, None))
        if history is None or until < time.monotonic():
            history = History.of(Run(*row) for row in self._store.runs(kind, RUNS_AT_MOST))
            if len(self._kept) >= KINDS_AT_MOST:
                self._kept.clear()
            self._kept[kind] = time.monotonic() + KEPT_SECONDS, history
        return history

    def _line(self, kind: str) -> Line:
        rows = self._store.line(kind, LINE_AT_MOST)
        return {task: (place, rows[0][1]) for place, (task, _) in enumerate(rows, 1)}


def _forecast(history: History, standing: Standing, position: int, first_created: float | None) -> Forecast:
    """Given the task's place in its line, and since when the first is in it; 0 and None where it is in none."""
    if standing.started_at is not None and standing.status not in WAITING | FINAL:
        return of_started(history, standing.now, standing.started_at, standing.share)
    if position and first_created is not None and standing.status in WAITING:
        return of_waiting(history, standing.now, position, first_created)
    return Forecast(sample=len(history.durations))
