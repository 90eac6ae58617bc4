"""Counts for `/metrics` what has ended, whoever ended it: one process at a time, for all on a database."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from . import metrics
from .database.failures import DatabaseError
from .database.store import Ended, Store
from .kinds import Kinds

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0


def run(store: Store) -> None:
    """Count, for ever."""
    kinds, failed = Kinds(), False
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            count(store.newly_ended(), kinds)
            failed = False
        except DatabaseError as error:
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
