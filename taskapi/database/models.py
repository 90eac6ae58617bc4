"""The row: its fields, its status words, and the snapshot of it that clients get.

The table itself, with the triggers that set `revision` and `updated_at` for every writer, is SQL in `versions/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

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

    is_final: bool  # whether a task with this status has ended for good


FINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT})
for _status in TaskStatus:  # an attribute, not a property: it is asked for with each frame
    _status.is_final = _status in FINAL
# Found in a third of the time that `TaskStatus(word)` takes.
_STATUSES = {status.value: status for status in TaskStatus}
# The fields of `UserTaskResponse`, in its order.
RESPONSE_FIELDS = (
    "task_id",
    "user_id",
    "learning_path_id",
    "status",
    "stage",
    "progress",
    "total_items",
    "completed_items",
    "result_message",
    "error_details",
    "started_at",
    "ended_at",
    "id",
    "created_at",
    "updated_at",
)
_TASK_ID, _USER_ID, _STATUS, ID = map(RESPONSE_FIELDS.index, ("task_id", "user_id", "status", "id"))
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
        return cls(row[ID], row[_USER_ID], row[_TASK_ID], _STATUSES[row[_STATUS]], row[_REVISION], json)
