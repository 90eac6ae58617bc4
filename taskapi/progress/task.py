"""What a worker holds: a task to report on, and the block in which it runs. Knows no SQL."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .. import tracing
from ..database.models import BIGINT_MAX, CANCELLED, TaskStatus
from . import context, values
from .aio import Following, in_event_loop, in_thread, is_cancellation
from .errors import ProgressError, TaskCancelled, TaskClosed
from .ledger import Ledger
from .loops import AsyncLoop, Loop, loop_over
from .parts import Part
from .writer import Writer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

T = TypeVar("T")

# Characters of a traceback that are kept, from its end.
ERROR_DETAILS_LENGTH = 16_384
# And of the line that stands for an exception where a user reads it.
MESSAGE_LENGTH = 500


class Task:
    """A task that this process works on; threads may share it.

    Its methods note what is said and return at once; a background thread writes it. Each raises `TaskClosed` once
    the task is known to have ended (`TaskCancelled`, if it is to), and `TypeError` or `ValueError` for a value that
    cannot be.

    As a context manager (after `Progress.attach`) it keeps the task's lease alive, and on leaving waits until all
    is written; the task goes on.
    """

    def __init__(self, writer: Writer, ledger: Ledger, part: Part | None = None, span: Span | None = None) -> None:
        self._writer = writer
        self._ledger = ledger
        self._part = part
        self.span = span  # OpenTelemetry's, of the run that this is

    def __repr__(self) -> str:
        return f"<Task {self.task_id}>"

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._ledger.task_id

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked for the task's end: then leave the block, and the task has "failed", cancelled."""
        self._ledger.is_told |= (found := self._writer.is_cancelled(self._ledger))
        return found

    @contextmanager
    def uncancellable(self) -> Iterator[None]:
        """A `with` block in which nothing of the task is torn: no call and no loop raises `TaskClosed`.

        If there was a reason to, the end of the block does.
        """
        with self._ledger.shielded():
            yield
        self._ledger.check_open()

    def stage(self, text: str) -> None:
        """Say what the task is doing now, in a word or a few."""
        self.update(stage=text)

    def advance(self, n: int = 1) -> None:
        """Count `n` more items as completed; counts of several threads and processes add up."""
        if n.__class__ is not int or not 0 <= n <= BIGINT_MAX:
            n = values.count("n", n)
        if not self._ledger.count(n, self._part):
            self._writer.see_to(self._ledger)

    def update(
        self,
        *,
        progress: float | None = None,
        stage: str | None = None,
        total_items: int | None = None,
        completed_items: int | None = None,
    ) -> None:
        """Set what is given: `progress` in percent (0 to 100), numbers of items, a stage.

        `completed_items` replaces everything that was counted so far, by other processes too. In a step the numbers
        are the step's.
        """
        percent = None if progress is None else values.percentage("progress", progress)
        text = None if stage is None else values.text("stage", stage)
        total = None if total_items is None else values.count("total_items", total_items)
        completed = None if completed_items is None else values.count("completed_items", completed_items)
        self._ledger.check_open()
        self._ledger.say(stage=text)
        self._ledger.say_items(self._part, total, completed)
        self._say_progress(percent)
        self._see_to()

    def _say_progress(self, percent: float | None) -> None:
        self._ledger.say(progress=percent)

    def result(self, message: str) -> None:
        """Leave a short message on how the task went."""
        message = values.text("message", message)
        self._ledger.check_open()
        self._ledger.say(result_message=message)
        self._see_to()

    def step(self, name: str, weight: float = 1.0) -> Step:
        """A step of the task, to be entered with `with`; its name is the stage while it is.

        The steps that are made before the first of them is entered share the bar by weight; one that is made later
        moves it no further. Made where a step is entered, it is a step of that one. While steps are used,
        `total_items` and `completed_items` are those of the step that was entered last, and what is counted outside
        of steps does not move the bar.
        """
        name, weight = values.text("name", name), values.weight("weight", weight)
        self._ledger.check_open()
        part = self._ledger.divide(name, weight, self._part)
        self._see_to()
        return Step(self._writer, self._ledger, part)

    @overload
    def track(self, iterable: Iterable[T], total: int | None = None) -> Iterator[T]: ...

    @overload
    def track(self, iterable: AsyncIterable[T], total: int | None = None) -> AsyncIterator[T]: ...

    def track(
        self, iterable: Iterable[T] | AsyncIterable[T], total: int | None = None
    ) -> Iterator[T] | AsyncIterator[T]:
        """Go through `iterable` and count each item when the loop asks for the next one; with `async for` as well.

        The number of items to come is `total`, else `len(iterable)` if it has one; it becomes the task's
        `total_items` unless that was given. Several loops in one task add up. The item at which a loop breaks off
        does not count. Nothing is read ahead. Once the task has ended, the loop raises `TaskClosed` in place of its
        next item.
        """
        expected = _length(iterable) if total is None else values.count("total", total)
        if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
            return self._track_async(AsyncLoop(iterable), expected)
        loop = loop_over(iterable)
        self._ledger.check_open()
        return chain.from_iterable(self._follow(loop, expected))

    def _track_async(self, loop: AsyncLoop[T], expected: int | None) -> AsyncIterator[T]:
        counted: list[Loop[T]] = []  # as the ledger knows it
        self._ledger.check_open()
        return Following(
            loop,
            begin=lambda: counted.append(self._begin(loop, expected)),
            each=lambda: self._writer.before_item(self._ledger),
            end=lambda: self._end(counted.pop()),
            check=self._ledger.check_open,
        )

    def _follow(self, loop: Loop[T], expected: int | None) -> Iterator[Iterator[T]]:
        loop = self._begin(loop, expected)
        try:
            yield from self._writer.follow(self._ledger, loop.parts())
        finally:
            self._end(loop)
        self._ledger.check_open()

    def _begin(self, loop: Loop[T], expected: int | None) -> Loop[T]:
        loop = self._ledger.begin(loop, expected, self._part)
        try:
            self._writer.watch(self._ledger)
        except BaseException:
            self._ledger.end(loop)
            raise
        return loop

    def _end(self, loop: Loop[Any]) -> None:
        self._ledger.end(loop)
        if self._writer.writes_at_once(self._ledger):
            self._writer.flush(self._ledger)

    def _see_to(self) -> None:
        if self._ledger.watched:
            self._writer.poke()
        else:
            self._writer.see_to(self._ledger)

    def __enter__(self) -> Task:
        self._writer.hold(self._ledger)
        context.enter(self)
        return self

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _tb: object) -> None:
        context.leave(self)
        self._writer.release(self._ledger)
        if error is None:
            self._ledger.check_open()


