"""Who watches which task, and how far they are. Knows no database, no socket, no Flask: snapshots in, frames out.

Two kinds of topic: a task's (its streams end with the task) and a user's (all of the user's tasks; no end). One
frame is encoded per change and topic, and given to every stream of it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable

from .. import metrics
from ..models import Snapshot
from . import sse
from .sse import KEEP_ALIVE, Frame

# A comment after so many seconds without a frame keeps proxies from closing a quiet stream (HTML standard, 9.2.7).
KEEP_ALIVE_SECONDS = 15.0
# Timers run at most this often, and early rather than late: waking up costs more than looking.
TICK_SECONDS = 1.0
# A client that has not taken the bytes it was sent for so long is dropped.
STALL_SECONDS = 30.0
# Milliseconds until a browser comes back after a planned close, spread so that not all come at once.
RETRY_RANGE = (500, 3000)
BUSY_RETRY = 30_000
# How many streams get a frame before other work of the process may run.
STREAMS_PER_TURN = 256


class Stream(ABC):
    """One open connection. The hub keeps its book in the first attributes; subclasses deliver bytes."""

    __slots__ = ("cursor", "deadline", "deadline_reason", "last_frame", "topic", "user_id")

    # Whether it takes one of the places that the caps count.
    is_counted = True

    def __init__(self, user_id: int, cursor: int | None, deadline: float, deadline_reason: str) -> None:
        self.user_id = user_id  # who opened it, for the cap
        self.cursor = -1 if cursor is None else cursor
        self.deadline = deadline  # by the hub's clock
        self.deadline_reason = deadline_reason
        self.last_frame = 0.0
        self.topic: Topic | None = None

    @abstractmethod
    def send(self, key: int, frame: Frame) -> None:
        """Deliver a frame; where an earlier one of the same key still waits, replace it."""

    @abstractmethod
    def finish(self, key: int, frame: Frame | None) -> None:
        """Deliver a last frame, then close."""

    @abstractmethod
    def stalled_since(self) -> float | None:
        """Since when (by `time.monotonic`) the client has not taken what it was sent."""

    @abstractmethod
    def drop(self) -> None:
        """Leave the hub and close at once."""


class Topic:
    """The streams that follow one task, or all tasks of one user."""

    __slots__ = ("floor", "home", "key", "last_id", "newest", "revisions", "streams")

    def __init__(self, key: int, home: dict[int, Topic], floor: int) -> None:
        self.key = key
        self.home = home
        self.floor = floor  # the revision at which following began
        self.streams: set[Stream] = set()
        self.revisions: dict[int, int] = {}  # of each task, the newest that was sent
        self.newest: Snapshot | None = None
        self.last_id = 0

    def is_news(self, snapshot: Snapshot) -> bool:
        """Whether this is newer than what the topic's streams have; if so, remember it."""
        if self.revisions.get(snapshot.id, -1) >= snapshot.revision:
            return False
        self.revisions[snapshot.id] = snapshot.revision
        self.newest = snapshot
        return True

    def is_history(self, snapshot: Snapshot) -> bool:
        """Whether a task ended before anybody followed it here."""
        unknown = snapshot.id not in self.revisions
        return unknown and snapshot.status.is_final and snapshot.revision <= self.floor


def ending(snapshot: Snapshot) -> Frame:
    """A task's frame: its snapshot, and `done` behind a final one."""
    frame = sse.snapshot(snapshot.revision, snapshot.json)
    return Frame.of(frame + sse.done(snapshot.status) if snapshot.status.is_final else frame)


def farewell(reason: str) -> Frame:
    """The `bye` before a planned close."""
    retry = BUSY_RETRY if reason == "busy" else random.randint(*RETRY_RANGE)  # noqa: S311 - jitter
    return Frame.of(sse.bye(reason, retry))


