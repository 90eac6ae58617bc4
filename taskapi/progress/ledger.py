"""What is said and counted of one task in this process, and how much of it is written. Knows no database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import RLock
from typing import Any, TypeVar

from ..database.models import TaskStatus
from ..database.store import Report
from .errors import TaskClosed
from .loops import Loop

T = TypeVar("T")


def merged(older: Report, newer: Report) -> Report:
    """Two reports of one task as one."""
    said = {name: value for name, value in newer._asdict().items() if value is not None}
    # A new absolute count stands for all that was counted before it.
    earlier = older.advance if newer.completed_items is None else 0
    return older._replace(**{**said, "advance": earlier + newer.advance})


class Ledger:
    """One task's account. Threads may share it; a forked child starts its own from zero.

    `watched`: the writer looks at it. `held`: the writer keeps the lease alive even if nothing is said.
    `in_doubt`: a write broke off, and may have been committed or not.
    """

    def __init__(self, task_id: str, row_id: int, *, total_given: bool) -> None:
        self.task_id = task_id
        self.id = row_id
        self.watched = False
        self.held = False
        self.in_doubt = False
        self.leased_at = time.monotonic()
        self.closed: TaskClosed | None = None
        # Reentrant: a signal handler may report while it interrupts a report.
        self._lock = RLock()
        self._nothing = Report(row_id)
        self._running_from = 0.0
        self._said = self._nothing
        self._has_result = False
        self._total_given = total_given
        self._tracked_total = 0
        self._loops: list[Loop[Any]] = []
        self._counted = 0
        self._taken = 0

    # The worker's side.

    def say(self, **fields: Any) -> None:
        """Note columns of a `Report`; None leaves one as it is."""
        said = {name: value for name, value in fields.items() if value is not None}
        with self._lock:
            if "completed_items" in said:  # it stands for all that was counted so far
                self._taken, said["advance"] = self._count(), 0
            self._total_given = self._total_given or "total_items" in said
            self._has_result = self._has_result or "result_message" in said
            self._said = self._said._replace(**said)

    def say_unless_given(self, result_message: str) -> None:
        """Note a result message, unless the worker gave one."""
        if not self._has_result:
            self.say(result_message=result_message)

    def say_running(self, seconds: float) -> None:
        """Note that the task runs, to be written after so many seconds: until then people see it starting."""
        self._running_from = time.monotonic() + seconds
        self.say(status=TaskStatus.RUNNING)

    def expect(self, items: int) -> None:
        """Note that a loop will count so many items: loops add up, unless the worker gave the total."""
        with self._lock:
            if not self._total_given:
                self._tracked_total += items
                self._said = self._said._replace(total_items=self._tracked_total)

    def count(self, n: int) -> bool:
        """Count items; whether the writer will see it."""
        with self._lock:
            self._counted += n
            return self.watched

    def follow(self, loop: Loop[T]) -> Iterator[Iterator[T]]:
        """Count a loop's items while it runs. Raises `TaskClosed` in the loop once the task has ended."""
        with self._lock:
            self.check_open()
            self._loops.append(loop)
        try:
            yield from loop.parts()
        finally:
            self._add_up(loop)
        self.check_open()

    def _add_up(self, loop: Loop[Any]) -> None:
        with self._lock:
            self._loops.remove(loop)
            self._counted += loop.completed()

    def check_open(self) -> None:
        """Raise `TaskClosed` if the task is known to have ended."""
        if self.closed is not None:
            raise TaskClosed(*self.closed.args)

    # The writer's side.

    @property
    def runs_unsaid(self) -> bool:
        """Whether "running" is still to be written."""
        return self._said.status is TaskStatus.RUNNING

    def take(self, *, everything: bool = True) -> Report | None:
        """What is to be written, if anything; it counts as written until it is given back.

        Unless everything is asked for, a task that has just been started stays "starting" for its moment.
        """
        with self._lock:
            count = self._count()
            report = merged(self._said, Report(self.id, advance=count - self._taken))
            early = report.status is TaskStatus.RUNNING and time.monotonic() < self._running_from
            if self.closed or report == self._nothing or (early and not everything):
                return None
            self._taken, self._said = count, self._nothing
            return report

    def give_back(self, report: Report) -> None:
        """Take back what could not be written; what was said since then stands."""
        with self._lock:
            self.in_doubt = True
            self._said = merged(report, self._said)

    def let_go(self) -> bool:
        """Stop being watched if nothing is left to watch for; whether that is so."""
        with self._lock:
            busy = self.held or self._loops or self._said != self._nothing or self._counted != self._taken
            self.watched = self.watched and bool(busy)
            return not self.watched

    def close(self, status: TaskStatus | None) -> None:
        """Note that the row is final, or gone: nothing more is written, and loops end before their next item."""
        with self._lock:
            self.closed = TaskClosed(self.task_id, status)
            self.watched = self.held = False
            self._forget()
            for loop in self._loops:
                loop.stop()

    def start_over(self) -> None:
        """In a forked child: what the parent has not written yet stays the parent's."""
        self._lock = RLock()
        self.watched = self.held = False
        self._forget()

    def _forget(self) -> None:
        self._said, self._taken = self._nothing, self._count()

    def _count(self) -> int:
        return self._counted + sum(loop.completed() for loop in self._loops)
