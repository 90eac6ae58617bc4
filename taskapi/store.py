"""What can be asked of and done to the table, each one short transaction. Knows no request and no stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from .models import Snapshot, TaskStatus
from .reader import Reader
from .statements import Statements

# A transaction may commit later than another that drew a higher revision; whoever asks for "all after revision N"
# also gets what changed in the last so many seconds. A snapshot that comes twice does no harm.
LATE_COMMIT_SECONDS = 60
MISSED_AT_MOST = 1000
PRUNE_BATCH = 500


# Made once, since SQLAlchemy takes as long to read a statement's text as to run it.
_text = lru_cache(sa.text)


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
        self._sql = Statements(engine.dialect.name)
        self._embedded = engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self.engine.dispose()
        self.reader.close()

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

    def followed_by(self, user_id: int, cursor: int | None) -> list[Snapshot]:
        """The user's tasks that are not final and, given a cursor, those that changed after it; oldest change first.

        Of those that changed, the last `MISSED_AT_MOST`: a cursor is what a client says.
        """
        if cursor is None:
            return self._snapshots(self._sql.active_of, user_id=user_id)
        return self._snapshots(
            self._sql.active_or_changed_of,
            user_id=user_id,
            cursor=cursor,
            seconds=-LATE_COMMIT_SECONDS,
            most=MISSED_AT_MOST,
        )

    # What the feed asks for.

    def by_ids(self, ids: Iterable[int]) -> list[Snapshot]:
        """These tasks, oldest change first; one that was deleted is missing."""
        return self._snapshots(self._sql.by_ids, ids=self._list(ids))

    def revisions(self, ids: Iterable[int]) -> dict[int, int]:
        """The revision of each of these tasks; one that was deleted is missing."""
        return dict(self._rows(self._sql.revisions, ids=self._list(ids)))

    def keys_followed_by(self, user_ids: Iterable[int], seconds: float) -> list[tuple[int, int, int]]:
        """`(id, user_id, revision)` of these users' tasks that are not final or were created in the last seconds."""
        return self._rows(self._sql.active_or_new_keys, user_ids=self._list(user_ids), seconds=-seconds)

    def changed_since(self, revision: int) -> list[tuple[int, int, int]]:
        """`(id, user_id, revision)` of the tasks that changed after a revision, oldest change first.

        For SQLite, where one writer at a time commits: there, revisions become visible in their order.
        """
        return self._rows(self._sql.changed_since, revision=revision)

    def last_revision(self) -> int:
        """The newest revision that was drawn."""
        rows = self._rows(self._sql.last_revision)
        return int(rows[0][0]) if rows else 0

    def send_canary(self) -> None:
        """Send a notification that names no task, for the feed to see that notifications arrive (PostgreSQL)."""
        self._rows(self._sql.canary)

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
        while rows := self._rows(self._sql.ended_before, seconds=-days * 86_400, last_id=last_id, batch=PRUNE_BATCH):
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

    def _list(self, numbers: Iterable[int]) -> str | list[int]:
        """A list as one parameter: an array on PostgreSQL, JSON on SQLite."""
        return orjson.dumps(list(numbers)).decode() if self._embedded else list(numbers)
