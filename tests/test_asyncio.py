"""Tasks in coroutines: whatever the database does, the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from harness import ROOT, Proxy, insert, row, update, wait_until
from sqlalchemy.engine import make_url

from taskapi.database.store import Store
from taskapi.progress import DatabaseUnavailable, Progress, Task, TaskClosed, TaskNotFound, current_task, writer
from taskapi.testing import eager

# What a callback of the event loop may take.
SLOW_SECONDS = 0.005

WORKERS = (ROOT / "taskapi" / "docs" / "workers.md").read_text()
Slow = Callable[[Callable[[], Any]], list[str]]


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        await asyncio.sleep(0)
        yield number


async def until(condition: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(wait_until, condition, 5)


# Blocks.


def test_a_task_runs_in_an_async_block(progress: Progress, engine: sa.Engine) -> None:
    async def work() -> str:
        task_id = await progress.acreate(user_id=7, kind="cards", total_items=3)
        assert row(engine, task_id)["status"] == "pending"
        async with progress.arun(task_id) as task:
            task.stage("making")
            await until(lambda: row(engine, task_id)["status"] == "running")
            for _number in task.track([1, 2, 3]):
                await asyncio.sleep(0)
            task.result("3 cards")
        return task_id

    found = row(engine, asyncio.run(work()))

    assert (found["status"], found["progress"], found["completed_items"]) == ("completed", 100, 3)
    assert (found["user_id"], found["kind"], found["result_message"]) == (7, "cards", "3 cards")


def test_an_async_for_counts(progress: Progress, engine: sa.Engine) -> None:
    async def work() -> Task:
        async with progress.atask(user_id=1) as task:
            async for number in task.track(numbers(10), total=10):
                if number == 5:
                    await until(lambda: row(engine, task.task_id)["completed_items"] == 5)
                    assert row(engine, task.task_id)["progress"] == 50
        return task

    task = asyncio.run(work())

    found = row(engine, task.task_id)
    assert (found["completed_items"], found["total_items"]) == (10, 10)


def test_an_async_for_that_breaks_off_counts_what_was_done(progress: Progress, engine: sa.Engine) -> None:
    async def work() -> Task:
        async with progress.atask(user_id=1) as task:
            async for number in task.track(numbers(10)):
                if number == 5:
                    break
            async for _number in task.track(numbers(3)):
                for _inner in task.track(range(100)):
                    pass
        return task

    assert row(engine, asyncio.run(work()).task_id)["completed_items"] == 8


def test_an_error_of_an_async_iterable_comes_out_unchanged(progress: Progress, engine: sa.Engine) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    async def work(task_id: str) -> None:
        async with progress.arun(task_id) as task:
            async for _number in task.track(broken()):
                pass

    task_id = progress.create(user_id=1)
    with pytest.raises(LookupError, match="no more"):
        asyncio.run(work(task_id))

    found = row(engine, task_id)
    assert (found["status"], found["completed_items"]) == ("failed", 2)
    assert found["result_message"] == "LookupError: no more"
    assert "in broken" in found["error_details"]


def test_an_async_for_ends_at_once_when_its_task_was_closed(progress: Progress, engine: sa.Engine) -> None:
    handed_out = []

    async def work() -> None:
        async with progress.atask(user_id=1) as task:
            async for number in task.track(numbers(1000)):
                handed_out.append(number)
                if number == 3:
                    update(engine, task.task_id, status="timeout")
                    task.stage("unaware")
                    await until(lambda: task._ledger.closed)

    with pytest.raises(TaskClosed):
        asyncio.run(work())
    assert handed_out == [0, 1, 2, 3]


def test_what_can_be_iterated_both_ways_is_gone_through_by_for(progress: Progress, engine: sa.Engine) -> None:
    class Both(list[int]):
        def __aiter__(self) -> AsyncIterator[int]:
            return numbers(len(self))

    with progress.task(user_id=1) as task:
        assert list(task.track(Both([1, 2, 3]))) == [1, 2, 3]
    assert row(engine, task.task_id)["completed_items"] == 3


def test_steps_in_coroutines(progress: Progress, engine: sa.Engine) -> None:
    async def work(task: Task, step: Any) -> None:
        async with step:
            async for _number in task.track(numbers(4), total=4):
                pass

    async def both() -> Task:
        async with progress.atask(user_id=1) as task, asyncio.TaskGroup() as group:
            steps = [task.step("one"), task.step("two"), task.step("never", weight=2)]
            for step in steps[:2]:
                group.create_task(work(task, step))
        return task

    async def check() -> None:
        async with progress.atask(user_id=1) as task:
            one, two, _never = task.step("one"), task.step("two"), task.step("never", weight=2)
            await asyncio.gather(work(task, one), work(task, two))
            await until(lambda: row(engine, task.task_id)["progress"] == 50)

    asyncio.run(both())
    asyncio.run(check())


def test_a_task_is_attached_to(progress: Progress, engine: sa.Engine) -> None:
    insert(engine, "running", status="running")

    async def work() -> None:
        async with progress.aattach("running") as task:
            task.advance(5)

    asyncio.run(work())

    assert row(engine, "running")["completed_items"] == 5
    assert row(engine, "running")["status"] == "running"


def test_bad_values_raise_at_the_call(progress: Progress) -> None:
    with pytest.raises(TypeError, match="task_id"):
        progress.arun(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="task_id"):
        progress.aattach(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind"):
        progress.atask(user_id=1, kind="a/b")
    with pytest.raises(ValueError, match="total_items"):
        asyncio.run(progress.acreate(user_id=1, total_items=-1))


def test_a_task_that_is_not_there_is_told(progress: Progress) -> None:
    async def work() -> None:
        async with progress.arun("nobody"):
            pytest.fail("there is none")

    with pytest.raises(TaskNotFound):
        asyncio.run(work())


def test_many_tasks_run_at_once(progress: Progress, engine: sa.Engine) -> None:
    async def work(number: int) -> str:
        async with progress.atask(user_id=number) as task:
            assert current_task() is task
            await asyncio.sleep(0)
            async for _item in task.track(numbers(number)):
                assert current_task() is task
        return task.task_id

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*[work(number) for number in range(20)])

    for number, task_id in enumerate(asyncio.run(all_of_them())):
        found = row(engine, task_id)
        assert (found["user_id"], found["status"], found["completed_items"]) == (number, "completed", number)


def test_in_a_host_s_tests_an_async_for_is_in_the_row_at_once(app: Flask, engine: sa.Engine) -> None:
    async def work() -> None:
        progress = Progress()
        async with progress.atask(user_id=1) as task, task.step("only") as step:
            async for number in step.track(numbers(5), total=5):
                found = row(engine, task.task_id)
                assert (found["completed_items"], found["progress"]) == (number, 20 * number)

    with eager(app):
        asyncio.run(work())


# The end by a cancelled asyncio task.


def test_a_cancelled_asyncio_task_fails_the_task(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    async def work(started: asyncio.Event) -> None:
        async with progress.arun(task_id):
            started.set()
            await asyncio.sleep(60)

    async def cancel() -> bool:
        started = asyncio.Event()
        running = asyncio.create_task(work(started))
        await started.wait()
        running.cancel()
        await asyncio.wait([running])
        return running.cancelled()

    assert asyncio.run(cancel())
    found = row(engine, task_id)
    assert (found["status"], found["result_message"]) == ("failed", "The asyncio task was cancelled.")
    assert "CancelledError" in found["error_details"]


def test_a_timeout_of_asyncio_around_the_block_fails_the_task(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    async def work() -> None:
        async with asyncio.timeout(0.5), progress.arun(task_id):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert row(engine, task_id)["status"] == "failed"


@pytest.mark.parametrize("steps", range(12))
def test_a_cancellation_at_any_moment_leaves_no_task_running(steps: int, progress: Progress, engine: sa.Engine) -> None:
    """The thread that starts or ends a task goes on when who waits for it is cancelled."""
    task_id = progress.create(user_id=1)

    async def work() -> None:
        async with progress.arun(task_id):
            await asyncio.sleep(0)

    async def cancel() -> bool:
        running = asyncio.create_task(work())
        for _step in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        return running.cancelled()

    assert asyncio.run(cancel())
    assert row(engine, task_id)["status"] in ("pending", "failed", "completed")


def test_an_asyncio_task_that_fails_in_a_group_fails_the_task(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    async def fail() -> None:
        raise LookupError("no such card")

    async def work() -> None:
        async with progress.arun(task_id), asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))

    with pytest.raises(ExceptionGroup):
        asyncio.run(work())
    found = row(engine, task_id)
    assert found["status"] == "failed"
    assert "no such card" in found["error_details"]


# The end by a user who does not want the task any more.


def cancel(store: Store, task_id: str) -> None:
    task = store.task(task_id)
    assert task is not None
    store.cancel(task)


def cancelled(engine: sa.Engine, task_id: str) -> tuple[str, str]:
    found = row(engine, task_id)
    return found["status"], found["result_message"]


def test_a_cancelled_task_interrupts_its_asyncio_task_which_goes_on_after_the_block(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    async def work() -> tuple[str, float]:
        async with progress.atask(user_id=1) as task:
            await asyncio.to_thread(cancel, store, task.task_id)
            start = time.monotonic()
            await asyncio.sleep(60)
        runner = asyncio.current_task()
        assert runner is not None
        assert runner.cancelling() == 0
        await asyncio.sleep(0)
        return task.task_id, time.monotonic() - start

    task_id, seconds = asyncio.run(work())

    assert cancelled(engine, task_id) == ("failed", "Cancelled.")
    assert seconds < 10


def test_a_cancelled_task_ends_the_group_in_its_block(progress: Progress, engine: sa.Engine, store: Store) -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(True)
            raise

    async def work() -> str:
        async with progress.atask(user_id=1) as task, asyncio.TaskGroup() as group:
            waiting = [group.create_task(wait()) for _number in range(3)]
            await asyncio.sleep(0)
            await asyncio.to_thread(cancel, store, task.task_id)
            await asyncio.gather(*waiting)
        return task.task_id

    assert cancelled(engine, asyncio.run(work())) == ("failed", "Cancelled.")
    assert ended == [True] * 3


def test_a_cancelled_task_interrupts_nothing_that_must_not_be_torn(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    done = []

    async def work() -> str:
        async with progress.atask(user_id=1) as task:
            with task.uncancellable():
                await asyncio.to_thread(cancel, store, task.task_id)
                await until(lambda: task.cancelled)
                await asyncio.sleep(0.1)
                done.append("whole")
            pytest.fail("the end of that block is the end of the task")
        return task.task_id

    assert cancelled(engine, asyncio.run(work())) == ("failed", "Cancelled.")
    assert done == ["whole"]


def test_a_cancellation_that_comes_just_before_tears_nothing_either(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    async def work() -> str:
        async with progress.atask(user_id=7, task_id="a") as task:
            cancel(store, "a")
            while not task.cancelled:
                time.sleep(0.01)  # the event loop has no time to interrupt
            with task.uncancellable():
                await asyncio.sleep(0.1)
                done.append("whole")
            done.append("behind")
        return "on"

    done: list[str] = []

    assert asyncio.run(work()) == "on"
    assert done == ["whole"]
    assert cancelled(engine, "a") == ("failed", "Cancelled.")


def test_who_catches_the_interruption_to_clean_up_has_cancelled_as_well(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    async def work() -> str:
        async with progress.atask(user_id=7, task_id="a"):
            await asyncio.to_thread(cancel, store, "a")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(0.1)
        runner = asyncio.current_task()
        assert runner is not None
        assert runner.cancelling() == 0
        return "on"

    assert asyncio.run(work()) == "on"
    assert cancelled(engine, "a") == ("failed", "Cancelled.")


def test_who_is_told_by_an_exception_cleans_up_without_being_interrupted(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    async def work() -> str:
        async with progress.atask(user_id=7, task_id="a") as task:
            cancel(store, "a")
            try:
                while True:
                    time.sleep(0.01)  # the event loop has no time to interrupt
                    task.advance()
            finally:
                await asyncio.sleep(0.1)
                done.append("cleaned up")
        await asyncio.sleep(0)
        return "on"

    done: list[str] = []

    assert asyncio.run(work()) == "on"
    assert done == ["cleaned up"]
    assert cancelled(engine, "a") == ("failed", "Cancelled.")


def test_an_async_for_ends_when_its_task_is_cancelled(progress: Progress, engine: sa.Engine, store: Store) -> None:
    async def work() -> str:
        async with progress.atask(user_id=1) as task:
            async for number in task.track(numbers(10**9)):
                if number == 10:
                    await asyncio.to_thread(cancel, store, task.task_id)
        return task.task_id

    assert cancelled(engine, asyncio.run(work())) == ("failed", "Cancelled.")


def test_a_task_that_was_closed_interrupts_its_asyncio_task_by_the_reason(
    progress: Progress, engine: sa.Engine
) -> None:
    async def work() -> None:
        async with progress.atask(user_id=1) as task:
            await asyncio.to_thread(update, engine, task.task_id, status="timeout", result_message="Too late.")
            task.stage("unaware")
            await asyncio.sleep(60)

    with pytest.raises(TaskClosed) as raised:
        asyncio.run(work())
    assert (raised.value.status, raised.value.message) == ("timeout", "Too late.")


def test_who_is_cancelled_by_two_goes_on_being_cancelled(progress: Progress, engine: sa.Engine, store: Store) -> None:
    task_id = progress.create(user_id=1)

    async def work() -> None:
        async with progress.arun(task_id):
            try:
                await asyncio.sleep(60)
            finally:
                me = asyncio.current_task()
                assert me is not None
                me.cancel()

    async def run() -> bool:
        running = asyncio.create_task(work())
        await until(lambda: row(engine, task_id)["status"] == "running")
        await asyncio.to_thread(cancel, store, task_id)
        await asyncio.wait([running])
        return running.cancelled()

    assert asyncio.run(run())
    assert row(engine, task_id)["status"] == "failed"


def test_a_cancellation_that_comes_at_the_end_leaves_no_asyncio_task_cancelled(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    async def work(turn: int) -> None:
        async with progress.atask(user_id=1) as task:
            asking = asyncio.create_task(asyncio.to_thread(cancel, store, task.task_id))
            await asyncio.sleep(0.02 * turn)
        await asking
        assert row(engine, task.task_id)["status"] in ("completed", "failed")

    async def all_of_them() -> None:
        await asyncio.gather(*[work(turn) for turn in range(20)])

    asyncio.run(all_of_them())


def test_a_tracked_call_whose_task_is_cancelled_returns_nothing(
    progress: Progress, engine: sa.Engine, store: Store
) -> None:
    ids = []

    @progress.tracked(user_id=1)
    async def work() -> int:
        ids.append(current_task().task_id)
        await asyncio.to_thread(cancel, store, ids[0])
        await asyncio.sleep(60)
        return 1

    assert asyncio.run(work()) is None
    assert cancelled(engine, ids[0]) == ("failed", "Cancelled.")


# The event loop.


class Waits:
    """How long the processor was not given to this thread during the last callback: other people's doing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self._run = asyncio.Handle._run
        monkeypatch.setattr(asyncio.Handle, "_run", lambda handle: self._watch(handle))

    def _watch(self, handle: asyncio.Handle) -> None:
        before = self._delays()
        self._run(handle)
        self.seconds = self._delays() - before

    @staticmethod
    def _delays() -> float:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@pytest.fixture
