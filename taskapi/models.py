"""The row: table `user_tasks`, its status words, and the snapshot of it that clients get. Knows no request.

The triggers that set `revision` and `updated_at` for every writer, and announce each change on PostgreSQL, are
SQL in `migrations/versions/`: a schema's history must not change when this file does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Alembic's newest revision; a database at this one needs no look at the migrations.
SCHEMA_REVISION = "0001"
# PostgreSQL's NOTIFY channel; a payload is "<id>:<user_id>".
CHANNEL = "user_tasks"
TASK_ID_LENGTH = 255
BIGINT_MAX = 2**63 - 1


class TaskStatus(StrEnum):
    """The seven words of the specification."""

    PENDING = "pending"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"

    @property
    def is_final(self) -> bool:
        """Whether a task with this status has ended for good."""
        return self in FINAL


FINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT})
# As SQL: the predicate of a partial index, which a query must repeat word for word to use it on SQLite.
ACTIVE = "status IN ('pending', 'queued', 'starting', 'running')"
NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))


class UtcDateTime(sa.types.TypeDecorator[dt.datetime]):
    """A moment in UTC: `timestamptz` on PostgreSQL, RFC 3339 text with milliseconds and `Z` on SQLite."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Choose the column type."""
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        """Turn an aware datetime into what the database stores."""
        if value is None or dialect.name != "sqlite":
            return value
        utc = value.astimezone(dt.UTC).replace(tzinfo=None)
        return utc.isoformat(timespec="milliseconds") + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        """Turn what the database stores into an aware datetime."""
        return dt.datetime.fromisoformat(value) if isinstance(value, str) else value


class Base(DeclarativeBase):
    """The metadata that migrations compare with."""


Integer64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Number: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")


class UserTask(Base):
    """One background task. The fifteen fields of `UserTaskResponse`, and two for the machinery."""

    __tablename__ = "user_tasks"
    __table_args__ = (
        sa.CheckConstraint(f"length(task_id) BETWEEN 1 AND {TASK_ID_LENGTH}", "task_id_has_a_length"),
        sa.CheckConstraint(f"status IN ({', '.join(repr(str(s)) for s in TaskStatus)})", "status_is_one_of_the_seven"),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", "progress_is_a_percentage"),
        sa.CheckConstraint("total_items >= 0", "total_items_is_a_count"),
        sa.CheckConstraint("completed_items >= 0", "completed_items_is_a_count"),
        sa.Index("ix_user_tasks_user", "user_id", *NEWEST_FIRST),
        sa.Index("ix_user_tasks_learning_path", "learning_path_id", *NEWEST_FIRST),
        sa.Index("ix_user_tasks_active", "user_id", sqlite_where=sa.text(ACTIVE), postgresql_where=sa.text(ACTIVE)),
        {"sqlite_strict": True, "sqlite_autoincrement": True},
    )

    task_id: Mapped[str] = mapped_column(sa.Text, unique=True)
    user_id: Mapped[int] = mapped_column(Integer64)
    learning_path_id: Mapped[int | None] = mapped_column(Integer64)
    status: Mapped[TaskStatus] = mapped_column(sa.Text)
    stage: Mapped[str | None] = mapped_column(sa.Text)
    progress: Mapped[float] = mapped_column(Number)
    total_items: Mapped[int | None] = mapped_column(Integer64)
    completed_items: Mapped[int] = mapped_column(Integer64)
    result_message: Mapped[str | None] = mapped_column(sa.Text)
    error_details: Mapped[str | None] = mapped_column(sa.Text)
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    id: Mapped[int] = mapped_column(Integer64, primary_key=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    revision: Mapped[int] = mapped_column(Integer64)
    lease_expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


USER_TASKS: sa.Table = UserTask.__table__  # type: ignore[assignment]
RESPONSE_FIELDS = tuple(column.name for column in USER_TASKS.columns)[:15]
_TASK_ID, _USER_ID, _STATUS, _ID = map(RESPONSE_FIELDS.index, ("task_id", "user_id", "status", "id"))
_REVISION = len(RESPONSE_FIELDS)


class Snapshot(NamedTuple):
    """A row as clients see it: `json` is the `UserTaskResponse`, encoded once for everybody who gets it."""

    id: int
    user_id: int
    task_id: str
    status: TaskStatus
    revision: int
    json: bytes

    @classmethod
    def of(cls, row: Sequence[Any]) -> Snapshot:
        """Encode a row of `RESPONSE_FIELDS` and `revision`, in this order."""
        json = orjson.dumps(dict(zip(RESPONSE_FIELDS, row, strict=False)), option=orjson.OPT_UTC_Z)
        return cls(row[_ID], row[_USER_ID], row[_TASK_ID], TaskStatus(row[_STATUS]), row[_REVISION], json)
