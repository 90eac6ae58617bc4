"""What is to happen once a session's transaction is committed, and not at all if it is rolled back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction

from .database.connections import dialect_of

KEY = "taskapi.promises"


class Promise(NamedTuple):
    """A call, and the connection whose commit it waits for."""

    call: Callable[[], object]
    connection: Connection


def after_commit(session: Session, call: Callable[[], object]) -> None:
    """Call something after the outermost transaction's commit; a rollback, of a savepoint too, drops it.

    The session may be used by then. Whatever one call raises, the others are made, and `commit` raises it.
    """
    if KEY not in session.info:
        session.info[KEY] = Promises(session)
    promises: Promises = session.info[KEY]
    promises.add(session, Promise(call, session.connection()))


class Promises:
    """One session's, by the transaction or savepoint whose end they wait for."""

    def __init__(self, session: Session) -> None:
        self._waiting: dict[SessionTransaction, list[Promise]] = {}
        self._due: list[Promise] = []
        event.listen(session, "after_commit", self._keep)
        event.listen(session, "after_transaction_end", self._end)

    def add(self, session: Session, promise: Promise) -> None:
        """Let one wait for the innermost savepoint, or the transaction."""
        self._waiting.setdefault(_innermost(session), []).append(promise)

    def _keep(self, session: Session) -> None:
        """What a released savepoint held waits for the one around it."""
        transaction = _innermost(session)
        for promise in self._waiting.pop(transaction, []):
            outer = transaction.parent
            if outer is None or _is_over(promise.connection):
                self._due.append(promise)
            else:
                self._waiting.setdefault(outer, []).append(promise)

    def _end(self, _session: Session, transaction: SessionTransaction) -> None:
        """What is waiting yet was not committed: the transaction was rolled back, or closed."""
        self._waiting.pop(transaction, None)
        due, self._due = self._due, []
        with ExitStack() as calls:
            for promise in reversed(due):
                calls.callback(promise.call)


def _innermost(session: Session) -> SessionTransaction:
    return session.get_nested_transaction() or session.get_transaction() or session.begin()


def _is_over(connection: Connection) -> bool:
    """Whether the release of a savepoint was a commit: then it had begun the transaction."""
    return not dialect_of(connection.engine.url).is_in_transaction(connection.connection.driver_connection)
