"""The way from a changed row to the open streams of this process: feed, then store, then hub. Knows no request."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from .. import metrics
from ..models import Snapshot
from ..store import LATE_COMMIT_SECONDS, Store
from .feed import Feed, open_feed
from .hub import Hub, Stream
from .sockets import Poller, QueueStream, SocketStream, Waiter, can_take_over

log = logging.getLogger(__name__)

# The net under the feed: so often, every watched row is compared with what its streams have.
SWEEP_SECONDS = 10.0
RETRY_SECONDS = 1.0
# Rows read at a time.
BATCH = 500


class Broadcaster:
    """Keeps the streams of one process up to date, in two threads (greenlets under gevent) that start when needed."""

    def __init__(self, store: Store, max_streams: int, max_streams_per_user: int) -> None:
        self.hub = Hub(max_streams, max_streams_per_user, pause=lambda: time.sleep(0))
        self.feed: Feed = open_feed(store, self)
        self._store = store
        self._lock = threading.Lock()
        self._started = False
        self._poller: Poller | None = None
        self._changed_ids: set[int] = set()
        self._gap = self._failed = False
        self._wake = threading.Event()
        self._swept_at = time.monotonic()

    def start(self) -> None:
        """Begin to watch the database; again does nothing."""
        with self._lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self.feed.run, name="taskapi-feed", daemon=True).start()
        threading.Thread(target=self._run, name="taskapi-broadcaster", daemon=True).start()

    # What a request asks for.

    def open_stream(self, environ: dict[str, Any], *state: Any) -> Stream:
        """A stream for the client of this request, not yet following anything."""
        if not can_take_over(environ):
            return QueueStream(self.hub.leave, *state)
        if self._poller is None:
            self._poller = Poller()
        return SocketStream(environ, self._poller, self.hub.leave, *state)

    def follow_task(self, stream: Stream, task: Snapshot) -> None:
        """Let a stream follow a task whose row was just read."""
        self.start()
        self._read_soon({task.id} if self.hub.watch_task(task, stream) else set())

    def follow_user(self, stream: Stream, user_id: int, cursor: int | None) -> None:
        """Let a stream follow all of a user's tasks, from those that are not final."""
        self.start()
        self.hub.watch_user(user_id, self._store.last_revision(), stream)
        self._wake.set()
        try:
            self.hub.introduce(stream, self._store.followed_by(user_id, cursor))
        except SQLAlchemyError:
            self.hub.leave(stream)
            raise

    def wait_for_news(self, task: Snapshot, user_id: int, seconds: float) -> None:
        """Wait until a task differs from this snapshot, or so many seconds; holds no connection meanwhile."""
        if self.hub.closing:
            return
        waiter = Waiter(user_id, task.revision, self.hub.clock() + 2 * seconds, "max_age")
        self.follow_task(waiter, task)
        try:
            waiter.wait(seconds)
        finally:
            self.hub.leave(waiter)

    def close(self) -> None:
        """Say bye to all: the process is about to stop."""
        self.hub.close("shutdown")

    # What the feed says.

    def changed(self, keys: Iterable[tuple[int, int]]) -> None:
        """These tasks have changed: read again those that are watched."""
        if watched := self.hub.watched(keys):
            self._read_soon(watched)

    def gap(self) -> None:
        """Anything may have changed: compare all that is watched."""
        self._gap = True
        self._wake.set()

    def _read_soon(self, ids: set[int]) -> None:
        with self._lock:
            self._changed_ids |= ids
        self._wake.set()

    def _take_changed_ids(self) -> set[int]:
        with self._lock:
            changed, self._changed_ids = self._changed_ids, set()
        return changed

    # The loop.

    def _run(self) -> None:
        timeout: float | None = None
        while True:
            self._wake.wait(timeout)
            self._wake.clear()
            self._read_patiently()
            timeout = self.hub.tick()
            self.feed.want(self.hub.is_watched)

    def _read_patiently(self) -> None:
        try:
            self._read_again()
        except Exception as error:  # whatever it is: if this thread ended, every bar would stand still
            unexpected = not isinstance(error, SQLAlchemyError)
            if unexpected or not self._failed:
                log.warning("changed tasks cannot be read: %s", type(error).__name__, exc_info=unexpected)
            self._failed = True
            time.sleep(RETRY_SECONDS)
            self._wake.set()
        else:
            self._failed = False

    def _read_again(self) -> None:
        if self._gap or (self.hub.is_watched and time.monotonic() - self._swept_at > SWEEP_SECONDS):
            self._sweep()
        changed = self._take_changed_ids()
        try:
            while changed:
                batch = set(itertools.islice(changed, BATCH))
                self._publish(batch)
                changed -= batch
        except SQLAlchemyError:
            self._read_soon(changed)
            raise

    def _publish(self, ids: set[int]) -> None:
        started = time.monotonic()
        tasks = self._store.by_ids(ids)
        for task in tasks:
            self.hub.publish(task)
        for task_id in ids - {task.id for task in tasks}:
            self.hub.gone(task_id)
        metrics.feed_lag.set(time.monotonic() - started)

    def _sweep(self) -> None:
        """Find, by comparing revisions, what changed without a word from the feed."""
        self._gap, started = False, time.monotonic()
        try:
            self._read_soon(self._outdated(started - self._swept_at + LATE_COMMIT_SECONDS))
        except SQLAlchemyError:
            self._gap = True
            raise
        self._swept_at = started

    def _outdated(self, seconds: float) -> set[int]:
        known = {**self.hub.user_revisions(), **self.hub.task_revisions()}
        ids = list(known)
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            current = self._store.revisions(batch)
            known.update({task: -1 for task in batch if current.get(task) != known[task]})
        outdated = {task for task, revision in known.items() if revision == -1}
        if floors := self.hub.user_floors():
            keys = self._store.keys_followed_by(floors, seconds)
            outdated |= {task for task, user, revision in keys if known.get(task, floors[user]) < revision}
        return outdated
