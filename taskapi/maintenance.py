"""Closes what nobody is to wait for any longer: lost workers' tasks, limits that have passed, unheard cancellations."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from . import metrics
from .database.failures import DatabaseError
from .database.overdue import Overdue
from .database.store import Store

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
# The limit for all who wait is looked after this often at most, and ten times within it: it has no index of its own.
WAITING_INTERVAL_SECONDS = 60.0

WHY = {
    "silent": "its worker has stopped reporting",
    "cancelled": "its worker does not react to the cancellation",
    "unstarted": "it was not started in time",
    "unfinished": "it was not finished in time",
}


class Limits(NamedTuple):
    """How long, in seconds, a lease lasts, a task may wait (0: for ever), a worker may not react to a cancellation."""

    lease: float
    start_within: float
    cancel_within: float


def limits_of(settings: Mapping[str, Any]) -> Limits:
    """What the settings say."""
    return Limits(settings["LEASE_SECONDS"], settings["START_WITHIN_SECONDS"], settings["CANCEL_SECONDS"])


def run(store: Store, limits: Limits) -> None:
    """Close what is overdue, for ever. Several processes may do it at once: each task is closed once.

    An outage of the database is nobody's death: after one, workers first get the time of a lease to renew theirs.
    """
    pause = min(WAITING_INTERVAL_SECONDS, limits.start_within / 10)
    waiting_at = time.monotonic()
    while True:
        time.sleep(INTERVAL_SECONDS)
        metrics.flush()
        try:
            close_overdue(store, limits)
            if limits.start_within and time.monotonic() >= waiting_at:
                waiting_at = time.monotonic() + pause
                close_waiting(store, limits)
        except DatabaseError as error:
            log.warning("overdue tasks cannot be closed now: %s", store.explain(error))
            _wait_for_database(store)
            time.sleep(limits.lease)


def _wait_for_database(store: Store) -> None:
    while True:
        time.sleep(INTERVAL_SECONDS)
        try:
            store.clock()
        except DatabaseError:
            continue
        return


def reap(store: Store, limits: Limits) -> list[Overdue]:
    """Close all that is overdue now. Raises `DatabaseError`."""
    return close_overdue(store, limits) + (close_waiting(store, limits) if limits.start_within else [])


def close_overdue(store: Store, limits: Limits) -> list[Overdue]:
    """Close what has a limit of its own, or a worker that is silent."""
    return _close_all(store, partial(store.overdue, limits.cancel_within))


def close_waiting(store: Store, limits: Limits) -> list[Overdue]:
    """Close what has waited for longer than anything may."""
    return _close_all(store, partial(store.waiting_too_long, limits.start_within))


def _close_all(store: Store, find: Callable[[], list[Overdue]]) -> list[Overdue]:
    closed: list[Overdue] = []
    # A batch each: writers take their turn in between. One of which none could be closed has changed meanwhile.
    while batch := store.close_overdue(find()):
        closed += batch
        for task in batch:
            _count(task.reason)
            log.warning("task %s: %s, it is closed as %s", task.task_id, WHY[task.reason], task.closed_as)
    return closed


def _count(reason: str) -> None:
    if reason == "silent":
        metrics.tasks_reaped.inc()
    elif reason == "cancelled":
        metrics.tasks_cancelled.labels("closed").inc()
    else:
        metrics.tasks_expired.labels(reason).inc()
