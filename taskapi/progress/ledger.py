"""What is said and counted of one task in this process, and how much of it is in the row. Knows no database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any, NamedTuple, TypeVar

from ..database.models import TaskStatus
from ..database.store import NO_TOTAL, Attempt, Position, Report
from .errors import TaskCancelled, TaskClosed, ended
from .loops import InnerLoop, Loop
from .parts import Part

T = TypeVar("T")

# How much further than in the row the bar must be to be moved, in percent.
BEHIND = 0.001

# The loops and steps in whose bodies the running code is: its thread's, its greenlet's or its asyncio task's own.
_around: ContextVar[tuple[tuple[Ledger, Loop[Any] | Entry], ...]] = ContextVar("taskapi_loops", default=())
# The tasks of which nothing is to be torn where the running code is.
_shielded: ContextVar[tuple[Ledger, ...]] = ContextVar("taskapi_shielded", default=())


class Entry(NamedTuple):
    """A step that was entered; one that does not count only says what is being done."""

    part: Part
    counts: bool


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
        self._on_told: Callable[[], None] = lambda: None
        self._running_from = 0.0
        # The workers' part. Reentrant, for signal handlers.
        self._lock = RLock()
        self._said: dict[str, Said] = {}
        # A total that is there at the start was given, unless an attempt that broke off may have left it: then it
        # stands until the loops expect more.
        self._bar = Part()
        self._bar.total_given = None if restarted else attempt.total_items
        self._bar.least_total = attempt.total_items
        self._loops: dict[Loop[Any], Part] = {}  # that have begun and not ended
        self._entered: tuple[Part, ...] = ()
        # The part whose items the row counts, and what is counted beside them.
        self._shown: tuple[int, Part] = 0, self._bar
        self._shields = 0
        self._shielded_loops: tuple[Loop[Any], ...] = ()
        # The writer's part.
        self._written: dict[str, Said] = {}
        self._written_count = 0
        self._others = 0  # what the row has beside what was written of this process's counts
        self._is_behind = False

    # The worker's side.

    def say(self, **fields: Any) -> None:
        """Note columns of a `Report`; None leaves one as it is."""
        counted = self._count()  # for which a number of completed items stands
        self._said.update({name: Said(value, counted) for name, value in fields.items() if value is not None})

    def say_items(self, part: Part | None, total_items: int | None, completed_items: int | None) -> None:
        """Note how many items there are and are completed, in a step or where the running code is."""
        part = self.here(part)
        with self._lock:
            if total_items is not None:
                part.total_given = total_items
            if completed_items is not None:
                part.set_completed(completed_items)
            if part is self._shown[1]:
                self.say(total_items=total_items, completed_items=completed_items)

    def said(self, name: str) -> Any:
        """What was said last of a column, or None."""
        found = self._said.get(name)
        return found and found.value

    def say_running(self, seconds: float) -> None:
        """Note that the task runs, to be written after so many seconds: until then people see it starting."""
        self._running_from = time.monotonic() + seconds
        self.say(status=TaskStatus.RUNNING)

    def count(self, n: int, part: Part | None = None) -> bool:
        """Count items, in a step or where the running code is.

        Returns whether the writer will see it, and there is nothing that the worker must be told.
        """
        part = self.here(part) if part or self._bar.parts else self._bar
        with self._lock:
            part.count(n)
            if part is not self._shown[1] and not self._entered and not self._is_in_loop():
                self._show(part)
            return self.watched and not self.is_cancelled

    def begin(self, loop: Loop[T], expected: int | None, part: Part | None = None) -> Loop[T]:
        """Count a loop's items from now on; of loops within each other, the outermost one's.

        Loops beside each other add up, and so do the numbers of items they expect unless the worker gave the total.
        Returns the loop to go through.
        """
        part = self.here(part)
        if is_inner := self._is_in_loop():
            loop, expected = InnerLoop(loop), None
        _around.set((*((ledger, thing) for ledger, thing in _around.get() if ledger.runs(thing)), (self, loop)))
        with self._lock:
            self._loops[loop] = part
            if self in _shielded.get():
                self._shielded_loops = (*self._shielded_loops, loop)
            part.begin(loop, expected)
            if part is not self._shown[1] and not self._entered and not is_inner:
                self._show(part)
            elif part is self._shown[1] and expected is not None and part.total_given is None:
                self._said["total_items"] = Said(part.total(), self._count())
        return loop

    def runs(self, thing: Loop[Any] | Entry) -> bool:
        """Whether a loop has begun and not ended, a step is entered and not left."""
        if isinstance(thing, Entry):
            return not thing.counts or thing.part.is_entered
        return thing in self._loops

    def end(self, loop: Loop[Any]) -> None:
        """Keep what a loop has counted."""
        with self._lock:
            if part := self._loops.pop(loop, None):
                part.end(loop)
            self._shielded_loops = tuple(other for other in self._shielded_loops if other is not loop)
        _around.set(tuple(pair for pair in _around.get() if pair[1] is not loop))

    # Steps.

    def reach(self, part: Part, fraction: float) -> None:
        """Note how much of a step is done."""
        with self._lock:
            part.reach(fraction)
            self._say_bar()

    def divide(self, name: str, weight: float, part: Part | None = None) -> Part:
        """Make a step of a step, or of the one in which the running code is, or of the whole.

        One that is made in the body of a loop has no share, since the loop counts for all in it.
        """
        whole = self.here(part)
        if self._is_in_loop():
            return Part(name, 0.0, whole)
        with self._lock:
            made = whole.divide(name, weight)
            self._say_bar()
        return made

    def enter(self, part: Part) -> None:
        """Work on a step: its name is the stage.

        In the body of a loop, which counts for all in it, and in a process that does not run the task, that is all.
        Else the row counts the step's items from now on.
        """
        entry = Entry(part, counts=self.ends_here and not self._is_in_loop())
        _around.set((*_around.get(), (self, entry)))
        with self._lock:
            if entry.counts:
                part.enter()
                self._entered = (*self._entered, part)
                self._show(part)
            self.say(stage=part.name)

    def leave(self, part: Part, *, finished: bool) -> None:
        """Work on a step no more; if another one is still worked on, that is the stage again."""
        entry = self._take_entry(part)
        if not (entry.counts and self.ends_here):
            return
        with self._lock:
            part.leave(finished=finished)
            rest = list(self._entered)
            rest.remove(part)
            self._entered = tuple(rest)
            if rest:
                self._go_on(part.whole if part.whole in rest else rest[-1])
            self._say_bar()

    def _go_on(self, part: Part | None) -> None:
        """Say that a step is worked on again; of one that only holds others there is nothing to count."""
        if part is not None:
            self.say(stage=part.name)
            if part.total() or part.completed():
                self._show(part)

    def _take_entry(self, part: Part) -> Entry:
        around = _around.get()
        for index in reversed(range(len(around))):
            ledger, thing = around[index]
            if ledger is self and isinstance(thing, Entry) and thing.part is part:
                _around.set(around[:index] + around[index + 1 :])
                return thing
        return Entry(part, counts=part in self._entered)  # it was entered in another context

    def here(self, part: Part | None = None) -> Part:
        """The step that is named, else the innermost one in which the running code is.

        Else the one that was entered last, else the whole. In a process that does not run the task, always the part
        whose items the row counts.
        """
        if not self.ends_here:
            return self._shown[1]
        if part is not None:
            return part
        for ledger, thing in reversed(_around.get()):
            if ledger is self and isinstance(thing, Entry) and thing.counts and thing.part.is_entered:
                return thing.part
        return self._entered[-1] if self._entered else self._bar

    def _is_in_loop(self) -> bool:
        return any(
            ledger is self and not isinstance(thing, Entry) and self.runs(thing) for ledger, thing in _around.get()
        )

    def _show(self, part: Part) -> None:
        """Let the row count a part's items, and no longer what others have counted until now."""
        total = part.total()
        self._said["total_items"] = Said(NO_TOTAL if total is None else total, 0)
        if "completed_items" in self._unwritten():
            self._said["completed_items"] = Said(part.completed(), part.completed() - self._others)
        # Last, since the writer must not count the old part's items as the new one's.
        self._shown = part.completed() - part.value() - self._others, part
        self._say_bar()

    def _say_bar(self) -> None:
        """Have it written where the bar is, if this process moves it."""
        if self.ends_here:
            self._said["share"] = Said(None, self._count())

    def check_open(self) -> None:
        """Raise `TaskClosed` if the task has ended or is to, but not where nothing may be torn."""
        if not (self.closed or self.is_cancelled) or self in _shielded.get():
            return
        self.is_told = self.is_cancelled
        self._on_told()
        raise self.reason()

    def reason(self) -> TaskClosed:
        """Why a worker is to stop."""
        if self.closed is None:
            return TaskCancelled(self.task_id, self.attempt.status)
        return type(self.closed)(*self.closed.args)

    @property
    def is_shielded(self) -> bool:
        """Whether nothing may be torn now, in some context."""
        return self._shields > 0

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
        said, counted, bar = self._state()
        status = said.get("status")
        if self.ends_here and not (status and status.value is not TaskStatus.RUNNING):
            said.pop("result_message", None)  # the end of the task will say it
        if self.closed or not (said or counted != self._written_count or self._is_behind):
            return None
        if status and status.value is TaskStatus.RUNNING and not everything and time.monotonic() < self._running_from:
            return None
        since = said["completed_items"].counted if "completed_items" in said else self._written_count
        columns = {name: found.value for name, found in said.items()}
        if columns.get("status") is TaskStatus.QUEUED:  # what this attempt counted, it counted in vain
            columns["total_items"] = self.attempt.total_items
        report = Report(*self.attempt.key, **{**columns, **bar}, advance=counted - since)
        return Draft(report, said, counted)

    def wrote(self, draft: Draft) -> None:
        """Note that what was drafted is in the row."""
        self._written.update(draft.said)
        self._written_count = draft.counted
        if "completed_items" in draft.said:
            self._others = draft.said["completed_items"].value - draft.said["completed_items"].counted
        self._is_behind = False

    @property
    def is_divided(self) -> bool:
        """Whether the bar has steps, and this process moves it."""
        return self.ends_here and (bool(self._bar.parts) or self._shown[1] is not self._bar)

    @property
    def may_be_behind(self) -> bool:
        """Whether other processes may have counted what is shown now."""
        part = self._shown[1]
        return self.is_divided and (not self.is_marked or part.completed() != part.total())

    @property
    def is_marked(self) -> bool:
        """Whether the row has that the bar is divided."""
        return "share" in self._written

    def compare(self, position: Position) -> None:
        """See what is in the row: if others have counted, the bar may have to be moved."""
        self._others = position.completed_items - self._written_count
        begins, share = self._shown[1].window()
        done = min(1.0, position.completed_items / position.total_items) if position.total_items else 0.0
        self._is_behind = begins + share * done > position.progress + BEHIND

    def let_go(self) -> bool:
        """Stop being watched if nothing is left to watch for; whether that is so."""
        watched, self.watched = self.watched, False  # before the look: who counts after it calls the writer
        busy = self.held or self._loops or self.draft()
        self.watched = watched and bool(busy)
        return not busy

    def cancel(self) -> None:
        """Note that the task is to end: loops do before their next item."""
        self.is_cancelled = True
        self._stop()

    def close(self, status: TaskStatus | None, message: str | None = None) -> None:
        """Note that the row is final, or gone: nothing more is written, and loops end before their next item."""
        self.closed = ended(self.task_id, status, message, cancelled=self.is_cancelled)
        self.watched = self.held = False
        self._stop()

    def stop_by(self, call: Callable[[], None], told: Callable[[], None]) -> None:
        """Have `call` called once, in any thread, when a worker is to stop; at once if that is so already.

        And `told` by each worker that is told so by an exception.
        """
        self.on_stop, self._on_told = call, told
        self._stop()

    def _stop(self) -> None:
        if not (self.closed or self.is_cancelled):
            return
        for loop in list(self._loops):
            if loop not in self._shielded_loops:
                loop.stop()
        if not self.is_shielded and (call := self.on_stop) is not None:
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

    def _state(self) -> tuple[dict[str, Said], int, dict[str, float]]:
        """What is to be written, what was counted by then, and where the bar is: of one moment."""
        while True:
            shown = self._shown
            said, counted = self._unwritten(), self._count()
            bar = dict(zip(("begins", "share"), shown[1].window(), strict=True)) if self.is_divided else {}
            if shown is self._shown:
                return said, counted, bar

    def _count(self) -> int:
        before, part = self._shown
        return before + part.value()
