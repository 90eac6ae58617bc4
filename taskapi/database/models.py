"""The row: its fields, its status words, and the snapshot of it that clients get.

The table itself, with the triggers that set `revision` and `updated_at` for every writer, is SQL in `versions/`.
"""

from __future__ import annotations

import datetime as dt
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


# What is said of a task that somebody did not want any more.
CANCELLED = "Cancelled."
WAITING = frozenset({TaskStatus.PENDING, TaskStatus.QUEUED})
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
_CANCEL_REQUESTED_AT = _REVISION + 1
# What a failure said, where that is for administrators alone.
HIDDEN = "Task failed during execution."
HIDDEN_AND_TRIED_AGAIN = f"{HIDDEN} It will be tried again."


class Snapshot(NamedTuple):
    """A row as clients see it: `json` is the `UserTaskResponse`, encoded once for everybody who gets it.

    `admin_json` is what administrators get in its place, where what a failure said is hidden from all others.
    `cancel_requested_at` (RFC 3339) is None once the task is final.
    """

    id: int
    user_id: int
    task_id: str
    status: TaskStatus
    revision: int
    json: bytes
    admin_json: bytes | None = None
    cancel_requested_at: str | None = None

    @classmethod
    def of(cls, row: Sequence[Any], *, hides_errors: bool = False) -> Snapshot:
        """Encode a row of `RESPONSE_FIELDS`, `revision` and `cancel_requested_at`, in this order."""
        fields, status = dict(zip(RESPONSE_FIELDS, row, strict=False)), _STATUSES[row[_STATUS]]
        json, admin_json = _encoded(fields), None
        if hides_errors and _tells_of_errors(fields):
            json, admin_json = _encoded(fields | _without_errors(fields)), json
        requested = None if row[_CANCEL_REQUESTED_AT] is None or status.is_final else _moment(row[_CANCEL_REQUESTED_AT])
        return cls(row[ID], row[_USER_ID], row[_TASK_ID], status, row[_REVISION], json, admin_json, requested)

    def json_for(self, is_admin: bool) -> bytes:
        """The `UserTaskResponse` for whoever may see it."""
        return self.admin_json if is_admin and self.admin_json is not None else self.json


def _encoded(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


def _tells_of_errors(fields: dict[str, Any]) -> bool:
    has_failed = fields["status"] == TaskStatus.FAILED and fields["result_message"] != CANCELLED
    return has_failed or fields["error_details"] is not None


def _without_errors(fields: dict[str, Any]) -> dict[str, Any]:
    """What stands in place of an error: of a limit that passed, and of a cancellation, the owner is told."""
    status, message = fields["status"], fields["result_message"]
    if status == TaskStatus.FAILED and message != CANCELLED:
        message = HIDDEN
    elif status not in FINAL:
        message = HIDDEN_AND_TRIED_AGAIN
    return {"result_message": message, "error_details": None}


def _moment(value: Any) -> str:
    """A moment in RFC 3339; a text is SQLite's, which any writer may have put there in any form that it reads."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return str(value)
        value = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return str(value.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
