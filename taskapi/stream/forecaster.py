"""Tells those who follow a task when it will start and end, beside the feed and at a bounded cost."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ..database.failures import DatabaseError
from ..forecasts import Forecasts
from .hub import Hub

log = logging.getLogger(__name__)

# How often the tasks that are followed are looked at, as long as they are few: all of them take their turns, so many
# at a time, and between two turns passes at least nine times as long as one took.
INTERVAL_SECONDS = 2.0
BATCH = 500
REST = 9
# After how many of them other work of the process may run.
FORECASTS_PER_TURN = 10


class Forecaster:
    """Looks at the tasks that streams follow, those that are new first; does nothing while there are none."""

    def __init__(self, hub: Hub, forecasts: Forecasts, pause: Callable[[], None]) -> None:
        self._hub = hub
        self._forecasts = forecasts
        self._pause = pause
        self._lock = threading.Lock()
        self._followed: set[int] = set()
        self._new: deque[int] = deque()
        self._seen: deque[int] = deque()
        self._wake = threading.Event()

    def follow(self, task: int) -> None:
        """Look at a task that a stream follows from now on."""
        with self._lock:
            if task in self._followed:
                return
            self._followed.add(task)
            self._new.append(task)
        self._wake.set()

    def run(self) -> None:
        """Look for ever."""
        while True:
            self._wake.wait(INTERVAL_SECONDS if self._seen else None)
            self._wake.clear()
            began = time.monotonic()
            self._look(self._take())
            time.sleep(REST * (time.monotonic() - began))
            if self._new:
                self._wake.set()

    def _take(self) -> list[int]:
        """The tasks whose turn it is; those that nobody follows any more are forgotten."""
        with self._lock:
            taken = [self._new.popleft() for _ in range(min(len(self._new), BATCH))]
            taken += [self._seen.popleft() for _ in range(min(len(self._seen), BATCH - len(taken)))]
            gone = {task for task in taken if not self._hub.is_streamed(task)}
            self._followed -= gone
            followed = [task for task in taken if task not in gone]
            self._seen.extend(followed)
            return followed

    def _look(self, tasks: list[int]) -> None:
        try:
            for number, (task, forecast) in enumerate(self._forecasts.of_many(tasks), 1):
                self._hub.foretell(task, forecast)
                if not number % FORECASTS_PER_TURN:
                    self._pause()
        except DatabaseError:
            log.debug("followed tasks cannot be read")  # of which the feed tells
        except Exception:  # whatever it is: if this thread ended, no bar would be told anything any more
            log.exception("there are no forecasts")
