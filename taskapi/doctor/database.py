"""Whether the database answers, takes what is written, tells of it, and agrees about the time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..database import schema
from ..database.failures import DatabaseError
from ..database.store import Store
from ..state import State
from . import postgresql, sqlite
from .findings import Finding, well, wrong

# Leases and limits go by the database's clock, tokens and tickets by this machine's.
CLOCKS_DIFFER_SECONDS = 2.0
INSERT = "INSERT INTO user_tasks (task_id, user_id, status) VALUES (:task_id, 0, 'pending')"
UPDATE = "UPDATE user_tasks SET progress = 1 WHERE task_id = :task_id"
LOOK = "SELECT revision FROM user_tasks WHERE task_id = :task_id"
DELETE = "DELETE FROM user_tasks WHERE task_id = :task_id"


def findings(state: State) -> Iterator[Finding]:
    """From the connection to what runs beside requests."""
    store = state.store
    if trouble := schema.trouble(store):
        yield _trouble(trouble)
        return
    own = sqlite if store.dialect.is_embedded else postgresql
    try:
        yield well("database", own.description(store))
        yield well("schema", f"The tables are at version {schema.VERSION}.")
        yield _trial(store)
        yield _clock(store)
        yield from own.findings(store)
        yield _maintenance(store)
    except DatabaseError as error:
        yield wrong("database", store.explain(error), "Look into the database's own log.")


def _trouble(trouble: schema.Trouble) -> Finding:
    if trouble.cause == schema.OUTDATED:
        return wrong("schema", trouble.cause, "In an application with its own migrations: `flask taskapi migration`.")
    return wrong("database", trouble.cause, "See TASKAPI_DATABASE_URL, the network between, and the database's log.")


def _trial(store: Store) -> Finding:
    """Write a task as workers do, and take it back before anybody sees it."""
    try:
        with schema.engine_of(store) as engine, engine.connect() as connection, connection.begin() as transaction:
            revisions = _write(connection, f"doctor_{secrets.token_hex(8)}")
            transaction.rollback()
    except DatabaseError as error:
        return wrong(
            "writing",
            f"A task cannot be written: {store.explain(error)}",
            "The role needs SELECT, INSERT, UPDATE and DELETE on user_tasks, and on PostgreSQL USAGE on its sequence.",
        )
    if len(set(revisions)) < len(revisions):
        return wrong(
            "triggers",
            "A change of a row does not change its revision: the table's triggers are missing or disabled.",
            "Restore them with the rest of the dump, or ALTER TABLE user_tasks ENABLE TRIGGER ALL.",
        )
    return well("writing", "A task can be written, and its triggers see it (rolled back).")


def _write(connection: Connection, task_id: str) -> list[int]:
    revisions = []
    for statement in (INSERT, UPDATE):
        connection.execute(sa.text(statement), {"task_id": task_id})
        revisions.append(connection.execute(sa.text(LOOK), {"task_id": task_id}).scalar_one())
    connection.execute(sa.text(DELETE), {"task_id": task_id})
    return revisions


def _clock(store: Store) -> Finding:
    before = time.time()
    there = store.clock() / 1e6
    ahead = there - (before + time.time()) / 2
    if abs(ahead) < CLOCKS_DIFFER_SECONDS:
        return well("clock", "The database's clock and this machine's agree.")
    return wrong(
        "clock",
        f"The database's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's.",
        "Let both follow NTP: leases and limits go by the one, tokens by the other.",
    )


def _maintenance(store: Store) -> Finding:
    if stalled := store.summary({}).stalled:
        return wrong(
            "maintenance",
            f"{stalled} tasks were started, and their workers are silent for longer than a lease.",
            "A running server closes them within seconds: is there one? Else `flask tasks reap`.",
        )
    return well("maintenance", "No task waits to be closed.")
