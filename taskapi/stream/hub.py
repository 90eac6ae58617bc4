"""Who follows which task, and how far they are: snapshots in, frames out.

Two kinds of topic: a task's (its streams end with the task) and a user's (all of the user's tasks; no end). One
frame is encoded per change and topic, and given to every stream of it.

Who is up to date is told by equality: a revision that differs from a stream's is news to it. After a restore the rows
are older than what was sent; the sweep finds that and starts the topic over.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .. import metrics
from ..database.models import Snapshot
from ..forecast import Forecast, has_changed
from . import sse
from .frames import ending, farewell, for_admins, told
from .sse import KEEP_ALIVE, Frame
from .streams import Places, Stream, Topic
from .topics import TaskTopic, UserTopic

# A comment after so many seconds without a frame keeps proxies from closing a quiet stream (HTML standard, 9.2.7).
KEEP_ALIVE_SECONDS = 15.0
# Timers run at most this often, and early rather than late: waking up costs more than looking.
TICK_SECONDS = 1.0
# A client that has not taken the bytes it was sent for so long is dropped.
STALL_SECONDS = 30.0
# How many streams get a frame, and how many frames one stream, before other work of the process may run.
STREAMS_PER_TURN = 256
FRAMES_PER_TURN = 100

# What a topic's streams were given, for another process: whether it is a user's, and what it is restored from.
State = tuple[bool, list[Any]]
# What is to be given to a topic's streams.
Delivery = tuple[Topic, Snapshot, Frame]


class Hub:
    """The book of open streams of one process. Every method may be called from any thread."""

    def __init__(
        self,
        streams: Places,
        waits: Places,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self._streams = streams
        self._waits = waits
        self._pause = pause
        self._lock = threading.RLock()
        self._tasks: dict[int, TaskTopic] = {}
        self._users: dict[int, UserTopic] = {}
        self._timers: list[tuple[float, int, Stream]] = []
        self._numbers = itertools.count()
        self._frames = 0  # given, and not yet counted
        self.closing: str | None = None  # why nobody is let in any more

    def __len__(self) -> int:
        """How many streams are open, held requests not counted."""
        return self._streams.total

    @property
    def is_followed(self) -> bool:
        """Whether anybody, stream or held request, waits for news."""
        return bool(self._tasks or self._users)

    # Joining and leaving.

    def admit(self, stream: Stream, most: int) -> str | None:
        """Take a place for a stream, before anything is asked of the database; why there is none, else None.

        `most`: how many streams there may be where this one is served. The place is given back by `leave`.
        """
        reason = self._take_place(stream, most)
        if reason is None:
            _count(stream)
        elif not stream.is_held:
            metrics.streams_refused.labels(reason).inc()
        return reason

    def _take_place(self, stream: Stream, most: int) -> str | None:
        places = self._waits if stream.is_held else self._streams
        with self._lock:
            reason = self.closing or (None if places.take(stream.user_id, most) else "busy")
            if reason is None:
                stream.places = places
        return reason

    def leave(self, stream: Stream, reason: str = "client") -> None:
        """Forget a stream, and give back its place; it may have left already."""
        if not self._give_place_back(stream):
            return
        if stream.is_held:
            metrics.polls_held.dec()
            return
        metrics.streams_open.dec()
        metrics.streams_ended.labels(reason).inc()

    def _give_place_back(self, stream: Stream) -> bool:
        with self._lock:
            self._part(stream)
            places, stream.places = stream.places, None
            if places is not None:
                places.give_back(stream.user_id)
        return places is not None

    def _part(self, stream: Stream) -> None:
        topic = stream.topic
        if topic is None:
            return
        stream.topic = None
        topic.streams.discard(stream)
        found: Topic | None = topic.home.get(topic.key)
        if not topic.streams and found is topic:
            del topic.home[topic.key]

    def follow_task(self, task: Snapshot, stream: Stream) -> bool:
        """Let a stream follow a task; what it does not have is sent at once.

        True if the caller must have the row read again: nobody followed this task before, so that a change between
        the caller's reading and this call was seen by nobody; or others have another snapshot of it.
        """
        with self._lock:
            topic = self._tasks.get(task.id)
            is_first = topic is None or not self._keeps(topic, task)
            if topic is None or is_first:
                topic = TaskTopic(task.id, self._tasks, task)
            self._join(topic, stream)
            is_newer = task.revision > topic.newest.revision
            if is_newer:
                self._deliver(topic, task, topic.frame(task))
            else:
                topic.has_stragglers = topic.has_stragglers or task.revision != topic.newest.revision
                self._give(topic, [stream], task, ending(task))
            if topic.forecast is not None:
                self._foretell(topic, [stream], told(topic.forecast))
            self._count_frames()
            return not is_newer and (is_first or topic.has_stragglers)

    def follow_user(self, user_id: int, began: int, ended: Mapping[int, int], stream: Stream) -> None:
        """Let a stream follow all tasks of a user, from this moment (of the database's clock) on.

        `ended`: tasks that had ended by then, by id and revision; they are no news to it. The caller reads those that
        are not final afterwards, and `introduce`s them.
        """
        with self._lock:
            topic = self._users.get(user_id) or UserTopic(user_id, self._users, began)
            topic.ended |= {task: revision for task, revision in ended.items() if topic.known(task) == -1}
            self._join(topic, stream)

    def introduce(self, stream: Stream, tasks: Sequence[Snapshot], *, is_cut: bool = False) -> bool:
        """Send a stream of a user the tasks that were read after it joined, a turn at a time.

        `is_cut`: there are older ones beyond them, which are no news until they change.
        False if the user's streams were given a newer one of any: it came meanwhile, or the row went back.
        """
        in_order = True
        if is_cut and isinstance(stream.topic, UserTopic):
            stream.topic.is_cut = True
        for start in range(0, len(tasks), FRAMES_PER_TURN):
            if start:
                self._pause()
            with self._lock:
                turn = tasks[start : start + FRAMES_PER_TURN]
                in_order &= sum(self._introduce(stream, task) for task in turn) == len(turn)
                self._count_frames()
        return in_order

    def _introduce(self, stream: Stream, task: Snapshot) -> bool:
        topic = stream.topic
        if not isinstance(topic, UserTopic):
            return True  # it has left
        known = topic.known(task.id)
        if known < task.revision:
            self._deliver(topic, task, topic.frame(task))
        elif known == task.revision:
            topic.last_id = max(topic.last_id, task.revision)
            self._frames += 1
            stream.send(task.id, Frame.of(sse.snapshot(task.revision, task.json_for(stream.is_admin))))
            self._tell_of_cancellation(topic, [stream], task)
        return known <= task.revision

    def _join(self, topic: Topic, stream: Stream) -> None:
        topic.home[topic.key] = topic
        topic.streams.add(stream)
        stream.topic = topic
        stream.last_frame = self.clock()
        self._set_timer(stream)

    # From one process to another.

    def part(self, streams: Iterable[Stream]) -> list[State | None]:
        """Take streams out of what they follow; they keep their places. The state of each one's topic, as it is left.

        None of one that has ended, but for what its client has yet to take.
        """
        with self._lock:
            topics = [stream.topic for stream in streams]
            states = {topic: self._state(topic) for topic in topics if topic is not None}
            for stream in streams:
                self._part(stream)
        return [None if topic is None else states[topic] for topic in topics]

    def _state(self, topic: Topic) -> State:
        return isinstance(topic, UserTopic), topic.state

    def admit_handed(self, stream: Stream) -> bool:
        """Take a place for a stream of another process, if there is one; it was counted as opened there."""
        is_admitted = self._take_place(stream, sys.maxsize) is None
        if is_admitted:
            metrics.streams_open.inc()
        return is_admitted

    def leave_handed(self, stream: Stream) -> None:
        """Forget a stream that goes on in another process, and will be counted as ended there."""
        if self._give_place_back(stream):
            metrics.streams_open.dec()
            metrics.streams_handed_over.inc()

    def adopt(self, streams: Iterable[Stream], state: State) -> dict[int, int]:
        """Let streams that have places follow what they followed in another process, as they left it.

        The tasks, given as `{id: user_id}`, that the caller must have read again.
        """
        is_of_user, values = state
        with self._lock:
            here = [stream for stream in streams if stream.places is not None]  # the others' clients have left
            if is_of_user:
                return self._adopt_of_user(here, UserTopic.restored(self._users, *values))
            return self._adopt_of_task(here, TaskTopic.restored(self._tasks, *values))

    def _adopt_of_task(self, streams: list[Stream], handed: TaskTopic) -> dict[int, int]:
        task = handed.newest
        topic = self._tasks.get(task.id, handed)
        for stream in streams:
            if (topic.newest.task_id, topic.newest.user_id) != (task.task_id, task.user_id):
                self._finish(stream, task.id, None, "deleted")
                continue
            topic.has_stragglers = topic.has_stragglers or stream.cursor != topic.newest.revision
            self._join(topic, stream)
        return {task.id: task.user_id}

    def _adopt_of_user(self, streams: list[Stream], handed: UserTopic) -> dict[int, int]:
        topic = self._users.get(handed.key, handed)
        differ = set() if topic is handed else topic.merge(handed)
        for stream in streams:
            self._join(topic, stream)
        return dict.fromkeys({*differ, *topic.active}, topic.key)

    def see_off(self, stream: Stream) -> None:
        """Give the client of a stream that has ended the time to take what it is owed."""
        with self._lock:
            self._set_timer(stream, self.clock() + KEEP_ALIVE_SECONDS)

    def dismiss(self, streams: Iterable[Stream], reason: str) -> None:
        """Say bye to streams, whatever they follow."""
        with self._lock:
            for number, stream in enumerate(streams, 1):
                self._finish(stream, 0, farewell(reason), reason)
                if not number % STREAMS_PER_TURN:
                    self._pause()

    def answer_held(self) -> None:
        """Let held requests wait no longer."""
        self.dismiss([stream for stream in self._all() if stream.is_held], "shutdown")

    # What changed.

    def followed(self, keys: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Of changed tasks, given as `(id, user_id)`, those that somebody follows, as `{id: user_id}`."""
        with self._lock:
            return {task: user for task, user in keys if task in self._tasks or user in self._users}

    def known(self, keys: Mapping[int, int]) -> dict[int, int]:
        """Of tasks, given as `{id: user_id}`, the revision that all their streams have; -1 where that is none."""
        with self._lock:
            return {task: self._known(task, user) for task, user in keys.items()}

    def _known(self, task_id: int, user_id: int) -> int:
        topic, user = self._tasks.get(task_id), self._users.get(user_id)
        if topic is None:
            return -1 if user is None else user.known(task_id)
        revision = -1 if topic.has_stragglers else topic.newest.revision
        return revision if user is None or user.known(task_id) == revision else -1

    def revisions(self) -> dict[int, int]:
        """Of every task that is not known to have ended, the revision that its streams have."""
        with self._lock:
            known: dict[int, int] = {}
            for user in self._users.values():
                known.update(user.active)
            for key, topic in self._tasks.items():
                # The older one where two topics differ: whoever has less must be noticed.
                known[key] = min(topic.newest.revision, known.get(key, topic.newest.revision))
            return known

    def users(self) -> list[int]:
        """The users whose tasks are followed together."""
        with self._lock:
            return list(self._users)

    def topics(self, most: int) -> tuple[dict[int, int], list[int]] | None:
        """The tasks that are followed, as `{id: user_id}`, and the users; None if they are more than so many."""
        with self._lock:
            if len(self._tasks) + len(self._users) > most:
                return None
            return {key: topic.newest.user_id for key, topic in self._tasks.items()}, list(self._users)

    def is_news(self, task_id: int, user_id: int, revision: int) -> bool:
        """Whether a user's streams have another revision of a task than this."""
        with self._lock:
            topic = self._users.get(user_id)
            if topic is None:
                return False
            known = topic.known(task_id)
            return known != revision and not (topic.is_cut and known == -1 and revision <= topic.began)

    def publish(self, tasks: Sequence[Snapshot]) -> bool:
        """Give snapshots to everybody who follows their tasks and does not have them.

        False if somebody was given a newer one before: either it was read a moment ago, or its row went back.
        """
        in_order = True
        for start in range(0, len(tasks), FRAMES_PER_TURN):
            if start:
                self._pause()
            with self._lock:
                deliveries: list[Delivery] = []
                for task in tasks[start : start + FRAMES_PER_TURN]:
                    in_order &= self._note(task, deliveries)
                # All of them in one go: a client that is still awake is cheaper to write to.
                for delivery in deliveries:
                    self._deliver(*delivery)
                self._count_frames()
        return in_order

    def _note(self, task: Snapshot, deliveries: list[Delivery]) -> bool:
        """Note a snapshot in the topics to which it is news, and what is to be delivered; whether none was newer."""
        in_order = True
        topic, user = self._tasks.get(task.id), self._users.get(task.user_id)
        if topic is not None and self._keeps(topic, task):
            in_order = task.revision >= topic.newest.revision
            if task.revision > topic.newest.revision or (in_order and topic.has_stragglers):
                deliveries.append((topic, task, topic.frame(task)))
        if user is not None and (known := user.known(task.id)) != task.revision:
            in_order = in_order and known < task.revision
            if known < task.revision and not (known == -1 and user.is_history(task)):
                deliveries.append((user, task, user.frame(task)))
        return in_order

    def is_streamed(self, task_id: int) -> bool:
        """Whether any stream, not only held requests, follows a task."""
        with self._lock:
            topic = self._tasks.get(task_id)
            return topic is not None and not all(stream.is_held for stream in topic.streams)

    def foretell(self, task_id: int, forecast: Forecast) -> None:
        """Tell those who follow a task what is expected of it, if they were not told nearly the same before."""
        with self._lock:
            topic = self._tasks.get(task_id)
            if topic is None or not (topic.forecast is None or has_changed(topic.forecast, forecast, time.time())):
                return
            topic.forecast = forecast
            frame, streams = told(forecast), list(topic.streams)
            for start in range(0, len(streams), STREAMS_PER_TURN):
                if start:
                    self._pause()
                self._foretell(topic, streams[start : start + STREAMS_PER_TURN], frame)
            self._count_frames()

    def _foretell(self, topic: TaskTopic, streams: Iterable[Stream], frame: Frame) -> None:
        told = [stream for stream in streams if stream.topic is topic and not stream.is_held]
        for stream in told:
            stream.last_frame = self.clock()
            stream.send(~topic.key, frame)  # beside the snapshot, which it must not replace
        self._frames += len(told)

    def start_over(self, task_ids: Iterable[int]) -> None:
        """Forget what was sent of rows that went back: what is read of them next is news to everybody."""
        with self._lock:
            for task_id in task_ids:
                topic = self._tasks.get(task_id)
                if topic is not None:
                    topic.newest = topic.newest._replace(revision=-1)
                    topic.untell(task_id)
                for user in self._users.values():
                    user.forget(task_id)
                    user.untell(task_id)

    def disown(self, owners: Mapping[int, int]) -> None:
        """Forget, of a user's tasks, those that belong to somebody else now."""
        with self._lock:
            for user_id, topic in self._users.items():
                for task_id in [task for task in topic.active if owners.get(task, user_id) != user_id]:
                    topic.forget(task_id)

    def forget_ended(self, before: int) -> None:
        """Forget tasks that ended before a moment (of the database's clock)."""
        with self._lock:
            for topic in self._users.values():
                topic.ended = {task: revision for task, revision in topic.ended.items() if revision >= before}

    def _keeps(self, topic: TaskTopic, task: Snapshot) -> bool:
        """Whether a snapshot is of the topic's own task; else the topic's streams end.

        After a restore an id is used again: then another task's row would be shown. A row that has another owner
        now is for its previous one's eyes no more; an administrator's stream goes on.
        """
        mine = topic.newest.task_id == task.task_id
        if not mine or topic.newest.user_id != task.user_id:
            for stream in list(topic.streams):
                if not (mine and stream.is_admin):
                    self._finish(stream, task.id, None, "deleted")
        return bool(topic.streams)

    def gone(self, task_id: int) -> None:
        """Close the streams of a task that was deleted; who comes back gets a 404."""
        with self._lock:
            topic = self._tasks.get(task_id)
            for stream in list(topic.streams) if topic else ():
                self._finish(stream, task_id, None, "deleted")
            for user in self._users.values():
                user.forget(task_id)

    def _deliver(self, topic: Topic, task: Snapshot, frame: Frame) -> None:
        streams = list(topic.streams)
        for start in range(0, len(streams), STREAMS_PER_TURN):
            if start:
                self._pause()
            self._give(topic, streams[start : start + STREAMS_PER_TURN], task, frame)

    def _give(self, topic: Topic, streams: list[Stream], task: Snapshot, frame: Frame) -> None:
        if task.admin_json is not None:
            admins = [stream for stream in streams if stream.is_admin]
            self._give_frame(topic, admins, task, for_admins(frame, task))
            self._give_frame(topic, [stream for stream in streams if not stream.is_admin], task, frame)
        else:
            self._give_frame(topic, streams, task, frame)
        self._tell_of_cancellation(topic, streams, task)

    def _tell_of_cancellation(self, topic: Topic, streams: list[Stream], task: Snapshot) -> None:
        """Tell those that do not know it yet, once, behind a snapshot."""
        if task.cancel_requested_at is None:
            return
        name = None if topic.home is self._tasks else task.task_id
        frame = Frame.of(sse.cancelling(task.cancel_requested_at, name))
        for stream in streams:
            if stream.topic is topic and task.id not in stream.cancelling:
                stream.cancelling |= {task.id}
                stream.send(-task.id, frame)  # a key of its own: no newer snapshot takes its place

    def _give_frame(self, topic: Topic, streams: list[Stream], task: Snapshot, frame: Frame) -> None:
        # The loop that every frame goes through: what is the same for all is looked up before.
        key, revision, now, is_task, given = task.id, task.revision, self.clock(), topic.home is self._tasks, 0
        ends = is_task and task.status.is_final  # a user's stream goes on
        for stream in streams:
            if stream.topic is not topic or (is_task and stream.cursor == revision):
                continue  # it left while others had their turn; or it has seen this
            given += 1
            stream.cursor = revision
            stream.last_frame = now
            if ends:
                self._finish(stream, key, frame, "done")
            else:
                stream.send(key, frame)
        self._frames += given

    def _count_frames(self) -> None:
        # Those of many tasks at once: to count costs as much as to encode.
        metrics.frames_sent.inc(self._frames)
        self._frames = 0

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
            self.dismiss(self._all(), reason)

    def _all(self) -> list[Stream]:
        with self._lock:
            return [stream for topic in (*self._tasks.values(), *self._users.values()) for stream in topic.streams]


def _count(stream: Stream) -> None:
    """Count a stream, or a poll that is held, that comes."""
    if stream.is_held:
        metrics.polls_held.inc()
        return
    metrics.streams_opened.inc()
    metrics.streams_open.inc()
