"""What administrators see of all tasks at once: what there is of each kind, how long it takes, and what fails and why.

However many ask, each answer is made once in some seconds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson

from .database.models import WAITING, TaskStatus
from .database.store import Active, Outcome, Store
from .kept import Kept
from .reasons import LENGTH, grouped

KEPT_SECONDS = 5.0
# Of how many tasks the last of a kind tell how long it takes and how often it fails.
KIND_SAMPLE = 100
# Of how many failures, the last ones, the reasons are told.
FAILURE_SAMPLE = 2_000
HOURS_AT_MOST = 168


class Quantiles(NamedTuple):
    """Seconds in which a half, and nine in ten, were over."""

    p50: float
    p90: float

    @classmethod
    def of(cls, seconds: Iterable[float | None]) -> Quantiles | None:
        """The nearest ranks; None where there is nothing."""
        found = sorted(max(0.0, value) for value in seconds if value is not None)
        return cls(_rank(found, 0.5), _rank(found, 0.9)) if found else None


def _rank(ascending: Sequence[float], share: float) -> float:
    return round(ascending[math.ceil(share * len(ascending)) - 1], 3)


class Overview:
    """Answers as JSON. May be asked by many threads at once: one of them asks the database for all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds = Kept(self._told_kinds, KEPT_SECONDS)
        self._failures = {
            hours: Kept(partial(self._told_failures, hours), KEPT_SECONDS) for hours in range(1, HOURS_AT_MOST + 1)
        }

    def kinds(self) -> bytes:
        """What there is of each kind, and how the last of it went."""
        return self._kinds.get()

    def failures(self, hours: int) -> bytes:
        """What failed within the last hours, `HOURS_AT_MOST` at most, by reason."""
        return self._failures[hours].get()

    def _told_kinds(self) -> bytes:
        now: dict[str | None, list[Active]] = defaultdict(list)
        for tasks in self._store.active():
            now[tasks.kind].append(tasks)
        last: dict[str | None, list[Outcome]] = defaultdict(list)
        for task in self._store.last_of_kinds(KIND_SAMPLE):
            last[task.kind].append(task)
        kinds = sorted({*now, *last}, key=lambda kind: (kind is None, kind))
        return _json([{"kind": kind, **_present(now[kind]), **_past(last[kind])} for kind in kinds])

    def _told_failures(self, hours: int) -> bytes:
        failures = self._store.failures(hours, FAILURE_SAMPLE, LENGTH)
        is_all = len(failures) < FAILURE_SAMPLE
        count = len(failures) if is_all else self._store.failure_count(hours)
        return _json({"hours": hours, "count": count, "sample": len(failures), "reasons": grouped(failures)})


def _present(active: Sequence[Active]) -> dict[str, Any]:
    """What there is of a kind."""
    waiting = [tasks for tasks in active if tasks.status in WAITING]
    return {
        "waiting": sum(tasks.number for tasks in waiting),
        "oldest_waiting_at": min((tasks.oldest_at for tasks in waiting), default=None),
        "running": sum(tasks.number for tasks in active) - sum(tasks.number for tasks in waiting),
        "stalled": sum(tasks.stalled for tasks in active),
    }


def _past(ended: Sequence[Outcome]) -> dict[str, Any]:
    """How the last tasks of a kind went; what was cancelled says nothing of that."""
    told = [task for task in ended if not task.is_cancelled]
    return {
        "sample": len(told),
        "failed": sum(task.status != TaskStatus.COMPLETED for task in told),
        "wait_seconds": _quantiles(task.waited for task in told),
        "run_seconds": _quantiles(task.ran for task in told if task.status == TaskStatus.COMPLETED),
    }


def _quantiles(seconds: Iterable[float | None]) -> dict[str, float] | None:
    found = Quantiles.of(seconds)
    return None if found is None else found._asdict()


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
