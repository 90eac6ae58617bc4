"""What can be asked of and done to the table, each one short transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from .connections import dialect_of
from .models import Snapshot, TaskStatus
from .reader import Reader

# How many tasks a stream of all of a user's begins with, at most; and how many that it missed, since a cursor is what
# a client says.
ACTIVE_AT_MOST = 1000
MISSED_AT_MOST = 1000
PRUNE_BATCH = 500


# Made once, since SQLAlchemy takes as long to read a statement's text as to run it.
_text = lru_cache(sa.text)


class Key(NamedTuple):
    """A row, whose it is, and its revision."""

    id: int
    user_id: int
    revision: int


class Report(NamedTuple):
    """What a worker says of one task; None leaves a column as it is.

    `advance` is added to `completed_items` (after `completed_items`, if given, has replaced it), so that the
    counts of several processes add up.
    """

    id: int
    status: TaskStatus | None = None
    stage: str | None = None
    progress: float | None = None
    total_items: int | None = None
    completed_items: int | None = None
    advance: int = 0
    result_message: str | None = None
    error_details: str | None = None


class Store:
    """The table `user_tasks` behind one engine (and a pool of its own for reading).

    Every method raises `sqlalchemy.exc.SQLAlchemyError` when the database does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reader = Reader(engine.url)
        self.dialect = dialect_of(engine.url)
        self._sql = self.dialect.statements
        self._list = self.dialect.list_parameter

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self.engine.dispose()
        self.reader.close()

    def explain(self, error: Exception) -> str:
        """What went wrong, in a sentence for the operator."""
        return self.dialect.explain(self.engine.url, error)

    # What a request asks for.

    def task(self, task_id: str) -> Snapshot | None:
        """The task with this `task_id`."""
        return self._first(self._sql.task, task_id=task_id)

    def tasks_of(self, user_id: int, skip: int, limit: int) -> list[Snapshot]:
        """A page of the user's tasks, newest first."""
        return self._snapshots(self._sql.tasks_of, user_id=user_id, skip=skip, limit=limit)

    def latest_of_learning_path(self, learning_path_id: int) -> Snapshot | None:
        """The newest task of a learning path, whoever owns it."""
        return self._first(self._sql.latest_of_learning_path, path=learning_path_id)

    def active_of(self, user_id: int) -> list[Snapshot]:
        """The user's tasks that are not final, newest first, `ACTIVE_AT_MOST` at most."""
        return self._snapshots(self._sql.active_of, user_id=user_id, most=ACTIVE_AT_MOST)

    def ended_since(self, user_id: int, revision: int) -> list[Snapshot]:
        """The user's final tasks that changed after a revision, newest change first, `MISSED_AT_MOST` at most."""
        return self._snapshots(self._sql.ended_since, user_id=user_id, revision=revision, most=MISSED_AT_MOST)

    def keys_ended_lately(self, user_id: int, revision: int) -> list[Key]:
        """Those of the user's newest tasks that are final and changed after a revision."""
        rows = self._rows(self._sql.keys_ended_lately, user_id=user_id, revision=revision, most=MISSED_AT_MOST)
        return [Key(*row) for row in rows]

    # What the feed asks for.

    def by_ids(self, ids: Iterable[int]) -> list[Snapshot]:
        """These tasks, oldest change first; one that was deleted is missing."""
        return self._snapshots(self._sql.by_ids, ids=self._list(ids))

    def keys_of_ids(self, ids: Iterable[int]) -> list[Key]:
        """The keys of these tasks; one that was deleted is missing."""
        return [Key(*row) for row in self._rows(self._sql.keys_of_ids, ids=self._list(ids))]

    def keys_of_users(self, user_ids: Iterable[int], revision: int) -> list[Key]:
        """The keys of these users' tasks that changed after a revision and are not final, or were created after it."""
        rows = self._rows(self._sql.keys_of_users, user_ids=self._list(user_ids), revision=revision)
        return [Key(*row) for row in rows]

    def clock(self) -> int:
        """The database's clock, as revisions are: microseconds since 1970."""
        return int(self._rows(self._sql.clock)[0][0])

    def encoding(self) -> str:
        """What text the database takes; "UTF8" is all."""
        return str(self._rows(self._sql.encoding)[0][0])

    def schema_version(self) -> int:
        """The version that the tables have; the table that tells it came with version 2."""
        return int(self._rows(self._sql.schema_version)[0][0])

    # What a worker does.

    def create(self, fields: dict[str, Any]) -> None:
        """Insert a task. Raises `sqlalchemy.exc.IntegrityError` if the `task_id` is taken."""
        names = ", ".join(fields)
        values = ", ".join(f":{name}" for name in fields)
        with self.engine.begin() as connection:
            connection.execute(_text(f"INSERT INTO user_tasks ({names}) VALUES ({values})"), fields)

    def claim(self, task_id: str, lease: float) -> int | None:
        """Make a task that is not final "starting", with a lease of so many seconds; its `id`, or None."""
        claimed = self._write(self._sql.claim, task_id=task_id, lease=lease)
        return claimed[0] if claimed else None

    def report(self, reports: Sequence[Report], lease: float) -> set[int]:
        """Write reports in one transaction, each with a new lease; the ids that changed nothing (final or gone)."""
        statement = _text(self._sql.report)
        with self.engine.begin() as connection:
            return {
                report.id
                for report in sorted(reports, key=lambda report: report.id)  # everybody locks rows in one order
                if not connection.execute(statement, {**report._asdict(), "lease": lease}).rowcount
            }

    def renew(self, ids: Sequence[int], lease: float) -> set[int]:
        """Renew the leases of these tasks; the ids that are final or gone."""
        return set(ids) - set(self._write(self._sql.renew, ids=self._list(ids), lease=lease))

    # What keeps the table true and small.

    def reap(self) -> list[str]:
        """Close as "timeout" the started tasks whose lease has run out; their task ids."""
        # SQLite's one write lock is taken only for a reason.
        return self._write(self._sql.reap) if self._rows(self._sql.first_expired) else []

    def prune(self, days: float) -> int:
        """Delete the tasks that ended more than so many days ago, in small transactions; how many they were."""
        deleted, last_id = 0, 0
        while rows := self._rows(self._sql.ended_before, seconds=days * 86_400, last_id=last_id, batch=PRUNE_BATCH):
            with self.engine.begin() as connection:
                ids = self._list(task_id for (task_id,) in rows)
                deleted += connection.execute(_text(self._sql.delete), {"ids": ids}).rowcount
            last_id = rows[-1][0]
        return deleted

    def _rows(self, statement: str, **parameters: Any) -> list[Any]:
        return self.reader.rows(statement, parameters)

    def _snapshots(self, statement: str, **parameters: Any) -> list[Snapshot]:
        return [Snapshot.of(row) for row in self.reader.rows(statement, parameters)]

    def _first(self, statement: str, **parameters: Any) -> Snapshot | None:
        rows = self.reader.rows(statement, parameters)
        return Snapshot.of(rows[0]) if rows else None

    def _write(self, statement: str, **parameters: Any) -> list[Any]:
        """Run one statement that returns a column."""
        with self.engine.begin() as connection:
            return list(connection.scalars(_text(statement), parameters))
