"""A new task's row, from what a caller says of it: every check at the call."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

from ..database.models import TaskStatus
from ..tracing import traceparent
from . import values

# In seconds: as exact as both databases' clocks.
SHORTEST_LIMIT = 0.001


def new_row(
    *,
    user_id: int,
    kind: str = "task",
    learning_path_id: int | None = None,
    total_items: int | None = None,
    stage: str | None = None,
    task_id: str | None = None,
    status: str = TaskStatus.PENDING,
    start_within: float | None = None,
    finish_within: float | None = None,
) -> dict[str, Any]:
    """The columns of a task to insert; its `task_id` is `<kind>_<user id>_<time>_<random>` unless given.

    Raises `TypeError` or `ValueError` for a value that cannot be.
    """
    start_within = _unless_none(values.seconds, "start_within", start_within)
    finish_within = _unless_none(values.seconds, "finish_within", finish_within)
    return {
        "task_id": _new_task_id(kind, user_id) if task_id is None else values.task_id("task_id", task_id),
        "user_id": values.integer("user_id", user_id),
        "kind": values.word("kind", kind),
        "learning_path_id": _unless_none(values.integer, "learning_path_id", learning_path_id),
        "status": values.first_status("status", status),
        "stage": _unless_none(values.text, "stage", stage),
        "total_items": _unless_none(values.count, "total_items", total_items),
        "start_within": _start_within(start_within, finish_within),
        "finish_within": finish_within,
        "traceparent": traceparent(),
    }


def _start_within(start_within: float | None, finish_within: float | None) -> float | None:
    """The limit of a task's waiting, before the limit of the whole: where both are one moment, none was given."""
    if start_within is None or finish_within is None:
        return start_within
    return min(start_within, finish_within - SHORTEST_LIMIT)


def _new_task_id(kind: str, user_id: int) -> str:
    now = dt.datetime.now(dt.UTC)
    name = f"{values.word('kind', kind)}_{user_id}_{now:%Y%m%dT%H%M%SZ}_{secrets.token_hex(8)}"
    return values.task_id("kind", name)


def _unless_none(check: Any, name: str, value: Any) -> Any:
    return None if value is None else check(name, value)
