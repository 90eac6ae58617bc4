"""What can be followed: one task, or all tasks of a user; and what those who follow it were given."""

from __future__ import annotations

from typing import Any

from ..database.models import Snapshot, TaskStatus
from ..forecast import Forecast
from . import sse
from .frames import ending
from .sse import Frame
from .streams import Topic

# Of the database's clock, of which revisions are made.
MICROSECONDS = 1_000_000
# A transaction may commit so long after its revision was drawn: a user's topic remembers for twice as long which tasks
# have ended, so that none of them is shown as news.
LATE_COMMIT = 60 * MICROSECONDS


class TaskTopic(Topic):
    """The streams that follow one task, the newest snapshot that they were given, and what is expected of it."""

    __slots__ = ("forecast", "has_stragglers", "newest")

    def __init__(self, key: int, home: dict[int, Any], newest: Snapshot) -> None:
        super().__init__(key, home)
        self.newest = newest
        self.forecast: Forecast | None = None
        # A stream was let in with another snapshot than the newest: whichever is right, it is to be read again.
        self.has_stragglers = False

    @classmethod
    def restored(cls, home: dict[int, Any], key: int, user_id: int, task_id: str, revision: int) -> TaskTopic:
        """The topic as it was in another process: what was said of the task there, nobody is shown again."""
        return cls(key, home, Snapshot(key, user_id, task_id, TaskStatus.RUNNING, revision, b""))

    @property
    def state(self) -> list[Any]:
        """What `restored` takes, behind the home."""
        return [self.key, self.newest.user_id, self.newest.task_id, self.newest.revision]

    def frame(self, task: Snapshot) -> Frame:
        """Note a snapshot as the newest, and make its frame."""
        self.newest, self.has_stragglers = task, False
        return ending(task)


class UserTopic(Topic):
    """The streams that follow all tasks of one user, and of each task the revision that they have.

    `active` are asked about at every sweep; `ended` only tell for a while what is no news any more.
    """

    __slots__ = ("active", "began", "ended", "is_cut", "last_id")

    def __init__(self, key: int, home: dict[int, Any], began: int) -> None:
        super().__init__(key, home)
        self.began = began  # by the database's clock, of which revisions are made
        self.is_cut = False  # whether there were more tasks than a stream is to begin with
        self.active: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.last_id = 0

    @classmethod
    def restored(cls, home: dict[int, Any], key: int, began: int, is_cut: bool, last_id: int, *known: Any) -> UserTopic:
        """The topic as it was in another process."""
        topic = cls(key, home, began)
        topic.is_cut, topic.last_id = is_cut, last_id
        topic.active, topic.ended = map(dict, known)
        return topic

    @property
    def state(self) -> list[Any]:
        """What `restored` takes, behind the home."""
        return [self.key, self.began, self.is_cut, self.last_id, list(self.active.items()), list(self.ended.items())]

    def merge(self, other: UserTopic) -> set[int]:
        """Take the streams of another process's topic in; the tasks of which they and ours had different revisions.

        These are news to all of them.
        """
        tasks = {*self.active, *other.active, *other.ended}
        differ = {task for task in tasks if self.known(task) != other.known(task)}
        for task in differ:
            self.forget(task)
        self.is_cut, self.last_id = self.is_cut or other.is_cut, max(self.last_id, other.last_id)
        return differ

    def known(self, task_id: int) -> int:
        """The revision of a task that the streams have, or -1."""
        return self.active.get(task_id, self.ended.get(task_id, -1))

    def remember(self, task: Snapshot) -> None:
        """Note what the streams are given now."""
        self.forget(task.id)
        (self.ended if task.status.is_final else self.active)[task.id] = task.revision

    def forget(self, task_id: int) -> None:
        """Note that a task is gone, or that its row went back."""
        self.active.pop(task_id, None)
        self.ended.pop(task_id, None)

    def frame(self, task: Snapshot) -> Frame:
        """Remember a snapshot, and make its frame."""
        self.remember(task)
        # Ids of one connection ascend, even where a slow transaction committed a lower revision late.
        self.last_id = max(self.last_id, task.revision)
        return Frame.of(sse.snapshot(self.last_id, task.json))

    def is_history(self, task: Snapshot) -> bool:
        """Whether a task ended long before anybody followed it here."""
        return task.status.is_final and task.revision <= self.began - LATE_COMMIT
