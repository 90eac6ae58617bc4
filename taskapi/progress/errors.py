"""The errors of the workers' door. Know no database."""

from __future__ import annotations

from ..database.models import TaskStatus


class ProgressError(Exception):
    """What every error of `taskapi.progress` is, apart from `TypeError` and `ValueError` for a wrong call."""


class TaskNotFound(ProgressError):
    """There is no task with this `task_id` in this database, which may not be the one that was meant."""

    def __init__(self, task_id: str, database: str) -> None:
        super().__init__(task_id, database)
        self.task_id = task_id
        self.database = database

    def __str__(self) -> str:
        return f"There is no task {self.task_id!r} in the database {self.database}."


class TaskNotStarted(ProgressError):
    """The task waits to be started: there is nothing to report on yet."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"Task {self.task_id} has not been started: run() starts it, attach() joins who runs it."


class TaskClosed(ProgressError):
    """The task is not its worker's any more, who should stop.

    It has ended with this `status`, for which `message` may give the reason, or is queued, starting or running again;
    None if its row was deleted.
    """

    def __init__(self, task_id: str, status: TaskStatus | None, message: str | None = None) -> None:
        super().__init__(task_id, status, message)
        self.task_id = task_id
        self.status = status
        self.message = message

    def __str__(self) -> str:
        if self.status is None:
            return f"Task {self.task_id} is gone."
        if self.status.is_final:
            return f"Task {self.task_id} has ended: {self.status}. {self.message or ''}".rstrip()
        return f"This attempt at task {self.task_id} is over: it is {self.status} again."


class TaskCancelled(TaskClosed):
    """Somebody does not want the task any more. Let it leave the block: that ends the task, as "failed"."""

    def __str__(self) -> str:
        return f"Task {self.task_id} was cancelled."


def ended(task_id: str, status: TaskStatus | None, message: str | None, *, cancelled: bool) -> TaskClosed:
    """What a worker is told of a task that has ended; `cancelled`: somebody had asked for it."""
    kind = TaskCancelled if cancelled and status is TaskStatus.FAILED else TaskClosed
    return kind(task_id, status, message)


class DatabaseUnavailable(ProgressError):
    """The database did not answer for as long as it is waited for; the cause is chained."""
