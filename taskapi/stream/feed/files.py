"""Tells when an SQLite database's files are written to. Knows no SQL."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Any

# How long one wait lasts at most where the kernel tells nothing.
UNWATCHED_SECONDS = 0.02


class DatabaseFiles:
    """A database's files (the write-ahead log is one), watched by inotify(7) where there is such a thing."""

    def __init__(self, database: str) -> None:
        path = Path(database).resolve()  # SQLite, too, keeps its log beside the file that a link leads to
        self._name = path.name
        self._inotify: Any = None
        # Not Linux; or the user's inotify instances are used up.
        with contextlib.suppress(ImportError, OSError):
            from inotify_simple import INotify, flags

            inotify = INotify()
            inotify.add_watch(path.parent, flags.MODIFY)  # the folder, since a log comes and goes
            self._inotify = inotify

    def __enter__(self) -> DatabaseFiles:
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def wait(self, seconds: float) -> bool:
        """Wait so long for a write; whether there was one. What was written may not be committed yet."""
        if self._inotify is None:
            time.sleep(min(seconds, UNWATCHED_SECONDS))
            return False
        events = self._inotify.read(timeout=int(1000 * seconds))
        return any(event.name.startswith(self._name) for event in events)
