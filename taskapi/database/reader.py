"""Statements that only read, straight on the driver: no BEGIN, no lock, one round trip."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, TimeoutError

from .connections import dialect_of

# How many connections a reader may have (a question takes a millisecond), and how long it waits for one of them.
CONNECTIONS = 5
PLACE_SECONDS = 10.0


class Reader:
    """Asks one database. May be used by many threads or greenlets at once.

    A poll is one small row; through SQLAlchemy's Core and pool the way to it costs ten times the row itself. So the
    connections, in autocommit mode, are kept in a list: taken from it for one statement, and put back if it went well.
    """

    def __init__(self, url: URL) -> None:
        driver = url.get_dialect()
        self._driver = driver(dbapi=driver.import_dbapi())  # type: ignore[call-arg]
        self._error: Any = self._driver.loaded_dbapi.Error
        self._dialect = dialect_of(url)
        self._url = url
        self._idle: list[Any] = []
        # A semaphore, but one that costs nothing under gevent: `threading.Semaphore` there yields at each release.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._places.put(None)

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement with parameters written `:name`; all its rows.

        A kept connection may have died since its last use, with PostgreSQL's restart for one: then a new one is
        asked, once. Raises `sqlalchemy.exc.SQLAlchemyError`.
        """
        try:
            self._places.get(timeout=PLACE_SECONDS)
        except Empty:
            raise TimeoutError(f"All {CONNECTIONS} connections were busy for {PLACE_SECONDS:g} seconds.") from None
        try:
            return self._rows(statement, parameters)
        except OperationalError as error:
            if not error.connection_invalidated:
                raise
            self.close()
            return self._rows(statement, parameters)
        finally:
            self._places.put(None)

    def _rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        idle = self._idle
        connection = None
        try:
            connection = self._kept(idle) or self._dialect.open_reader(self._url)
            rows: list[tuple[Any, ...]] = connection.rows(statement, parameters)
        except BaseException as error:
            gone = connection is not None and self._let_go(connection, error)
            if isinstance(error, self._error):
                raise OperationalError(None, None, error, connection_invalidated=gone) from None
            raise
        idle.append(connection)
        if idle is not self._idle:
            _close_all(idle)  # as all others were meanwhile
        return rows

    def _kept(self, idle: list[Any]) -> Any:
        try:
            while not self._dialect.is_current(connection := idle.pop()):
                connection.close()
        except IndexError:
            return None
        return connection

    def _let_go(self, connection: Any, error: BaseException) -> bool:
        """Close a connection on which something went wrong; whether it was dead."""
        gone = self._driver.is_disconnect(error, connection, None)  # type: ignore[arg-type]
        connection.close()
        return gone

    def close(self) -> None:
        """Close the connections; those in use now, when they have answered."""
        idle, self._idle = self._idle, []
        _close_all(idle)


def _close_all(connections: list[Any]) -> None:
    """Empty the list, whoever else does the same."""
    while connections:
        with contextlib.suppress(IndexError):
            connections.pop().close()
