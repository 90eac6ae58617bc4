"""Counts for `/metrics` what has ended, whoever ended it: one process at a time, for all on a database."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from sqlalchemy.exc import SQLAlchemyError

from . import metrics
from .database.store import Ended, Store

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
# A kind is any text that an application makes up, and each is a series of its own to Prometheus, for ever.
MOST_KINDS = 50
OTHER = "other"


class Kinds:
    """The values of the label `kind`: the first so many that are met, and one for all others."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, kind: str | None) -> str:
        """What stands for a kind; nothing, for none."""
        name = kind or ""
        if name in self._known or len(self._known) < MOST_KINDS:
            self._known.add(name)
            return name
        return OTHER


def run(store: Store) -> None:
    """Count, for ever."""
    kinds, failed = Kinds(), False
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            count(store.newly_ended(), kinds)
            failed = False
        except SQLAlchemyError as error:
            if not failed:
                log.warning("ended tasks cannot be counted now: %s", store.explain(error))
            failed = True


def count(ended: Iterable[Ended], kinds: Kinds) -> None:
    """Count these."""
    for task in ended:
        kind = kinds.label(task.kind)
        metrics.tasks_ended.labels(kind, task.status).inc()
        if task.starts > 1:
            metrics.tasks_retried.labels(kind).inc(task.starts - 1)
        elif task.waited is not None:
            metrics.task_waiting.labels(kind).observe(max(0.0, task.waited))
        if task.ran is not None:
            metrics.task_running.labels(kind).observe(max(0.0, task.ran))


def by_kind(rows: Iterable[tuple[str | None, str, int]]) -> dict[tuple[str, str], int]:
    """How many tasks there are by the labels kind and status, given the most frequent first."""
    kinds, counts = Kinds(), dict[tuple[str, str], int]()
    for kind, status, number in rows:
        labels = kinds.label(kind), status
        counts[labels] = counts.get(labels, 0) + number
    return counts
