"""Connections of the driver that are kept between statements, in autocommit mode."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .address import AnyUrl, Url
from .connections import dialect_of
from .failures import DatabaseError, of_driver

T = TypeVar("T")

# How many connections there may be (a question takes a millisecond), and how long one of them is waited for.
CONNECTIONS = 5
PLACE_SECONDS = 10.0


class Pool(ABC):
    """Connections to one database. May be used by many threads or greenlets at once.

    A statement is a matter of microseconds; through SQLAlchemy's Core and pool the way to it costs ten times as much.
    So the connections are kept in a list: taken from it for one use, and put back if it went well.
    """

    def __init__(self, url: AnyUrl) -> None:
        self._url = Url.of(url)
        self._dialect = dialect_of(url)
        self._idle: list[Any] = []
        # A semaphore, but one that costs nothing under gevent: `threading.Semaphore` there yields at each release.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._places.put(None)

    @abstractmethod
    def _open(self) -> Any:
        """A new connection."""

    def _use(self, work: Callable[[Any], T]) -> T:
        """Do something with a connection. Raises `DatabaseError`."""
        try:
            self._places.get(timeout=PLACE_SECONDS)
        except Empty:
            busy = f"All {CONNECTIONS} connections were busy for {PLACE_SECONDS:g} seconds."
            raise DatabaseError(TimeoutError(busy)) from None
        try:
            return self._use_one(work)
        finally:
            self._places.put(None)

    def _use_one(self, work: Callable[[Any], T]) -> T:
        idle = self._idle
        connection = None
        try:
            connection = self._kept(idle) or self._open()
            found = work(connection)
        except BaseException as error:
            lost = connection is not None and self._let_go(connection)
            if isinstance(error, self._dialect.driver.Error):
                raise of_driver(self._dialect.driver, error, lost=lost) from None
            raise
        idle.append(connection)
        if idle is not self._idle:
            _close_all(idle)  # as all others were meanwhile
        return found

    def _kept(self, idle: list[Any]) -> Any:
        try:
            while not self._dialect.is_current(connection := idle.pop()):
                connection.close()
        except IndexError:
            return None
        return connection

    def _let_go(self, connection: Any) -> bool:
        """Close a connection on which something went wrong; whether it was dead."""
        lost = self._dialect.is_lost(connection)
        connection.close()
        return lost

    def close(self) -> None:
        """Close the connections; those in use now, when they have answered."""
        idle, self._idle = self._idle, []
        _close_all(idle)


def _close_all(connections: list[Any]) -> None:
    """Empty the list, whoever else does the same."""
    while connections:
        with contextlib.suppress(IndexError):
            connections.pop().close()
