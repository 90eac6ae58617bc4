"""The errors of the workers' door. Know no database."""

from __future__ import annotations

from ..database.models import TaskStatus


class ProgressError(Exception):
    """What every error of `taskapi.progress` is, apart from `TypeError` and `ValueError` for a wrong call."""


class TaskNotFound(ProgressError):
    """There is no task with this `task_id`."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"There is no task {self.task_id!r}."


class TaskClosed(ProgressError):
    """The task has ended, with this final `status`; None if its row was deleted. Its worker should stop."""

    def __init__(self, task_id: str, status: TaskStatus | None) -> None:
        super().__init__(task_id, status)
        self.task_id = task_id
        self.status = status

    def __str__(self) -> str:
        return f"Task {self.task_id} has ended: {self.status or 'it is gone'}."


class DatabaseUnavailable(ProgressError):
    """The database did not answer for as long as it is waited for; the cause is chained."""