class Step(Task):
    """A step of a task: what is said of items here is the step's, everything else the task's.

    As a context manager it is what the task does now; the end of the block completes the step's share of the bar. An
    exception that leaves it leaves the bar where it is. A step may be entered again: its count begins anew, the bar
    goes on from where it had come to. Several threads and asyncio tasks may be in one step, or in several. A step in
    the body of a `track` loop only says the stage, since that loop counts.

    Of several processes, the one that runs the task has the steps. What the others count with `attach` adds up in
    `completed_items` of the step in which it is, and moves the bar within the step's share; a step that they enter
    only says the stage. In a coroutine, `async with` keeps the counts of one step and the next apart.
    """

    _part: Part

    def __repr__(self) -> str:
        return f"<Step {self._part.name!r} of task {self.task_id}>"

    def _say_progress(self, percent: float | None) -> None:
        if percent is not None:
            self._ledger.reach(self._part, percent / 100)

    def __enter__(self) -> Step:
        if self._ledger.may_be_behind and not in_event_loop():
            self._writer.look(self._ledger)
        return self._enter()

    async def __aenter__(self) -> Step:
        if self._ledger.may_be_behind:
            await in_thread(self._writer.look, self._ledger)
        return self._enter()

    def _enter(self) -> Step:
        self._ledger.check_open()
        self._ledger.enter(self._part)
        self._see_to()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _tb: object) -> None:
        self._ledger.leave(self._part, finished=error is None)
        if not self._writer.writes_at_once(self._ledger) and self._ledger.closed is None:
            self._see_to()


