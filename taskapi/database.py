"""How a connection is opened, the same for the server, the CLI and the workers' helper. Knows no table."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import OperationalError

# How long a SQLite writer waits for another one, in seconds.
WRITE_LOCK_TIMEOUT = 20.0
# SQLite waits for a lock inside C, where gevent cannot switch: what is left to it is the rare, short waits of
# readers (recovery after a crash, the last close of a write-ahead log).
READ_LOCK_TIMEOUT = 0.25
# STRICT tables came with 3.37.
SQLITE_NEEDED = (3, 37)


def engine_options(url: URL) -> dict[str, Any]:
    """The options of `sqlalchemy.create_engine` for this URL, as Flask-SQLAlchemy takes them too."""
    if url.drivername == "sqlite":
        return {"connect_args": {"timeout": READ_LOCK_TIMEOUT, "check_same_thread": False}}
    return {
        # A cut network shows as an error within seconds, not after the kernel's many minutes.
        "connect_args": {
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "application_name": "taskapi",
            # Behind a transaction pooler the next statement may reach a session that knows nothing of it.
            "prepare_threshold": None,
        },
        "pool_timeout": 10,
    }


def open_engine(url: URL) -> Engine:
    """Create an engine outside Flask."""
    engine = sa.create_engine(url, **engine_options(url))
    prepare(engine)
    return engine


def prepare(engine: Engine) -> None:
    """Give an engine's connections what we count on: moments in UTC; on SQLite WAL and writers that wait."""
    if engine.dialect.name != "sqlite":
        event.listen(engine, "connect", set_up_postgresql)
        return
    if sqlite3.sqlite_version_info < SQLITE_NEEDED:
        raise RuntimeError(f"SQLite {sqlite3.sqlite_version} is too old: taskapi needs 3.37 (STRICT tables).")
    Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    event.listen(engine, "connect", set_up_sqlite)
    event.listen(engine, "begin", _begin_immediate)


def set_up_postgresql(connection: Any, _record: Any = None) -> None:
    """Prepare a new connection of psycopg."""
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def set_up_sqlite(connection: sqlite3.Connection, _record: Any = None) -> None:
    """Prepare a new connection of `sqlite3`."""
    connection.isolation_level = None  # transactions are begun by `_begin_immediate`
    # Text that is not UTF-8 (any writer may have put it there) must not break every later read of its row.
    connection.text_factory = lambda data: data.decode(errors="replace")
    _patiently(connection.execute, "PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a read that turns into a write fails with BUSY whatever the timeout."""
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        _patiently(cursor.execute, "BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:  # which SQLAlchemy does not look at in an event
        raise OperationalError("BEGIN IMMEDIATE", None, error) from None
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {int(READ_LOCK_TIMEOUT * 1000)}")


def _patiently(execute: Callable[[str], Any], statement: str) -> None:
    """Wait for a lock with `time.sleep`, which gevent makes cooperative; inside SQLite the wait would stop
    every greenlet of the process."""
    deadline = time.monotonic() + WRITE_LOCK_TIMEOUT
    while True:
        try:
            execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return
