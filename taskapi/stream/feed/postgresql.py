"""How this process learns that rows of a PostgreSQL database changed."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import select
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import psycopg

from ...database.failures import DatabaseError
from ...database.postgresql import CANARY, CHANNEL
from ...database.store import Store
from .base import Feed, Following, Listener, Pace
from .following import BITS, EVERYTHING, KEYS_AT_MOST, Bell, Registration, keys_of

log = logging.getLogger(__name__)

# Until the first notification, which the feed sends itself, must have come back; then between two.
CANARY_SECONDS = 5.0
CANARY_INTERVAL_SECONDS = 30.0
# Of a task's changes within 50 ms only the first is announced (see the table's trigger), so each announced task is
# read again: when that window is over and what was written in it has been committed; then for commits that take long.
# So is what is followed anew: whoever was about to commit did not know.
AGAIN_AFTER_SECONDS = (0.1, 0.5, 2.0)

# What an announcement names: a task's id and its user's.
Key = tuple[int, int]


class PostgresqlFeed(Feed):
    """Listens to the notifications that the table's trigger sends on commit, of what is followed."""

    outages = (DatabaseError, psycopg.Error, OSError)

    def __init__(self, store: Store, listener: Listener) -> None:
        super().__init__(store, listener)
        self._following: Following | None = Following({}, ())
        self._bell: Bell | None = None

    def want(self, wanted: bool) -> None:
        """Have what is followed now announced. Many that come and go do not make it everything and back each time."""
        super().want(wanted)
        before = self._following
        following = self._listener.following(KEYS_AT_MOST if before is not None else KEYS_AT_MOST // 2)
        self._following = following
        if self._bell is not None and not keys_of(following) <= keys_of(before):
            self._bell.ring()

    def _watch(self) -> None:
        # Not before: the processes of a server that forks would share it.
        self._bell = self._bell or Bell()
        with contextlib.closing(self._store.dialect.open_reader(self._store.url)) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._listener.gap()
            self._listen(connection, self._bell)

    def _listen(self, connection: psycopg.Connection[Any], bell: Bell) -> None:
        readable = select.poll()
        readable.register(connection.fileno(), select.POLLIN)
        readable.register(bell.fileno(), select.POLLIN)
        inbox, registration, again, pace = Inbox(connection), Registration(connection), Appointments(), Pace()
        heard = sent = 0.0
        # Changes that follow an announcement which we did not hear.
        gaps = _later(time.monotonic())
        while True:
            now = time.monotonic()
            if gaps and gaps[0] <= now:
                gaps.pop(0)
                self._listener.gap()
            if heard >= sent and now - sent > CANARY_INTERVAL_SECONDS:
                sent = now
                self._store.reader.rows(CANARY, {})  # over another connection, as everybody's notifications come
            elif heard < sent and now - sent > CANARY_SECONDS:
                log.error("notifications do not arrive; is there a transaction pooler before PostgreSQL?")
                raise psycopg.OperationalError("the canary did not come back")
            bell.silence()
            following = self._following
            new = registration.tell(keys_of(following), now) if self.connected else frozenset()
            if any(key <= EVERYTHING for key in new):
                gaps = [now, *_later(now)]
            payloads = inbox.take()
            if "" in payloads:
                heard = now
                if not self.connected:
                    self.connected = True
                    bell.ring()  # what is followed is told now that it is of use
            keys = _keys(payloads) | _anew(following, new)
            self._listener.changed(keys | again.due(now))
            again.plan(keys, now)
            if keys or new:
                pace.rest()
            patience = CANARY_SECONDS if heard < sent else CANARY_INTERVAL_SECONDS
            readable.poll(1000.0 * min(patience, again.wait(now), *(max(0.0, gap - now) for gap in gaps)))


class Inbox:
    """The payloads of the notifications that come over a connection, while it is asked something, too."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._pgconn = connection.pgconn
        self._payloads: list[str] = []
        connection.add_notify_handler(lambda notify: self._payloads.append(notify.payload))

    def take(self) -> list[str]:
        """What has come; straight from libpq, since `Connection.notifies` costs as much as reading a row."""
        self._pgconn.consume_input()
        came = [notify.extra.decode() for notify in iter(self._pgconn.notifies, None)]
        payloads, self._payloads = self._payloads + came, []
        return payloads


def _later(now: float) -> list[float]:
    return [now + delay for delay in AGAIN_AFTER_SECONDS]


def _anew(following: Following | None, new: frozenset[int]) -> set[Key]:
    """The tasks that are told of from now on; of users' and of everything there is a gap."""
    if following is None:
        return set()
    return {(task, user) for task, user in following.tasks.items() if task & BITS in new}


class Appointments:
    """The tasks that are to be read again a little later, given as `(id, user_id)`.

    One that is announced once more before is read then, and has new appointments instead of the old ones: whatever
    follows, follows this announcement, too. So a task that changes all the time is not read four times a change.
    """

    def __init__(self) -> None:
        # For each delay what was announced together, and when; in the order of time. What was read after one delay
        # waits for the next.
        self._waiting: dict[float, deque[tuple[float, set[Key]]]] = {delay: deque() for delay in AGAIN_AFTER_SECONDS}
        self._announced: dict[Key, float] = {}  # last

    def plan(self, keys: set[Key], now: float) -> None:
        """Remember tasks that were announced now."""
        if keys:
            self._announced |= dict.fromkeys(keys, now)
            self._waiting[AGAIN_AFTER_SECONDS[0]].append((now, keys))

    def due(self, now: float) -> set[Key]:
        """Take those whose time has come."""
        found: set[Key] = set()
        for delay, later in itertools.zip_longest(AGAIN_AFTER_SECONDS, AGAIN_AFTER_SECONDS[1:]):
            waiting = self._waiting[delay]
            while waiting and waiting[0][0] + delay <= now:
                announced, keys = waiting.popleft()
                keys = {key for key in keys if self._announced[key] == announced}
                found |= keys
                if later is None:
                    self._forget(keys)
                elif keys:
                    self._waiting[later].append((announced, keys))
        return found

    def _forget(self, keys: set[Key]) -> None:
        for key in keys:
            del self._announced[key]

    def wait(self, now: float) -> float:
        """The seconds until the next one."""
        first = [waiting[0][0] + delay for delay, waiting in self._waiting.items() if waiting]
        return max(0.0, min(first) - now) if first else math.inf


def _keys(payloads: Iterable[str]) -> set[Key]:
    return {_key(payload) for payload in payloads if payload}


def _key(payload: str) -> Key:
    task, _, user = payload.partition(":")
    return int(task), int(user)
