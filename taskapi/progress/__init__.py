"""The workers' door: report on a background task from any process. Knows no request and no Flask application.

progress = Progress()
with progress.task(user_id=123, kind="full_path_gen") as task:
    for card in task.track(cards):
        make(card)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from ..config import instance_path, load
from ..database.address import AnyUrl, Url
from ..database.failures import ConstraintError, RefusedError
from ..database.models import WAITING, TaskStatus
from ..database.store import Attempt, Store
from . import context, values, writer
from .aio import AsyncBlock, AsyncRun, in_thread
from .context import current_task
from .errors import DatabaseUnavailable, ProgressError, TaskCancelled, TaskClosed, TaskNotFound, TaskNotStarted, ended
from .ledger import Ledger
from .processes import writer_for
from .rows import new_row
from .task import Run, Step, Task
from .writer import Writer

__all__ = [
    "DatabaseUnavailable",
    "Progress",
    "ProgressError",
    "Step",
    "Task",
    "TaskCancelled",
    "TaskClosed",
    "TaskNotFound",
    "TaskNotStarted",
    "TaskStatus",
    "current_task",
]

P = ParamSpec("P")
R = TypeVar("R")


class Progress:
    """Creates tasks and runs them, on the database of the settings or at a `url`, written as SQLAlchemy's.

    Connects to nothing until it is used; may be a module's global, shared by threads and inherited by forks.
    Raises `taskapi.config.ConfigError` for a setting that cannot be.
    """

    def __init__(self, url: str | AnyUrl | None = None) -> None:
        config = load(instance_path(), {} if url is None else {"DATABASE_URL": url})
        self._url: Url = config["DATABASE_URL"]
        self._lease: float = config["LEASE_SECONDS"]

    def create(
        self,
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
    ) -> str:
        """Create a task as "pending", or "queued"; its `task_id`, `<kind>_<user id>_<time>_<random>` unless given.

        What has not been started `start_within`, or not ended `finish_within` seconds from now is closed as "timeout".

        Raises `TypeError` or `ValueError` for a value that cannot be and a `task_id` that is taken,
        `DatabaseUnavailable` after `START_SECONDS`.
        """
        row = new_row(
            user_id=user_id,
            kind=kind,
            learning_path_id=learning_path_id,
            total_items=total_items,
            stage=stage,
            task_id=task_id,
            status=status,
            start_within=start_within,
            finish_within=finish_within,
        )
        try:
            self._writer.ask(lambda store: store.create(row), writer.START_SECONDS)
        except ConstraintError:
            if task_id is not None:
                raise ValueError(f"task_id {task_id!r} is taken") from None
            # Drawn at random, it can only be our own: the connection broke after the commit.
        except (RefusedError, UnicodeError) as error:
            raise ValueError("the database cannot store a text that was given") from error
        return str(row["task_id"])

    def run(self, task_id: str, *, retry: bool = False) -> Run:
        """A `with` block in which the task runs; gives a `Task`.

        Enters "starting", soon "running"; leaves "completed", or "failed" with the traceback if an exception
        leaves the block, which then goes on; with `retry`, leaves "queued" for the next attempt. Once somebody cancels
        the task, the next call raises `TaskCancelled`, which leaves it "failed" and goes no further. Every start begins
        at 0 items and 0 %, and ends every earlier attempt: what that reports changes nothing any more, and its next
        call raises `TaskClosed`.

        Entering raises `TaskNotFound`, `TaskClosed` and, after `START_SECONDS`, `DatabaseUnavailable`. Leaving raises
        `TaskClosed` if the task was ended by somebody else, and `DatabaseUnavailable` if its end could not be written.
        """
        task_id = values.task_id("task_id", task_id)
        return Run(self._writer, lambda: self._claim(task_id), retry=retry)

    def task(self, *, user_id: int, **fields: Any) -> Run:
        """Create a task and run it in one `with`: the arguments of `create`, the block of `run`."""
        return self.run(self.create(user_id=user_id, **fields))

    def attach(self, task_id: str) -> Task:
        """Report on a task that another process runs. Usable as it is, or in a `with` that waits until all is written.

        In a child process (of multiprocessing, or forked) a call outside the `with` is a write of its own: what it
        counted is in the row when it is over.

        Raises `TaskNotFound`, `TaskNotStarted`, `TaskClosed` and, after `START_SECONDS`, `DatabaseUnavailable`.
        """
        task_id = values.task_id("task_id", task_id)
        return Task(self._writer, self._writer.ask(lambda store: _join(store, task_id), writer.START_SECONDS))

    def tracked(self, *, user_id: int, **fields: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """The block as a decorator: each call of the function, or coroutine function, is a task of its own.

        Takes what `create` takes, except `task_id`; within, `current_task()` is the task. A call whose task is
        cancelled returns None. Raises `TypeError` or `ValueError` for a value that cannot be, and a generator function,
        which does nothing when it is called.
        """
        new_row(user_id=user_id, **fields)
        if "task_id" in fields:
            raise TypeError("tracked() takes no task_id: each call is a task of its own")

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise TypeError(f"tracked() wants a function that works when it is called: {function!r} is a generator")

            @functools.wraps(function)
            async def in_async_block(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self.atask(user_id=user_id, **fields):
                    return await cast(Any, function)(*args, **kwargs)

            @functools.wraps(function)
            def in_block(*args: P.args, **kwargs: P.kwargs) -> R:
                with self.task(user_id=user_id, **fields):
                    return function(*args, **kwargs)
                return cast(R, None)  # cancelled

            return cast(Callable[P, R], in_async_block) if inspect.iscoroutinefunction(function) else in_block

        return decorate

    # asyncio: the same, with the database asked in a thread.

    async def acreate(self, *, user_id: int, **fields: Any) -> str:
        """`create`, for `await`."""
        return await in_thread(functools.partial(self.create, user_id=user_id, **fields))

    def arun(self, task_id: str, *, retry: bool = False) -> AsyncBlock[Task]:
        """`run`, for `async with`.

        An asyncio task that is cancelled in the block fails the task, and goes on being cancelled. Once somebody
        cancels the task, the asyncio task is interrupted where it waits, and goes on after the block.
        """
        task_id = values.task_id("task_id", task_id)
        return AsyncRun(lambda: self.run(task_id, retry=retry), context.enter, context.leave)

    def atask(self, *, user_id: int, **fields: Any) -> AsyncBlock[Task]:
        """`task`, for `async with`, as `arun`."""
        new_row(user_id=user_id, **fields)
        return AsyncRun(lambda: self.task(user_id=user_id, **fields), context.enter, context.leave)

    def aattach(self, task_id: str) -> AsyncBlock[Task]:
        """`attach`, for `async with`, which waits until all is written."""
        task_id = values.task_id("task_id", task_id)
        return AsyncBlock(lambda: self.attach(task_id), context.enter, context.leave)

    @property
    def _writer(self) -> Writer:
        return writer_for(self._url, self._lease)

    def _claim(self, task_id: str) -> Ledger:
        return self._writer.ask(lambda store: _start(store, task_id, self._lease), writer.START_SECONDS)


def _start(store: Store, task_id: str, lease: float) -> Ledger:
    attempt = store.claim(task_id, lease)
    if attempt is None:
        store.refuse(task_id)
        raise _closed(_attempt(store, task_id))
    return Ledger(attempt, restarted=attempt.number > 1)


def _join(store: Store, task_id: str) -> Ledger:
    attempt = _attempt(store, task_id)
    if attempt.status.is_final:
        raise _closed(attempt)
    if attempt.status in WAITING:
        raise TaskNotStarted(task_id)
    return Ledger(attempt)


def _closed(attempt: Attempt) -> TaskClosed:
    return ended(attempt.task_id, attempt.status, attempt.result_message, cancelled=attempt.is_to_be_cancelled)


def _attempt(store: Store, task_id: str) -> Attempt:
    attempt = store.attempt(task_id)
    if attempt is None:
        raise TaskNotFound(task_id, store.url.database or "in memory")
    return attempt