class Hub:
    """The book of open streams of one process. Every method may be called from any thread."""

    def __init__(
        self,
        max_streams: int,
        max_streams_per_user: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self._max_streams = max_streams
        self._max_streams_per_user = max_streams_per_user
        self._pause = pause
        self._lock = threading.RLock()
        self._tasks: dict[int, Topic] = {}
        self._users: dict[int, Topic] = {}
        self._open: Counter[int] = Counter()  # streams by user
        self._total = 0
        self._timers: list[tuple[float, int, Stream]] = []
        self._numbers = itertools.count()
        self.closing: str | None = None  # why nobody is let in any more

    def __len__(self) -> int:
        """How many streams are open, held requests not counted."""
        return self._total

    @property
    def is_watched(self) -> bool:
        """Whether anybody, stream or held request, waits for news."""
        return bool(self._tasks or self._users)

    # Joining and leaving.

    def watch_task(self, task: Snapshot, stream: Stream) -> bool:
        """Let a stream follow a task; what is newer than its cursor is sent at once.

        True if nobody followed this task before: the caller must then have the row read again, because a change
        between its own reading and this call was seen by nobody.
        """
        with self._lock:
            topic = self._join(self._tasks, task.id, stream)
            first = topic.newest is None
            if topic.is_news(task):
                self._deliver(topic, task, ending(task))
            elif topic.newest is not None and stream.cursor < topic.newest.revision:
                metrics.frames_sent.inc()
                self._give(topic, [stream], topic.newest, ending(topic.newest))
            return first

    def watch_user(self, user_id: int, floor: int, stream: Stream) -> None:
        """Let a stream follow all tasks of a user, from this revision on.

        The caller reads those that are not final afterwards, and `introduce`s them.
        """
        with self._lock:
            self._join(self._users, user_id, stream, floor)

    def introduce(self, stream: Stream, tasks: Iterable[Snapshot]) -> None:
        """Send a stream of a user the tasks that were read after it joined."""
        with self._lock:
            for task in tasks:
                topic = stream.topic
                if topic is None:
                    return
                if topic.revisions.get(task.id, -1) == task.revision:
                    topic.last_id = max(topic.last_id, task.revision)
                    metrics.frames_sent.inc()
                    stream.send(task.id, Frame.of(sse.snapshot(task.revision, task.json)))
                else:
                    self._tell_user(topic, task)

    def _join(self, home: dict[int, Topic], key: int, stream: Stream, floor: int = 0) -> Topic:
        topic = home.get(key)
        if topic is None:
            topic = home[key] = Topic(key, home, floor)
        topic.streams.add(stream)
        stream.topic = topic
        stream.last_frame = self.clock()
        self._set_timer(stream)
        if stream.is_counted:
            self._open[stream.user_id] += 1
            self._total += 1
            metrics.streams_open.inc()
        return topic

    def leave(self, stream: Stream, reason: str = "client") -> None:
        """Forget a stream; it may have left already."""
        with self._lock:
            topic = stream.topic
            if topic is None:
                return
            stream.topic = None
            topic.streams.discard(stream)
            if not topic.streams:
                topic.home.pop(topic.key, None)
            if stream.is_counted:
                self._give_up_place(stream.user_id, reason)

    def _give_up_place(self, user_id: int, reason: str) -> None:
        metrics.streams_open.dec()
        metrics.streams_ended.labels(reason).inc()
        self._total -= 1
        self._open[user_id] -= 1
        if not self._open[user_id]:
            del self._open[user_id]

    def refusal(self, user_id: int) -> str | None:
        """Why a new stream of this user cannot be opened now: "busy", "shutdown", or None if it can."""
        full = self._total >= self._max_streams or self._open.get(user_id, 0) >= self._max_streams_per_user
        reason = self.closing or ("busy" if full else None)
        if reason:
            metrics.streams_refused.labels(reason).inc()
        return reason

    # What changed.

    def watched(self, keys: Iterable[tuple[int, int]]) -> set[int]:
        """Of changed tasks, given as `(id, user_id)`, the ids that somebody follows."""
        with self._lock:
            return {task for task, user in keys if task in self._tasks or user in self._users}

    def task_revisions(self) -> dict[int, int]:
        """The newest revision sent of every task that is followed by its own."""
        with self._lock:
            return {key: topic.revisions.get(key, -1) for key, topic in self._tasks.items()}

    def user_floors(self) -> dict[int, int]:
        """The users whose tasks are followed together, each with the revision at which that began."""
        with self._lock:
            return {user: topic.floor for user, topic in self._users.items()}

    def user_revisions(self) -> dict[int, int]:
        """Of every task that a user's streams were sent, the revision that they have."""
        with self._lock:
            return {task: sent for topic in self._users.values() for task, sent in topic.revisions.items()}

    def publish(self, task: Snapshot) -> None:
        """Give a snapshot to everybody who follows the task and does not have it."""
        with self._lock:
            topic = self._tasks.get(task.id)
            if topic is not None and topic.is_news(task):
                self._deliver(topic, task, ending(task))
            topic = self._users.get(task.user_id)
            if topic is not None and not topic.is_history(task):
                self._tell_user(topic, task)

    def _tell_user(self, topic: Topic, task: Snapshot) -> None:
        if topic.is_news(task):
            # Ids of one connection ascend, even where a slow transaction committed a lower revision late.
            topic.last_id = max(topic.last_id, task.revision)
            self._deliver(topic, task, Frame.of(sse.snapshot(topic.last_id, task.json)))

    def gone(self, task_id: int) -> None:
        """Close the streams of a task that was deleted; who comes back gets a 404."""
        with self._lock:
            topic = self._tasks.get(task_id)
            for stream in list(topic.streams) if topic else ():
                self._finish(stream, task_id, None, "deleted")

    def _deliver(self, topic: Topic, task: Snapshot, frame: Frame) -> None:
        metrics.frames_sent.inc(len(topic.streams))
        streams = list(topic.streams)
        for start in range(0, len(streams), STREAMS_PER_TURN):
            if start:
                self._pause()
            self._give(topic, streams[start : start + STREAMS_PER_TURN], task, frame)

    def _give(self, topic: Topic, streams: list[Stream], task: Snapshot, frame: Frame) -> None:
        # The loop that every frame goes through: what is the same for all is looked up before.
        key, revision, now, is_task = task.id, task.revision, self.clock(), topic.home is self._tasks
        ends = is_task and task.status.is_final  # a user's stream goes on
        for stream in streams:
            if stream.topic is not topic or (is_task and stream.cursor >= revision):
                continue  # it left while others had their turn; or it has seen this
            stream.cursor = revision
            stream.last_frame = now
            if ends:
                self._finish(stream, key, frame, "done")
            else:
                stream.send(key, frame)

    def _finish(self, stream: Stream, key: int, frame: Frame | None, reason: str) -> None:
        self.leave(stream, reason)
        stream.finish(key, frame)

    # Time.

    def _set_timer(self, stream: Stream, due: float | None = None) -> None:
        """Every stream has one timer, until one finds it gone."""
        if due is None:
            due = min(stream.last_frame + KEEP_ALIVE_SECONDS, stream.deadline)
        heapq.heappush(self._timers, (due, next(self._numbers), stream))

    def tick(self) -> float | None:
        """Do what is due by the clock; how many seconds until the next call is, or None while nothing is open."""
        with self._lock:
            now = self.clock()
            while self._timers and self._timers[0][0] <= now + TICK_SECONDS:
                _, _, stream = heapq.heappop(self._timers)
                self._look_after(stream, now)
            return max(TICK_SECONDS, self._timers[0][0] - TICK_SECONDS - now) if self._timers else None

    def _look_after(self, stream: Stream, now: float) -> None:
        stalled_since = stream.stalled_since()
        if stalled_since is not None and now - stalled_since > STALL_SECONDS:
            self.leave(stream, "stalled")
            stream.drop()
        elif stream.topic is None:
            if stalled_since is not None:  # ended, but its client has yet to take the last frame
                self._set_timer(stream, now + KEEP_ALIVE_SECONDS)
        elif stream.deadline <= now + TICK_SECONDS:
            self._finish(stream, 0, farewell(stream.deadline_reason), stream.deadline_reason)
            self._set_timer(stream, now + KEEP_ALIVE_SECONDS)
        else:
            self._keep_alive(stream, now, quiet=stalled_since is None)
            self._set_timer(stream)

    def _keep_alive(self, stream: Stream, now: float, *, quiet: bool) -> None:
        if stream.last_frame + KEEP_ALIVE_SECONDS <= now + TICK_SECONDS:
            stream.last_frame = now
            if quiet:
                stream.send(0, KEEP_ALIVE)

    def close(self, reason: str) -> None:
        """Say bye to every stream, and let nobody in any more."""
        with self._lock:
            self.closing = reason
            topics = [*self._tasks.values(), *self._users.values()]
            for number, stream in enumerate([stream for topic in topics for stream in topic.streams], 1):
                self._finish(stream, 0, farewell(reason), reason)
                if not number % STREAMS_PER_TURN:
                    self._pause()
