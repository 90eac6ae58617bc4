"""An open connection, on what terms it is open, how many there may be, and those that follow the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, NamedTuple

from .sse import Frame


class Terms(NamedTuple):
    """On what terms a stream is open: for whom, what its client has, and when (by the hub's clock) it ends, and why."""

    user_id: int
    is_admin: bool
    cursor: int | None
    deadline: float
    deadline_reason: str


class Stream(ABC):
    """One open connection. The hub keeps its book in the first attributes; subclasses deliver bytes."""

    __slots__ = (
        "cancelling",
        "cursor",
        "deadline",
        "deadline_reason",
        "is_admin",
        "last_frame",
        "places",
        "topic",
        "user_id",
    )

    # A held request is no stream that operators count.
    is_held = False

    def __init__(self, terms: Terms) -> None:
        self.user_id = terms.user_id
        self.is_admin = terms.is_admin
        self.cursor = -1 if terms.cursor is None else terms.cursor
        self.deadline = terms.deadline
        self.deadline_reason = terms.deadline_reason
        self.last_frame = 0.0
        self.cancelling: frozenset[int] = frozenset()  # the tasks of which it was told so
        self.topic: Topic | None = None
        self.places: Places | None = None

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


class Places:
    """How many may be open at a time: in the process, and of one user."""

    __slots__ = ("_by_user", "_most", "_most_per_user", "total")

    def __init__(self, most: int, most_per_user: int) -> None:
        self._most = most
        self._most_per_user = most_per_user
        self._by_user: Counter[int] = Counter()
        self.total = 0

    def take(self, user_id: int, most: int) -> bool:
        """Take a place, of so many at most, if there is one."""
        if self.total >= min(most, self._most) or self._by_user[user_id] >= self._most_per_user:
            return False
        self._by_user[user_id] += 1
        self.total += 1
        return True

    def give_back(self, user_id: int) -> None:
        """Give up a place."""
        self.total -= 1
        self._by_user[user_id] -= 1
        if not self._by_user[user_id]:
            del self._by_user[user_id]


class Topic(ABC):
    """The streams that follow the same; `home` is where the hub finds them by `key`."""

    __slots__ = ("home", "key", "streams")

    def __init__(self, key: int, home: dict[int, Any]) -> None:
        self.key = key
        self.home = home
        self.streams: set[Stream] = set()

    @property
    @abstractmethod
    def state(self) -> list[Any]:
        """What its streams were given, for another process to go on from."""

    def untell(self, task_id: int) -> None:
        """Note that a cancellation of which the streams were told is undone: the next one is news."""
        for stream in self.streams:
            stream.cancelling -= {task_id}
