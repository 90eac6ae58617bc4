"""What is said and counted of one task in this process, and how much of it is in the row. Knows no database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any, NamedTuple, TypeVar

from ..database.models import TaskStatus
from ..database.store import Attempt, Report
from .errors import TaskCancelled, TaskClosed
from .loops import InnerLoop, Loop

T = TypeVar("T")

# The loops in whose bodies the running code is: its thread's, its greenlet's or its asyncio task's own.
_around: ContextVar[tuple[tuple[Ledger, Loop[Any]], ...]] = ContextVar("taskapi_loops", default=())
# The tasks of which nothing is to be torn where the running code is.
_shielded: ContextVar[tuple[Ledger, ...]] = ContextVar("taskapi_shielded", default=())


class Said(NamedTuple):
    """What a worker said of one column, and how many items this process had counted by then."""

    value: Any
    counted: int


class Draft(NamedTuple):
    """A report, and what of the ledger is in the row once it is written."""

    report: Report
    said: dict[str, Said]
    counted: int


class Ledger:
    """One task's account. Threads may share it; a forked child starts its own from zero.

    Those who work say and count; the writer notes what of it is in the row. Each side only reads the other's part, so
    that the writer waits for no worker: a worker may have been interrupted at any line by a signal handler, which in
    turn waits for the writer.

    `watched`: the writer's thread looks at it. `held`: the writer keeps the lease alive even if nothing is said.
    `ends_here`: this process will say how the task ends. `in_doubt`: a write broke off, and may have been committed
    or not. `is_cancelled`: the task is to end, and the row waits for it. `is_told`: a worker here knows that. `on_stop`
    is called, in any thread, when a worker is to stop, but not before the end of what must not be torn.
    """

    def __init__(self, attempt: Attempt, *, restarted: bool = False) -> None:
        self.task_id = attempt.task_id
        self.attempt = attempt
        self.watched = False
        self.held = False
        self.ends_here = False
        self.in_doubt = False
        self.leased_at = time.monotonic()
        self.asked_at = 0.0
        self.closed: TaskClosed | None = None
        self.is_cancelled = self.is_told = False
        self.on_stop: Callable[[], None] | None = None
        self._running_from = 0.0
        # The workers' part. Reentrant, for signal handlers.
        self._lock = RLock()
        self._said: dict[str, Said] = {}
        # A total that is there at the start was given, unless an attempt that broke off may have left it: then it
        # stands until the loops expect more.
        self._total_given = attempt.total_items is not None and not restarted
        self._least_total = attempt.total_items or 0
        self._tracked_total = 0
        self._counted = 0
        self._looped: tuple[int, tuple[Loop[Any], ...]] = 0, ()  # of the loops that are over, and those that are not
        self._shields = 0
        self._shielded_loops: tuple[Loop[Any], ...] = ()
        # The writer's part.
        self._written: dict[str, Said] = {}
        self._written_count = 0

    # The worker's side.

    def say(self, **fields: Any) -> None:
        """Note columns of a `Report`; None leaves one as it is."""
        counted = self._count()  # for which a number of completed items stands
        self._said.update({name: Said(value, counted) for name, value in fields.items() if value is not None})
        if fields.get("total_items") is not None:
            self._total_given = True

    def said(self, name: str) -> Any:
        """What was said last of a column, or None."""
        found = self._said.get(name)
        return found and found.value

    def say_running(self, seconds: float) -> None:
        """Note that the task runs, to be written after so many seconds: until then people see it starting."""
        self._running_from = time.monotonic() + seconds
        self.say(status=TaskStatus.RUNNING)

    def count(self, n: int) -> bool:
        """Count items; whether the writer will see it, and there is nothing that the worker must be told."""
        with self._lock:
            self._counted += n
            return self.watched and not self.is_cancelled

    def begin(self, loop: Loop[T], expected: int | None) -> Loop[T]:
        """Count a loop's items from now on; of loops within each other, the outermost one's.

        Loops beside each other add up, and so do the numbers of items they expect unless the worker gave the total.
        Returns the loop to go through.
        """
        around = tuple((ledger, outer) for ledger, outer in _around.get() if ledger.runs(outer))
        if any(ledger is self for ledger, _outer in around):
            loop, expected = InnerLoop(loop), None
        _around.set((*around, (self, loop)))
        with self._lock:
            done, running = self._looped
            self._looped = done, (*running, loop)
            if self in _shielded.get():
                self._shielded_loops = (*self._shielded_loops, loop)
            if expected is not None and not self._total_given:
                self._tracked_total += expected
                self._said["total_items"] = Said(max(self._tracked_total, self._least_total), self._counted)
        return loop

    def runs(self, loop: Loop[Any]) -> bool:
        """Whether a loop has begun and not ended."""
        return loop in self._looped[1]

    def end(self, loop: Loop[Any]) -> None:
        """Keep what a loop has counted."""
        with self._lock:
            done, running = self._looped
            self._looped = done + loop.completed(), tuple(other for other in running if other is not loop)
            self._shielded_loops = tuple(other for other in self._shielded_loops if other is not loop)
        _around.set(tuple(pair for pair in _around.get() if pair[1] is not loop))

    def check_open(self) -> None:
        """Raise `TaskClosed` if the task has ended or is to, but not where nothing may be torn."""
        if not (self.closed or self.is_cancelled) or self in _shielded.get():
            return
        self.is_told = self.is_cancelled
        raise self.reason()

    def reason(self) -> TaskClosed:
        """Why a worker is to stop."""
        if self.closed is None:
            return TaskCancelled(self.task_id, self.attempt.status)
        return type(self.closed)(*self.closed.args)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Let nothing be torn in this context until the end of the block."""
        around = _shielded.get()
        _shielded.set((*around, self))
        with self._lock:
            self._shields += 1
        try:
            yield
        finally:
            _shielded.set(around)
            with self._lock:
                self._shields -= 1
            self._stop()

    # The writer's side.

    @property
    def runs_unsaid(self) -> bool:
        """Whether "running" is still to be written."""
        return self._unwritten().get("status", Said(None, 0)).value is TaskStatus.RUNNING

    def draft(self, *, everything: bool = True) -> Draft | None:
        """What is to be written, if anything.

        Unless everything is asked for, a task that has just been started stays "starting" for its moment.
        """
        said, counted = self._unwritten(), max(self._count(), self._written_count)
        status = said.get("status")
        if self.ends_here and not (status and status.value is not TaskStatus.RUNNING):
            said.pop("result_message", None)  # the end of the task will say it
        if self.closed or not (said or counted > self._written_count):
            return None
        if status and status.value is TaskStatus.RUNNING and not everything and time.monotonic() < self._running_from:
            return None
        since = said["completed_items"].counted if "completed_items" in said else self._written_count
        columns = {name: found.value for name, found in said.items()}
        if columns.get("status") is TaskStatus.QUEUED:  # what this attempt counted, it counted in vain
            columns["total_items"] = self.attempt.total_items
        report = Report(*self.attempt.key, **columns, advance=counted - since)
        return Draft(report, said, counted)

    def wrote(self, draft: Draft) -> None:
        """Note that what was drafted is in the row."""
        self._written.update(draft.said)
        self._written_count = draft.counted

    def let_go(self) -> bool:
        """Stop being watched if nothing is left to watch for; whether that is so."""
        watched, self.watched = self.watched, False  # before the look: who counts after it calls the writer
        busy = self.held or self._looped[1] or self.draft()
        self.watched = watched and bool(busy)
        return not busy

    def cancel(self) -> None:
        """Note that the task is to end: loops do before their next item."""
        self.is_cancelled = True
        self._stop()

    def close(self, status: TaskStatus | None, message: str | None = None) -> None:
        """Note that the row is final, or gone: nothing more is written, and loops end before their next item."""
        was_cancelled = self.is_cancelled and status is TaskStatus.FAILED
        self.closed = (TaskCancelled if was_cancelled else TaskClosed)(self.task_id, status, message)
        self.watched = self.held = False
        self._stop()

    def _stop(self) -> None:
        if not (self.closed or self.is_cancelled):
            return
        for loop in self._looped[1]:
            if loop not in self._shielded_loops:
                loop.stop()
        if self._shields == 0 and (call := self.on_stop) is not None:
            self.on_stop = None
            call()

    def start_over(self) -> None:
        """In a forked child: what the parent has not written yet stays the parent's, and so does the end."""
        self._lock = RLock()
        self.watched = self.held = self.ends_here = False
        self.on_stop = None
        self._written, self._written_count = dict(self._said), self._count()

    def _unwritten(self) -> dict[str, Said]:
        return {name: said for name, said in self._said.copy().items() if self._written.get(name) is not said}

    def _count(self) -> int:
        done, running = self._looped
        return self._counted + done + sum(loop.completed() for loop in running)
