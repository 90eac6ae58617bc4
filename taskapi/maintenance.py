"""Closes as "timeout" the tasks whose worker has gone without a word."""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from . import metrics
from .database.store import Store

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0


def run(store: Store, lease: float) -> None:
    """Reap for ever. Several processes may do it at once: each task is closed once.

    An outage of the database is nobody's death: after one, workers first get the time of a lease to renew theirs.
    """
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            reap(store)
        except SQLAlchemyError as error:
            log.warning("abandoned tasks cannot be closed now: %s", store.explain(error))
            _wait_for_database(store)
            time.sleep(lease)


def _wait_for_database(store: Store) -> None:
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            store.clock()
        except SQLAlchemyError:
            continue
        return


def reap(store: Store) -> list[str]:
    """Close what is abandoned now; the task ids. Raises `sqlalchemy.exc.SQLAlchemyError`."""
    closed = store.reap()
    metrics.tasks_reaped.inc(len(closed))
    for task_id in closed:
        log.warning("task %s: its worker has stopped reporting, it is closed as timeout", task_id)
    return closed