def slow(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """Run a coroutine in debug mode; what asyncio says of callbacks that took too long."""
    waits, found = Waits(monkeypatch), []

    def note(record: logging.LogRecord) -> bool:
        if "took" in record.msg and record.args[1] - waits.seconds > SLOW_SECONDS:  # type: ignore[index, operator]
            found.append(record.getMessage())
        return True

    def run(coroutine: Callable[[], Any]) -> list[str]:
        async def watched() -> None:
            await asyncio.to_thread(int)  # the first thread costs the loop its import
            asyncio.get_running_loop().slow_callback_duration = SLOW_SECONDS
            await coroutine()
            await asyncio.sleep(0)
            asyncio.get_running_loop().slow_callback_duration = 60

        found.clear()
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            asyncio.run(watched(), debug=True)
        return list(found)

    logger = logging.getLogger("asyncio")
    logger.addFilter(note)
    yield run
    logger.removeFilter(note)


async def life(progress: Progress) -> None:
    """Everything that a task may do in a coroutine."""
    task_id = await progress.acreate(user_id=1)
    async with progress.arun(task_id) as task:
        plan, render = task.step("plan"), task.step("render", weight=3)
        async with plan as step:
            async for _number in step.track(numbers(50), total=50):
                task.advance(0)
        with render as step:
            for _number in step.track(range(50)):
                await asyncio.sleep(0.002)
        async with progress.aattach(task_id) as joined:
            joined.advance()
        task.result("done")


def least(slow: Slow, coroutine: Callable[[], Any]) -> list[str]:
    """What is slow each time: who holds Python's lock may have lost the processor as well."""
    for _turn in range(20):
        if not (found := slow(coroutine)):
            break
    return found


def test_what_blocks_the_event_loop_is_seen(slow: Slow) -> None:
    async def block() -> None:
        time.sleep(2 * SLOW_SECONDS)

    assert least(slow, block)


def test_nothing_blocks_the_event_loop(progress: Progress, slow: Slow) -> None:
    assert least(slow, lambda: life(progress)) == []


def test_a_first_use_of_the_helper_does_not_block_the_event_loop(
    database_url: str, monkeypatch: pytest.MonkeyPatch, slow: Slow
) -> None:
    turns = iter(range(20))

    def life_of_its_own() -> Any:
        lease = str(60 + next(turns))  # for which there is no writer yet
        monkeypatch.setenv("TASKAPI_LEASE_SECONDS", lease)
        return life(Progress(database_url))

    assert least(slow, life_of_its_own) == []


def test_a_database_that_is_locked_does_not_block_the_event_loop(
    progress: Progress, engine: sa.Engine, slow: Slow
) -> None:
    change = sa.text("UPDATE user_tasks SET stage = 'held' WHERE task_id = :id")

    async def work() -> None:
        async with progress.atask(user_id=1) as task:
            one, two = task.step("one"), task.step("two")
            lock = engine.begin()
            connection = await asyncio.to_thread(lock.__enter__)
            await asyncio.to_thread(connection.execute, change, {"id": task.task_id})
            async with one as step:
                async for _number in step.track(numbers(100), total=100):
                    task.stage("working")
                    await asyncio.sleep(0.002)
            with two:
                task.advance()
            await asyncio.to_thread(lock.__exit__, None, None, None)

    assert least(slow, work) == []


def test_an_outage_does_not_block_the_event_loop(postgres_url: str, slow: Slow) -> None:
    url = make_url(postgres_url)
    proxy = Proxy(url.host or "127.0.0.1", url.port or 5432)
    remote = Progress(url.set(host="127.0.0.1", port=proxy.port))

    async def work() -> None:
        async with remote.atask(user_id=1) as task:
            one, two = task.step("one"), task.step("two")
            await asyncio.to_thread(proxy.close)
            async with one as step:
                async for _number in step.track(numbers(100), total=100):
                    task.stage("working")
                    await asyncio.sleep(0.002)
            back = asyncio.get_running_loop().call_later(0.5, threading.Thread(target=proxy.open).start)
            with two:
                task.advance()
        assert back.when() <= asyncio.get_running_loop().time(), "the end waits for the database"

    try:
        assert least(slow, work) == []
    finally:
        proxy.close()


def test_a_database_that_never_answers_does_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, slow: Slow
) -> None:
    away = Progress("postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(writer, "START_SECONDS", 0.5)

    async def work() -> None:
        with pytest.raises(DatabaseUnavailable):
            await away.acreate(user_id=1)
        with pytest.raises(DatabaseUnavailable):
            async with away.arun("any"):
                pytest.fail("nobody answered")

    assert least(slow, work) == []


# The task of the context.


def test_there_is_no_current_task_outside_of_a_block(progress: Progress) -> None:
    with pytest.raises(LookupError):
        current_task()
    with progress.task(user_id=1):
        pass
    with pytest.raises(LookupError):
        current_task()


def test_the_current_task_is_that_of_the_innermost_block(progress: Progress) -> None:
    with progress.task(user_id=1) as outer:
        with progress.task(user_id=2) as inner:
            assert current_task() is inner
            with progress.attach(outer.task_id) as joined:
                assert current_task() is joined
        assert current_task() is outer


def test_a_thread_has_the_current_task_of_the_context_it_is_given(progress: Progress) -> None:
    found: list[Any] = []

    def look() -> None:
        try:
            found.append(current_task())
        except LookupError:
            found.append(None)

    with progress.task(user_id=1) as task:
        for work in (look, functools.partial(contextvars.copy_context().run, look)):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    assert found == [None, task]


def test_an_asyncio_task_has_the_current_task_of_who_made_it(progress: Progress) -> None:
    async def look() -> Task:
        await asyncio.sleep(0)
        return current_task()

    async def work() -> None:
        async with progress.atask(user_id=1) as task:
            found = await asyncio.gather(look(), asyncio.to_thread(current_task))
            assert found[0] is found[1] is task
        with pytest.raises(LookupError):
            current_task()

    asyncio.run(work())


# The block as a decorator.


def test_a_tracked_function_is_a_task_each_time_it_is_called(progress: Progress, engine: sa.Engine) -> None:
    ids = []

    @progress.tracked(user_id=5, kind="double")
    def double(number: int, *, plus: int = 0) -> int:
        """Twice as much."""
        ids.append(current_task().task_id)
        current_task().advance()
        return 2 * number + plus

    assert [double(1), double(2, plus=1)] == [2, 5]
    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")
    assert str(inspect.signature(double)) == "(number: 'int', *, plus: 'int' = 0) -> 'int'"
    for task_id in ids:
        found = row(engine, task_id)
        assert (found["user_id"], found["kind"]) == (5, "double")
        assert (found["status"], found["completed_items"]) == ("completed", 1)
    assert len(set(ids)) == 2


def test_a_tracked_function_that_fails_fails_its_task(progress: Progress, engine: sa.Engine) -> None:
    ids = []

    @progress.tracked(user_id=5)
    def fail() -> None:
        ids.append(current_task().task_id)
        raise LookupError("no such card")

    with pytest.raises(LookupError):
        fail()
    assert row(engine, ids[0])["result_message"] == "LookupError: no such card"


def test_a_tracked_coroutine_function_is_a_task(progress: Progress, engine: sa.Engine) -> None:
    @progress.tracked(user_id=5, kind="double")
    async def double(number: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return 2 * number, current_task().task_id

    assert inspect.iscoroutinefunction(double)
    result, task_id = asyncio.run(double(4))
    assert result == 8
    assert row(engine, task_id)["status"] == "completed"


def test_what_cannot_be_tracked_is_refused_at_the_call(progress: Progress) -> None:
    with pytest.raises(ValueError, match="total_items"):
        progress.tracked(user_id=1, total_items=-1)
    with pytest.raises(TypeError, match="task_id"):
        progress.tracked(user_id=1, task_id="always_the_same")
    with pytest.raises(TypeError, match="generator"):

        @progress.tracked(user_id=1)
        def generate() -> Iterator[int]:
            yield 1


def test_the_example_of_the_documentation_runs(progress: Progress, engine: sa.Engine) -> None:
    blocks = re.findall(r"```python\n(.*?)```", WORKERS, re.DOTALL)
    [example] = [block for block in blocks if "asyncio.gather(" in block]
    kept: list[int] = []

    async def fetch(_url: str) -> None:
        await asyncio.sleep(0)

    async def keep(page: int) -> None:
        kept.append(page)

    names: dict[str, Any] = {
        "asyncio": asyncio,
        "progress": progress,
        "current_task": current_task,
        "fetch": fetch,
        "keep": keep,
    }
    exec(example, names)
    asyncio.run(names["main"](["a", "b", "c"], numbers(5), 5))

    with engine.connect() as connection:
        [counts] = connection.exec_driver_sql("SELECT status, completed_items, total_items FROM user_tasks")
    assert (*counts, len(kept)) == ("completed", 8, 8, 5)
