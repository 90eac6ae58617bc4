"""What is to happen once a session's transaction is committed, and not at all if it is rolled back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

KEY = "taskapi.after_commit"


class Promise(NamedTuple):
    """A call, and the transaction (or savepoint) in which it was promised."""

    transaction: SessionTransaction | None
    call: Callable[[], object]


def after_commit(session: Session, call: Callable[[], object]) -> None:
    """Call something after the outermost transaction's commit; a rollback, of a savepoint too, drops it."""
    if KEY not in session.info:
        session.info[KEY] = []
        event.listen(session, "after_commit", _keep)
        event.listen(session, "after_soft_rollback", _drop)
    promises: list[Promise] = session.info[KEY]
    promises.append(Promise(session.get_nested_transaction() or session.get_transaction(), call))


def _keep(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released: the transaction is still open
    promises, session.info[KEY] = session.info[KEY], []
    for promise in promises:
        promise.call()


def _drop(session: Session, ended: SessionTransaction) -> None:
    session.info[KEY] = [promise for promise in session.info[KEY] if not _is_within(promise.transaction, ended)]


def _is_within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction is not None and transaction is not outer:
        transaction = transaction.parent
    return transaction is outer
