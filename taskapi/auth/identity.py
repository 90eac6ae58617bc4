"""Who somebody is, and what an application may say about it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from ..database.models import BIGINT_MAX, Snapshot

_USER_ID = re.compile(r"0|[1-9][0-9]{0,18}")


class Identity(NamedTuple):
    """Whoever is asking: a user id, whether it is an administrator, and when the credential expires (Unix time)."""

    user_id: int
    is_admin: bool = False
    expires_at: float | None = None


def user_id(value: Any) -> int:
    """A user id: an integer, or one written as a text. Raises `ValueError` for anything else."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _USER_ID.fullmatch(text) or int(text) > BIGINT_MAX:
        raise ValueError(f"a user id must be an integer of at most 64 bits, not {value!r}")
    return int(text)


@dataclass(frozen=True)
class Task:
    """A task as the application's rules see it: the fields of `UserTaskResponse`, moments as aware datetimes."""

    task_id: str
    user_id: int
    learning_path_id: int | None
    status: str
    stage: str | None
    progress: float
    total_items: int | None
    completed_items: int
    result_message: str | None
    error_details: str | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    id: int
    created_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, snapshot: Snapshot) -> Task:
        """Read a snapshot."""
        fields = orjson.loads(snapshot.json_for(True))
        moments = {name: fields[name] and dt.datetime.fromisoformat(fields[name]) for name in MOMENTS}
        return cls(**fields | moments)


MOMENTS = ("started_at", "ended_at", "created_at", "updated_at")


TaskRule = Callable[[Identity, Task], bool]


@dataclass
class Rules:
    """What an application says itself: who is asking, and who else may see a task or cancel it."""

    identity: Callable[[], Identity | None] | None = None
    may_see: TaskRule | None = None
    may_cancel: TaskRule | None = None
