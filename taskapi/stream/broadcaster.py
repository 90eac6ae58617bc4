"""The way from a changed row to the open streams of this process: feed, then store, then hub."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .. import metrics
from ..database.failures import DatabaseError
from ..database.models import Snapshot
from ..database.store import ACTIVE_AT_MOST, Store
from ..forecasts import Forecasts
from .feed import Feed, Following, open_feed
from .forecaster import Forecaster
from .handover import Handover
from .hub import Hub
from .queues import QueueStream, Waiter, capacity
from .sockets import Poller, SocketStream, can_take_over
from .streams import Places, Stream, Terms
from .successors import Colleagues
from .topics import LATE_COMMIT, MICROSECONDS

log = logging.getLogger(__name__)

# The net under the feed: so often, every followed row is compared with what its streams have.
SWEEP_SECONDS = 10.0
# A row that a sweep misses is looked for once more: while a backup is restored, a table is empty for a moment.
CONFIRM_SECONDS = 2.0
RETRY_SECONDS = 1.0
# Rows, and keys of rows, read at a time.
BATCH = 500
KEYS_BATCH = 5_000
# A cursor may be ahead of the database's clock by as much: after a failover another machine's clock counts.
CLOCK_STEP = MICROSECONDS
# What an end waits for servers' threads that have a `bye` to write.
BYE_SECONDS = 1.0
LOOK_SECONDS = 0.01
# How many requests a process holds at a time: each costs a greenlet, of which gunicorn allows a thousand.
MAX_WAITS = 250


class Broadcaster:
    """Keeps the streams of one process up to date, in three threads (greenlets under gevent) that start when needed."""

    def __init__(
        self,
        store: Store,
        forecasts: Forecasts,
        streams: Places,
        max_waits_per_user: int,
        max_thread_streams: int | None,
    ) -> None:
        waits = Places(MAX_WAITS, max_waits_per_user)
        self._hub = Hub(streams, waits, pause=_let_others_run)
        self._forecaster = Forecaster(self._hub, forecasts, pause=_let_others_run)
        self._feed: Feed = open_feed(store, self)
        self._store = store
        self._max_thread_streams = max_thread_streams
        self._lock = threading.Lock()
        self._started = False
        self._poller: Poller | None = None
        self._handover: Handover | None = None
        self._closing = threading.Lock()
        self._bodies: set[Stream] = set()  # that a server's thread or greenlet has yet to write to the end
        self._changed: dict[int, int] = {}  # of tasks to be read again, id and user
        self._missing: set[int] = set()
        self._gap = self._failed = False
        self._wake = threading.Event()
        self._swept_at = time.monotonic()

    def start(self) -> None:
        """Begin to follow the database; again does nothing."""
        with self._lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._feed.run, name="taskapi-feed", daemon=True).start()
        threading.Thread(target=self._run, name="taskapi-broadcaster", daemon=True).start()
        threading.Thread(target=self._forecaster.run, name="taskapi-forecaster", daemon=True).start()

    def relieve(self, colleagues: Colleagues) -> None:
        """Take the streams of colleagues that stop, from when the database answers; and in the end hand ours over."""
        self._poller = self._poller or Poller()
        self._handover = Handover(self._hub, self._poller, self, colleagues)
        threading.Thread(target=self._take_over, name="taskapi-handover", daemon=True).start()

    def _take_over(self) -> None:
        while not self._can_read():
            time.sleep(RETRY_SECONDS)
        if self._handover is not None:
            self._handover.take()

    def _can_read(self) -> bool:
        with contextlib.suppress(DatabaseError):
            return self._store.clock() > 0
        return False

    @property
    def is_connected(self) -> bool:
        """Whether changes are heard of at once."""
        return self._feed.connected

    # What a request asks for.

    def open_stream(self, environ: dict[str, Any], terms: Terms) -> Stream | str:
        """A stream for the client of this request, not yet following anything; or why there is no place for one.

        Whoever has it and does not let it follow gives its place back by `leave`.
        """
        stream: Stream
        if can_take_over(environ):
            self._poller = self._poller or Poller()
            stream, most = SocketStream(environ, self._poller, self._hub.leave, terms), sys.maxsize
        else:
            stream, most = QueueStream(environ, self.leave, terms), capacity(environ, self._max_thread_streams)
        if refusal := self._hub.admit(stream, most):
            return refusal
        if isinstance(stream, QueueStream):
            self._bodies.add(stream)
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream, and give back its place."""
        self._bodies.discard(stream)
        self._hub.leave(stream)

    def deadline(self, seconds: float) -> float:
        """The moment so many seconds from now, by the clock that ends streams."""
        return self._hub.clock() + seconds

    def follow_task(self, stream: Stream, task: Snapshot) -> None:
        """Let a stream follow a task whose row was just read."""
        self.start()
        self._read_soon({task.id: task.user_id} if self._hub.follow_task(task, stream) else {})
        if not stream.is_held:
            self._forecaster.follow(task.id)
        self._say_bye_to_the_late()

    def follow_user(self, stream: Stream, user_id: int, cursor: int | None) -> None:
        """Let a stream follow all of a user's tasks, from those that are not final.

        Given a cursor, also from those that ended after it; one that lies ahead of the database's clock counts as none.
        """
        self.start()
        began = self._store.clock()
        # Before it joins: what is read again meanwhile would be shown as news.
        ended = self._store.keys_ended_lately(user_id, began - 2 * LATE_COMMIT)
        self._hub.follow_user(user_id, began, {key.id: key.revision for key in ended}, stream)
        self._wake.set()
        tasks = self._store.active_of(user_id)
        is_cut = len(tasks) >= ACTIVE_AT_MOST
        if cursor is not None and cursor <= began + CLOCK_STEP:
            tasks += self._store.ended_since(user_id, max(0, cursor - LATE_COMMIT))
        if not self._hub.introduce(stream, sorted(tasks, key=lambda task: task.revision), is_cut=is_cut):
            self.gap()
        self._say_bye_to_the_late()

    def wait_for_news(self, environ: dict[str, Any], task: Snapshot, user_id: int, seconds: float) -> bool:
        """Wait until a task differs from this snapshot, or so many seconds; holds no connection meanwhile.

        False, at once, if the user or the process holds as many requests as may be.
        """
        waiter = Waiter(Terms(user_id, False, task.revision, self.deadline(2 * seconds), "max_age"))
        most = capacity(environ, self._max_thread_streams)
        if self._hub.admit(waiter, most) is not None:
            return False
        try:
            self.follow_task(waiter, task)
            waiter.wait(seconds)
        finally:
            self._hub.leave(waiter)
        return True

    def close(self) -> None:
        """Hand streams over, and say bye to all others, since the process is about to stop; again does no harm.

        It is written when this returns, or the client does not take it.
        """
        with self._closing:
            if self._handover is not None and self._hub.closing is None:
                self._hub.answer_held()
                self._handover.give()
            self._hub.close("shutdown")
        deadline = time.monotonic() + BYE_SECONDS
        while self._bodies and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _say_bye_to_the_late(self) -> None:
        """Whoever had a place when all were said bye, but followed nothing yet, was not among them."""
        if self._hub.closing is not None:
            self._hub.close(self._hub.closing)

    # What the feed says.

    def changed(self, keys: Iterable[tuple[int, int]]) -> None:
        """These tasks, given as `(id, user_id)`, have changed: read again those that are followed."""
        if followed := self._hub.followed(keys):
            self._read_soon(followed)

    def following(self, most: int) -> Following | None:
        """What is followed here, or None if that is more than so many tasks and users."""
        topics = self._hub.topics(most)
        return None if topics is None else Following(*topics)

    def take_up(self, tasks: dict[int, int]) -> None:
        """Read again what streams of another process follow here now, given as `{id: user_id}`."""
        self._read_soon(tasks)
        for task in tasks:
            self._forecaster.follow(task)
        self._say_bye_to_the_late()

    def gap(self) -> None:
        """Anything may have changed: compare all that is followed."""
        self._gap = True
        self._wake.set()

    def _read_soon(self, changed: Mapping[int, int]) -> None:
        with self._lock:
            self._changed |= changed
        self._wake.set()

    def _take_changed(self) -> dict[int, int]:
        with self._lock:
            changed, self._changed = self._changed, {}
        return changed

    # The loop.

    def _run(self) -> None:
        timeout: float | None = None
        while True:
            self._wake.wait(timeout)
            self._wake.clear()
            self._read_patiently()
            timeout = self._timeout(self._hub.tick())
            self._feed.want(self._hub.is_followed)

    def _timeout(self, timer: float | None) -> float | None:
        if not self._hub.is_followed:
            return timer
        sweep = max(0.0, self._swept_at + self._sweep_pause - time.monotonic())
        return sweep if timer is None else min(timer, sweep)

    @property
    def _sweep_pause(self) -> float:
        return CONFIRM_SECONDS if self._missing else SWEEP_SECONDS

    def _read_patiently(self) -> None:
        try:
            self._read_again()
        except Exception as error:  # whatever it is: if this thread ended, every bar would stand still
            unexpected = not isinstance(error, DatabaseError)
            if unexpected or not self._failed:
                log.warning("changed tasks cannot be read: %s", self._store.explain(error), exc_info=unexpected)
            self._failed = True
            time.sleep(RETRY_SECONDS)
            self._wake.set()
        else:
            self._failed = False

    def _read_again(self) -> None:
        due = time.monotonic() - self._swept_at >= self._sweep_pause
        if self._gap or (due and self._hub.is_followed):
            self._sweep()
        changed = self._take_changed()
        try:
            while changed:
                batch = dict(itertools.islice(changed.items(), BATCH))
                self._publish(batch)
                for task_id in batch:
                    del changed[task_id]
        except DatabaseError:
            self._read_soon(changed)
            raise

    def _publish(self, keys: Mapping[int, int]) -> None:
        tasks, gone = self._store.news(self._hub.known(keys))
        if not self._hub.publish(tasks):
            self.gap()  # read before a newer one was published, or it went back: the sweep can tell
        for task_id in gone:
            self._hub.gone(task_id)
        if tasks:  # of those read at once, the one that waited longest
            metrics.feed_lag.observe(max(0.0, time.time() - tasks[0].revision / MICROSECONDS))

    # The net.

    def _sweep(self) -> None:
        """Find, by comparing revisions, what changed without a word from the feed."""
        self._gap, started = False, time.monotonic()
        try:
            self._compare(started - self._swept_at)
        except DatabaseError:
            self._gap = True
            raise
        self._swept_at = started

    def _compare(self, seconds: float) -> None:
        now = self._store.clock()
        elapsed = int(seconds * MICROSECONDS)
        known = self._hub.revisions()
        found = {key.id: key for start in range(0, len(known), KEYS_BATCH) for key in self._keys(known, start)}
        missing = known.keys() - found.keys()
        for task_id in missing & self._missing:
            self._hub.gone(task_id)
        self._missing = missing - self._missing
        self._hub.disown({task: key.user_id for task, key in found.items()})
        went_back = {task for task, key in found.items() if key.revision < known[task]}
        self._hub.start_over(went_back)
        changed = {task: key.user_id for task, key in found.items() if key.revision != known[task]}
        users = self._hub.users()
        keys = self._store.keys_of_users(users, now - elapsed - LATE_COMMIT) if users else []
        changed |= {key.id: key.user_id for key in keys if self._hub.is_news(*key)}
        if went_back:
            changed |= self._back_in_life(users)
        self._hub.forget_ended(now - elapsed - 2 * LATE_COMMIT)
        self._read_soon(changed)

    def _back_in_life(self, users: Iterable[int]) -> dict[int, int]:
        """After a restore: tasks that had ended, or were unknown here, may be active again."""
        active = {task.id: task.user_id for user in users for task in self._store.active_of(user)}
        self._hub.start_over(active)
        return active

    def _keys(self, known: Iterable[int], start: int) -> list[Any]:
        return self._store.keys_of_ids(itertools.islice(known, start, start + KEYS_BATCH))


def _let_others_run() -> None:
    time.sleep(0)
