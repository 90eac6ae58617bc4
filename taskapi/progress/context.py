"""Which tasks' blocks the running code is in: its thread's, its greenlet's or its asyncio task's own."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .. import tracing

if TYPE_CHECKING:
    from .task import Task

# Each with what ends its span's part in this context.
_entered: ContextVar[tuple[tuple[Task, Any], ...]] = ContextVar("taskapi_tasks", default=())


def current_task() -> Task:
    """The task of the innermost block (`run`, `attach`, `tracked`) in this context.

    An asyncio task begins in the context that made it; a thread in none, unless it is given one:
    `threading.Thread(target=contextvars.copy_context().run, args=(work,))`. Raises `LookupError` outside.
    """
    entered = _entered.get()
    if not entered:
        raise LookupError("there is no task in this context: current_task() wants to be called within a task's block")
    return entered[-1][0]


def enter(task: Task) -> None:
    """Note that a task's block begins here."""
    _entered.set((*_entered.get(), (task, tracing.enter(task.span))))


def leave(task: Task) -> None:
    """Note that a task's block ends."""
    for other, entered in _entered.get():
        if other is task:
            tracing.leave(entered)
    _entered.set(tuple(pair for pair in _entered.get() if pair[0] is not task))
