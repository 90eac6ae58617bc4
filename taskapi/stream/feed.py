"""How this process learns that rows changed. Knows neither who watches nor what a row holds.

The one rule: a feed only says *read again*. It names the tasks that changed, or says that anything may have
(`gap`), which is what it says whenever it cannot be sure of having heard everything. Losing a word of it costs a
delay until the broadcaster's next sweep, never an update.
"""

from __future__ import annotations

import itertools
import logging
import math
import select
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from .. import metrics
from ..database import engine_options, prepare
from ..models import CHANNEL
from ..store import Store
from .files import DatabaseFiles

log = logging.getLogger(__name__)

# However often rows change, SQLite is read at most this often.
GAP_SECONDS = 0.005
# A write to its files is noticed a moment before it is committed. So SQLite is looked at when it is written to, and a
# moment after; and again and again, after pauses that grow fourfold, in case that the writer was held up in between.
COMMIT_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 1.0
# PostgreSQL: until the first notification, which the feed sends itself, must have come back; then between two.
CANARY_SECONDS = 5.0
CANARY_INTERVAL_SECONDS = 30.0
RETRY_SECONDS = 1.0
# Of a task's changes within 50 ms only the first is announced (see the table's triggers), so each announcement is
# heeded twice: at once, and when that window is over and what was written in it has been committed.
SECOND_READ_SECONDS = 0.1

OUTAGES = (SQLAlchemyError, psycopg.Error, sqlite3.Error, OSError)


class Listener(Protocol):
    """Who is told."""

    def changed(self, keys: Iterable[tuple[int, int]]) -> None:
        """These tasks, given as `(id, user_id)`, have changed."""

    def gap(self) -> None:
        """Anything may have changed."""


class Feed(ABC):
    """Watches the database for changed rows, for as long as somebody is interested."""

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
        """Say whether anybody watches any task."""
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
                unexpected = not isinstance(error, OUTAGES)
                if self.connected or unexpected:
                    log.warning("the change feed is interrupted: %s", type(error).__name__, exc_info=unexpected)
                self.connected = False
            time.sleep(RETRY_SECONDS)

    @abstractmethod
    def _watch(self) -> None:
        """Connect and watch, until an error."""


class SqliteFeed(Feed):
    """Looks at `PRAGMA data_version` (3 µs), which changes when another connection has committed."""

    def _watch(self) -> None:
        engine = self._store.engine
        with engine.connect() as connection, DatabaseFiles(str(engine.url.database)) as files:
            cursor: Any = connection.connection.cursor()
            self.connected = True
            while True:
                self._wanted.wait()
                self._follow(cursor, files)

    def _follow(self, cursor: Any, files: DatabaseFiles) -> None:
        version, revision = None, self._store.last_revision()
        written, pause = False, COMMIT_SECONDS
        self._listener.gap()  # nobody looked until now
        while self._wanted.is_set():
            current = cursor.execute("PRAGMA data_version").fetchone()
            if current != version:
                version, revision, pause = current, self._tell(revision), COMMIT_SECONDS
                time.sleep(GAP_SECONDS)
            elif written:
                written = False
                time.sleep(COMMIT_SECONDS)
            else:
                written = files.wait(pause)
                pause = COMMIT_SECONDS if written else min(4 * pause, LONGEST_PAUSE_SECONDS)

    def _tell(self, revision: int) -> int:
        changes = self._store.changed_since(revision)
        if not changes:
            return revision
        self._listener.changed((task, user) for task, user, _ in changes)
        return changes[-1][2]


class PostgresqlFeed(Feed):
    """Listens to the notifications that the table's trigger sends on commit."""

    def _watch(self) -> None:
        url = self._store.engine.url
        options = _without_pool(engine_options(url))
        # Nothing to roll back: trying to, on a connection that broke, only fills the log.
        engine = sa.create_engine(url, poolclass=NullPool, pool_reset_on_return=None, **options)
        prepare(engine)
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.autocommit = True
            driver.execute(f"LISTEN {CHANNEL}")
            self._listener.gap()
            time.sleep(SECOND_READ_SECONDS)  # the changes that follow an announcement which we did not hear
            self._listener.gap()
            self._listen(driver)

    def _listen(self, driver: psycopg.Connection[Any]) -> None:
        readable = select.poll()
        readable.register(driver.fileno(), select.POLLIN)
        second = SecondReads()
        heard = sent = 0.0
        while True:
            now = time.monotonic()
            if heard >= sent and now - sent > CANARY_INTERVAL_SECONDS:
                sent = now
                self._store.send_canary()
            elif heard < sent and now - sent > CANARY_SECONDS:
                log.error("notifications do not arrive; is there a transaction pooler before PostgreSQL?")
                raise psycopg.OperationalError("the canary did not come back")
            payloads = [notify.payload for notify in driver.notifies(timeout=0)]
            if "" in payloads:
                heard, self.connected = now, True
            keys = _keys(payloads)
            self._listener.changed(keys | second.due(now))
            second.plan(keys, now)
            patience = CANARY_SECONDS if heard < sent else CANARY_INTERVAL_SECONDS
            readable.poll(1000.0 * min(patience, second.wait(now)))


class SecondReads:
    """The tasks that are to be read again a little later, given as `(id, user_id)`."""

    def __init__(self) -> None:
        self._due: dict[tuple[int, int], float] = {}  # in the order of time

    def plan(self, keys: Iterable[tuple[int, int]], now: float) -> None:
        """Remember tasks that were announced now; an earlier plan for them is settled by the read that follows."""
        for key in keys:
            self._due.pop(key, None)
            self._due[key] = now + SECOND_READ_SECONDS

    def due(self, now: float) -> set[tuple[int, int]]:
        """Take those whose time has come."""
        due = {key for key, _ in itertools.takewhile(lambda item: item[1] <= now, self._due.items())}
        for key in due:
            del self._due[key]
        return due

    def wait(self, now: float) -> float:
        """The seconds until the next one."""
        return max(0.0, next(iter(self._due.values())) - now) if self._due else math.inf


def _without_pool(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not name.startswith("pool")}


def _keys(payloads: Iterable[str]) -> set[tuple[int, int]]:
    return {_key(payload) for payload in payloads if payload}


def _key(payload: str) -> tuple[int, int]:
    task, _, user = payload.partition(":")
    return int(task), int(user)


def open_feed(store: Store, listener: Listener) -> Feed:
    """The feed for the store's database."""
    kind = SqliteFeed if store.engine.dialect.name == "sqlite" else PostgresqlFeed
    return kind(store, listener)
