"""Which tasks' blocks the running code is in: its thread's, its greenlet's or its asyncio task's own."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .task import Task

_entered: ContextVar[tuple[Task, ...]] = ContextVar("taskapi_tasks", default=())


def current_task() -> Task:
    """The task of the innermost block (`run`, `attach`, `tracked`) in this context.

    An asyncio task begins in the context that made it; a thread in none, unless it is given one:
    `threading.Thread(target=contextvars.copy_context().run, args=(work,))`. Raises `LookupError` outside.
    """
    entered = _entered.get()
    if not entered:
        raise LookupError("there is no task in this context: current_task() wants to be called within a task's block")
    return entered[-1]


def enter(task: Task) -> None:
    """Note that a task's block begins here."""
    _entered.set((*_entered.get(), task))


def leave(task: Task) -> None:
    """Note that a task's block ends."""
    _entered.set(tuple(other for other in _entered.get() if other is not task))
