"""How many tasks there are, however many ask: what is costly to count is kept for a while."""

from __future__ import annotations

import threading
import time

from .store import Store, Summary

# Counting what has ended reads every row. What took so many seconds is kept for this many times as long, so that
# however many look, a twentieth of one connection's time goes into it; what was quick to count is not kept.
KEPT_FOR = 20
QUICK_SECONDS = 0.05


class Counts:
    """The tasks of one database, counted. May be asked by many threads at once: one of them counts for all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._ended: dict[str, int] = {}
        self._until = 0.0

    def summary(self) -> Summary:
        """Those that have not ended as they are now; those that have as they are, or were a moment ago."""
        return self._store.summary(self._counted())

    def _counted(self) -> dict[str, int]:
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._ended = self._store.ended_counts()
                seconds = time.monotonic() - began
                self._until = began + KEPT_FOR * seconds if seconds > QUICK_SECONDS else 0.0
            return self._ended