def _length(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except TypeError:
        return None


class Run:
    """The block in which a task runs: from "starting" to "completed", or "failed" if an exception leaves it.

    With `retry`, an exception leaves it "queued" to be tried again. `sys.exit()` and `sys.exit(0)` complete it. A task
    that is cancelled leaves it "failed"; `TaskCancelled` ends here.
    """

    def __init__(self, writer: Writer, claim: Callable[[], Ledger], *, retry: bool) -> None:
        self._writer = writer
        self._claim = claim
        self._retry = retry

    def __enter__(self) -> Task:
        self._pid = os.getpid()
        self._ledger = self._claim()
        self._writer.start(self._ledger)
        attempt = self._ledger.attempt
        self._span = tracing.begin(attempt.task_id, attempt.kind, attempt.traceparent)
        self._task = Task(self._writer, self._ledger, span=self._span)
        context.enter(self._task)
        return self._task

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> bool:
        context.leave(self._task)
        if os.getpid() != self._pid:
            # A forked child leaves its parent's block: what it counted is its own, the end is not.
            self._writer.flush(self._ledger)
            return False
        tracing.end(self._span, error)
        if error is None:
            self._complete()
        elif self._is_cancellation(error):
            self._cancel()
            return True
        else:
            try:
                self._leave_by(error)
            except TaskCancelled:
                log.info("task %s was cancelled meanwhile", self._ledger.task_id)
            except ProgressError as unwritten:
                # The exception that leaves the block goes on; this one only explains why the row does not show it.
                log.warning("the end of task %s could not be written: %s", self._ledger.task_id, unwritten)
        return False

    def stop_by(self, call: Callable[[], None], told: Callable[[], None]) -> None:
        """Have `call` called once, in any thread, when the block is to be left; `told`, where an exception says so."""
        self._ledger.stop_by(call, told)

    def reason(self) -> TaskClosed:
        """Why the block is to be left."""
        return self._ledger.reason()

    @property
    def is_shielded(self) -> bool:
        """Whether nothing in the block may be torn now."""
        return self._ledger.is_shielded

    def _leave_by(self, error: BaseException) -> None:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            self._complete()
        elif self._retry:
            line = own_line(error).rstrip(".")
            message = f"Attempt {self._ledger.attempt.number} failed: {line}. It will be tried again."
            self._finish(TaskStatus.QUEUED, result_message=message, error_details=error_details(error))
        else:
            message = self._ledger.said("result_message") or own_line(error)
            self._finish(TaskStatus.FAILED, result_message=message, error_details=error_details(error))

    def _is_cancellation(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return all(map(self._is_cancellation, error.exceptions))
        return isinstance(error, TaskCancelled) and error.task_id == self._ledger.task_id

    def _complete(self) -> None:
        if self._ledger.is_told:
            self._cancel()
        else:
            with suppress(TaskCancelled):  # closed by the server, since it took too long: the work was not wanted
                self._finish(TaskStatus.COMPLETED, stage="finished", progress=100.0)

    def _cancel(self) -> None:
        with suppress(TaskClosed):  # it has ended meanwhile, one way or another
            self._finish(TaskStatus.FAILED, result_message=CANCELLED)

    def _finish(self, status: TaskStatus, **last: Any) -> None:
        self._writer.finish(self._ledger, status, **last)


def own_line(error: BaseException) -> str:
    """The line that a traceback ends with: the exception's name, and the first line of what it says."""
    if is_cancellation(error) and not error.args:
        return "The asyncio task was cancelled."
    found = traceback.TracebackException(type(error), error, None)
    found.__notes__ = None
    *_, last = found.format_exception_only()
    name, _, said = last.strip().partition(": ")
    line = values.text("result_message", f"{name}: {said.strip().splitlines()[0]}" if said else name.removesuffix(":"))
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1] + "…"


def error_details(error: BaseException) -> str:
    """The traceback as text, the end of it if it is long."""
    text = values.text("error_details", "".join(traceback.format_exception(error)))
    return text if len(text) <= ERROR_DETAILS_LENGTH else "…" + text[1 - ERROR_DETAILS_LENGTH :]
