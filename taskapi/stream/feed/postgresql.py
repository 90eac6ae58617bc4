"""How this process learns that rows of a PostgreSQL database changed."""

from __future__ import annotations

import contextlib
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
from .base import Feed, Pace

log = logging.getLogger(__name__)

# Until the first notification, which the feed sends itself, must have come back; then between two.
CANARY_SECONDS = 5.0
CANARY_INTERVAL_SECONDS = 30.0
# Of a task's changes within 50 ms only the first is announced (see the table's triggers), so each announced task is
# read again: when that window is over and what was written in it has been committed; then for commits that take long.
AGAIN_AFTER_SECONDS = (0.1, 0.5, 2.0)


class PostgresqlFeed(Feed):
    """Listens to the notifications that the table's trigger sends on commit."""

    outages = (DatabaseError, psycopg.Error, OSError)

    def _watch(self) -> None:
        with contextlib.closing(self._store.dialect.open_reader(self._store.url)) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._listener.gap()
            self._listen(connection)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        readable = select.poll()
        readable.register(connection.fileno(), select.POLLIN)
        again = Appointments()
        heard = sent = 0.0
        pace = Pace()
        # Changes that follow an announcement which we did not hear.
        gaps = [time.monotonic() + delay for delay in AGAIN_AFTER_SECONDS]
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
            payloads = _heard(connection)
            if "" in payloads:
                heard, self.connected = now, True
            keys = _keys(payloads)
            self._listener.changed(keys | again.due(now))
            again.plan(keys, now)
            if keys:
                pace.rest()
            patience = CANARY_SECONDS if heard < sent else CANARY_INTERVAL_SECONDS
            readable.poll(1000.0 * min(patience, again.wait(now), *(max(0.0, gap - now) for gap in gaps)))


class Appointments:
    """The tasks that are to be read again a little later, given as `(id, user_id)`."""

    def __init__(self) -> None:
        # For each delay what is due after it, in the order of time.
        self._due: dict[float, deque[tuple[float, set[tuple[int, int]]]]] = {
            delay: deque() for delay in AGAIN_AFTER_SECONDS
        }

    def plan(self, keys: set[tuple[int, int]], now: float) -> None:
        """Remember tasks that were announced now."""
        if keys:
            for delay, due in self._due.items():
                due.append((now + delay, keys))

    def due(self, now: float) -> set[tuple[int, int]]:
        """Take those whose time has come."""
        found: set[tuple[int, int]] = set()
        for due in self._due.values():
            while due and due[0][0] <= now:
                found |= due.popleft()[1]
        return found

    def wait(self, now: float) -> float:
        """The seconds until the next one."""
        first = [due[0][0] for due in self._due.values() if due]
        return max(0.0, min(first) - now) if first else math.inf


def _heard(connection: psycopg.Connection[Any]) -> list[str]:
    """The payloads that have come; straight from libpq, since `Connection.notifies` costs as much as reading a row."""
    connection.pgconn.consume_input()
    return [notify.extra.decode() for notify in iter(connection.pgconn.notifies, None)]


def _keys(payloads: Iterable[str]) -> set[tuple[int, int]]:
    return {_key(payload) for payload in payloads if payload}


def _key(payload: str) -> tuple[int, int]:
    task, _, user = payload.partition(":")
    return int(task), int(user)
