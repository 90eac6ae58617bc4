"""What a feed is, whichever database it follows.

The one rule: a feed only says *read again*. It names the tasks that changed, or says that anything may have
(`gap`), which is what it says whenever it cannot be sure of having heard everything. Losing a word of it costs a
delay until the broadcaster's next sweep, never an update.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from ... import metrics
from ...database.failures import DatabaseError
from ...database.store import Store

log = logging.getLogger("taskapi.stream.feed")

RETRY_SECONDS = 1.0


# Where more is told than once in so many seconds for long, changes are let gather as long: many are told at little more
# than the cost of one.
GATHER_SECONDS = 0.04
# So often in quick succession each change is told at once: a task that begins and ends is seen doing so.
BURST = 10


class Pace:
    """When to let changes gather (a token bucket)."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._last = time.monotonic()

    def rest(self) -> None:
        """Sleep, if too much was told lately; to be called when something was told."""
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._last) / GATHER_SECONDS) - 1
        self._last = now
        if self._left < 0:
            time.sleep(GATHER_SECONDS)


class Following(NamedTuple):
    """The tasks that are followed, by id, with their owners; and the users all of whose tasks are."""

    tasks: Mapping[int, int]
    users: Iterable[int]


class Listener(Protocol):
    """Who is told."""

    def following(self, most: int) -> Following | None:
        """What it wants to be told of, or None if that is more than so many tasks and users."""

    def changed(self, keys: Iterable[tuple[int, int]]) -> None:
        """These tasks, given as `(id, user_id)`, have changed."""

    def gap(self) -> None:
        """Anything may have changed."""


class Feed(ABC):
    """Watches the database for changed rows, for as long as somebody is interested."""

    # What may pass, and is tried again.
    outages: tuple[type[Exception], ...] = (DatabaseError, OSError)

    def __init__(self, store: Store, listener: Listener) -> None:
        self._store = store
        self._listener = listener
        self._wanted = threading.Event()
        self._connected = False
        self.connected = False

    @property
    def connected(self) -> bool:
        """Whether changes are heard of at once."""
        return self._connected

    @connected.setter
    def connected(self, connected: bool) -> None:
        if connected and not self._connected:
            log.info("the change feed is connected")
        self._connected = connected
        metrics.feed_connected.set(connected)

    def want(self, wanted: bool) -> None:
        """Say whether anybody follows any task."""
        if wanted and not self._wanted.is_set():
            self._wanted.set()
        elif not wanted:
            self._wanted.clear()

    def run(self) -> None:
        """Watch for ever, over every outage."""
        while True:
            try:
                self._watch()
            except Exception as error:  # whatever it is: if this thread ended, every bar would move late
                unexpected = not isinstance(error, self.outages)
                if self.connected or unexpected:
                    log.warning("the change feed is interrupted: %s", self._store.explain(error), exc_info=unexpected)
                self.connected = False
            time.sleep(RETRY_SECONDS)

    @abstractmethod
    def _watch(self) -> None:
        """Connect and watch, until an error."""
