"""`Task.step`: several steps share one bar, which grows evenly and never runs backwards."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, insert, row, wait_until, writes

from taskapi.progress import Progress, Step, Task, TaskClosed
from taskapi.progress.parts import Part

WORKERS = (ROOT / "taskapi" / "docs" / "workers.md").read_text()


@pytest.fixture
def shows(engine: sa.Engine) -> Callable[..., None]:
    """Wait until the row of a task says so."""

    def wait(task: Task, **fields: Any) -> None:
        def said() -> bool:
            found = row(engine, task.task_id)
            return {name: found[name] for name in fields} == {
                name: pytest.approx(value) if name == "progress" else value for name, value in fields.items()
            }

        try:
            wait_until(said, 5)
        except AssertionError:
            found = row(engine, task.task_id)
            assert {name: found[name] for name in fields} == fields

    return wait


@pytest.fixture
def seen(engine: sa.Engine) -> Iterator[Callable[[Task], list[float]]]:
    """Every state of a task's bar that a poller sees."""
    ended, threads = threading.Event(), []

    def watch(task: Task) -> list[float]:
        found: list[float] = []

        def look() -> None:
            while not ended.is_set():
                found.append(row(engine, task.task_id)["progress"])
                ended.wait(0.02)

        threads.append(threading.Thread(target=look))
        threads[-1].start()
        return found

    yield watch
    ended.set()
    for thread in threads:
        thread.join()


# One process.


def test_steps_share_the_bar_by_weight(task: Task, shows: Callable[..., None]) -> None:
    plan, render = task.step("plan"), task.step("render", weight=3)

    with plan as step:
        for item in step.track(range(10)):
            if item == 5:
                shows(task, stage="plan", progress=12.5, completed_items=5, total_items=10)
    shows(task, progress=25, completed_items=10, total_items=10)
    with render as step:
        for letter in step.track("abcd"):
            if letter == "c":
                shows(task, stage="render", progress=62.5, completed_items=2, total_items=4)
    shows(task, stage="render", progress=100, completed_items=4, total_items=4)


def test_a_completed_task_shows_the_items_of_its_last_step(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        for step, items in ((task.step("a"), 3), (task.step("b"), 5)):
            with step:
                list(step.track(range(items)))

    found = row(engine, task.task_id)
    assert (found["status"], found["progress"]) == ("completed", 100)
    assert (found["completed_items"], found["total_items"]) == (5, 5)


def test_a_loop_of_the_task_counts_for_the_step_it_runs_in(task: Task, shows: Callable[..., None]) -> None:
    first, _second = task.step("first"), task.step("second")

    with first:
        for item in task.track(range(4)):
            task.advance(0)
            if item == 2:
                shows(task, progress=25, completed_items=2, total_items=4)


def test_advance_and_update_are_the_steps(task: Task, shows: Callable[..., None]) -> None:
    first, _second = task.step("first"), task.step("second")

    with first as step:
        step.update(total_items=20)
        step.advance(5)
        shows(task, progress=12.5, completed_items=5, total_items=20)
        task.update(completed_items=10)
        shows(task, progress=25, completed_items=10, total_items=20)
        task.advance()
        shows(task, progress=27.5, completed_items=11, total_items=20)


def test_a_step_whose_length_is_unknown_moves_the_bar_at_its_end(task: Task, shows: Callable[..., None]) -> None:
    first, second = task.step("first"), task.step("second")
    with first:
        list(first.track(range(7)))

    with second as step:
        for item in step.track(iter(range(9))):
            if item == 8:
                shows(task, progress=50, completed_items=8, total_items=None)
    shows(task, progress=100, completed_items=9, total_items=None)


def test_a_step_may_say_how_far_it_is_in_percent(task: Task, shows: Callable[..., None]) -> None:
    first, _second = task.step("first"), task.step("second", weight=3)

    with first as step:
        step.update(progress=50)
        shows(task, progress=12.5)
        step.update(progress=10)
        shows(task, progress=12.5)


def test_an_empty_step_takes_its_share(task: Task, shows: Callable[..., None]) -> None:
    first, _second = task.step("first"), task.step("second", weight=3)

    with first as step:
        list(step.track([]))

    shows(task, progress=25, completed_items=0, total_items=0)


def test_steps_nest(task: Task, shows: Callable[..., None]) -> None:
    plan, render = task.step("plan"), task.step("render")

    with plan as step:
        read, write = step.step("read"), task.step("write", weight=4)
        with read:
            list(read.track(range(3)))
            shows(task, stage="read", progress=10, completed_items=3)
        shows(task, stage="plan", progress=10)
        with write:
            for item in write.track(range(4)):
                if item == 2:
                    shows(task, stage="write", progress=30, completed_items=2, total_items=4)
    shows(task, progress=50)
    with render:
        shows(task, stage="render", progress=50, completed_items=0, total_items=None)


def test_a_step_in_the_body_of_a_loop_only_says_the_stage(task: Task, shows: Callable[..., None]) -> None:
    plan, render = task.step("plan"), task.step("render")

    with plan as outer:
        for chapter in outer.track(range(4)):
            inner = task.step("draw")
            with inner:
                for _page in inner.track(range(100)):
                    task.track([1, 2])
            with render:
                list(task.track(range(50)))
            shows(task, stage="render", progress=12.5 * chapter, completed_items=chapter, total_items=4)
    shows(task, progress=50, completed_items=4, total_items=4)


def test_a_loop_of_the_whole_task_counts_for_the_steps_in_its_body(task: Task, shows: Callable[..., None]) -> None:
    before = task.step("before")

    for number in task.track(range(4)):
        with task.step("draw") as step:
            list(step.track(range(100)))
            step.advance(7)
        with before as step:
            list(step.track(range(100)))
            step.advance(7)
        shows(task, stage="before", completed_items=number, total_items=4)
    shows(task, completed_items=4, total_items=4)


def test_a_step_in_the_body_of_a_loop_counts_nothing_where_there_are_no_others(
    task: Task, shows: Callable[..., None]
) -> None:
    for number in task.track(range(4)):
        with task.step("draw") as step:
            list(step.track(range(100)))
            step.advance(7)
        shows(task, stage="draw", progress=25 * number, completed_items=number, total_items=4)
    shows(task, progress=100, completed_items=4, total_items=4)


def test_of_loops_within_each_other_the_outer_one_counts_in_a_step(task: Task, shows: Callable[..., None]) -> None:
    first, _second = task.step("first"), task.step("second")

    with first as step:
        for number in step.track(range(5)):
            list(step.track(range(100)))
            list(task.track(range(100)))
            shows(task, progress=10 * number, completed_items=number, total_items=5)


def test_a_step_that_is_skipped_moves_nothing(task: Task, shows: Callable[..., None]) -> None:
    _first, second, third = task.step("first"), task.step("second"), task.step("third", weight=2)

    with third:
        list(third.track(range(3)))
    shows(task, progress=50)
    with second:
        pass
    shows(task, stage="second", progress=75)


def test_a_step_that_an_exception_leaves_leaves_the_bar_where_it_is(task: Task, shows: Callable[..., None]) -> None:
    first, second = task.step("first"), task.step("second")

    with pytest.raises(ZeroDivisionError), first as step:
        _ = [1 / (4 - item) for item in step.track(range(10))]
    shows(task, progress=20, completed_items=4)
    with second:
        list(second.track(range(3)))
    shows(task, progress=70)


def test_a_step_that_is_entered_again_counts_anew_and_the_bar_goes_on(task: Task, shows: Callable[..., None]) -> None:
    first, _second = task.step("first"), task.step("second")
    with pytest.raises(ZeroDivisionError), first as step:
        _ = [1 / (4 - item) for item in step.track(range(10))]

    with first as step:
        for item in step.track(range(5)):
            if item == 1:
                shows(task, progress=26, completed_items=1, total_items=5)
            if item == 4:
                shows(task, progress=44, completed_items=4, total_items=5)
    with first as step:
        list(step.track(range(2)))
        shows(task, progress=50, completed_items=2, total_items=2)


def test_a_step_that_is_made_after_the_first_was_entered_moves_nothing(task: Task, shows: Callable[..., None]) -> None:
    first, second = task.step("first"), task.step("second")
    with first:
        pass
    late = task.step("late", weight=100)

    with late as step:
        list(step.track(range(3)))
        shows(task, stage="late", progress=50, completed_items=3)
    with second:
        pass
    shows(task, progress=100)


def test_what_is_counted_outside_of_steps_is_shown_and_moves_nothing(task: Task, shows: Callable[..., None]) -> None:
    first = task.step("first")

    list(task.track(range(8)))
    shows(task, progress=0, completed_items=8, total_items=8)
    with first:
        list(first.track(range(3)))
        shows(task, progress=100, completed_items=3, total_items=3)
    task.advance()
    shows(task, completed_items=9, total_items=8)


def test_a_total_of_the_whole_task_gives_way_to_the_steps(progress: Progress, shows: Callable[..., None]) -> None:
    with progress.task(user_id=1, total_items=50) as task:
        first, _second = task.step("first"), task.step("second")
        with first as step:
            shows(task, completed_items=0, total_items=None)
            list(step.track(range(10)))
            shows(task, completed_items=10, total_items=10, progress=50)


def test_the_bar_never_runs_backwards_whatever_steps_do(
    task: Task, engine: sa.Engine, seen: Callable[[Task], list[float]]
) -> None:
    dice, positions = random.Random(11), seen(task)
    steps = [task.step(str(number), weight=dice.choice([0.1, 1, 7])) for number in range(6)]

    for _turn in range(25):
        step = dice.choice(steps)
        try:
            with step:
                for item in step.track(range(dice.choice([0, 1, 10, 2000])), total=dice.choice([None, 5, 3000])):
                    1 / (item - 700)
                threading.Event().wait(0.05)
        except ZeroDivisionError:
            pass

    assert positions
    assert all(before <= after for before, after in pairwise(positions))
    assert row(engine, task.task_id)["progress"] <= 100


def test_the_bar_grows_evenly_over_steps_of_different_length() -> None:
    bar = Part()
    steps = [(bar.divide("short", 1), 3), (bar.divide("long", 1), 3000), (bar.divide("heavy", 2), 7)]

    ends = []
    for step, length in steps:
        step.enter()
        step.total_given = length
        for _item in range(length):
            before = bar.done()
            step.count(1)
            share = step.weight / 4 / length
            assert bar.done() - before == pytest.approx(share, rel=1e-6)
        step.leave(finished=True)
        ends.append(bar.done())

    assert ends == [0.25, 0.5, 1.0]


def test_steps_beside_each_other_move_one_bar(progress: Progress, shows: Callable[..., None]) -> None:
    met = threading.Barrier(3)

    def work(step: Any, items: int) -> None:
        with step:
            for item in step.track(range(items)):
                if item == items // 2:
                    met.wait(10)
                    met.wait(10)

    with progress.task(user_id=1) as task, ThreadPoolExecutor(2) as threads:
        first, second = task.step("first"), task.step("second", weight=3)
        threads.submit(work, first, 4)
        threads.submit(work, second, 10)
        met.wait(10)
        shows(task, progress=12.5 + 37.5)
        met.wait(10)
        threads.shutdown()
        shows(task, progress=100)


def test_threads_share_a_step(progress: Progress, shows: Callable[..., None]) -> None:
    with progress.task(user_id=1) as task, ThreadPoolExecutor(4) as threads:
        first, _second = task.step("first"), task.step("second")
        with first as step:
            step.update(total_items=400)
            list(threads.map(lambda _number: task.advance(), range(100)))
            for work in [threads.submit(lambda: list(step.track(range(25)))) for _thread in range(4)]:
                work.result()
            shows(task, stage="first", progress=25, completed_items=200, total_items=400)


def test_asyncio_tasks_have_steps_of_their_own(progress: Progress, shows: Callable[..., None]) -> None:
    async def work(task: Task, step: Any) -> None:
        with step:
            for _item in task.track(range(10)):
                await asyncio.sleep(0)

    async def both(task: Task) -> None:
        first, second, _third = task.step("first"), task.step("second"), task.step("third", weight=2)
        await asyncio.gather(work(task, first), work(task, second))

    with progress.task(user_id=1) as task:
        asyncio.run(both(task))
        shows(task, progress=50)


def test_a_step_reports_no_more_often_than_a_loop(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task, writes(progress) as written:
        steps = [task.step(str(number)) for number in range(200)]
        for step in steps:
            with step:
                list(step.track(range(10_000)))

    assert len(written) < 20
    assert row(engine, task.task_id)["progress"] == 100


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, "3", None, 1j])
def test_a_weight_that_cannot_be_is_refused_at_the_call(weight: Any, task: Task) -> None:
    with pytest.raises((TypeError, ValueError), match="weight"):
        task.step("plan", weight=weight)


def test_a_name_that_is_no_text_is_refused_at_the_call(task: Task) -> None:
    with pytest.raises(TypeError, match="name"):
        task.step(5)  # type: ignore[arg-type]


def test_a_step_of_a_finished_task_is_refused_at_the_call(progress: Progress) -> None:
    with progress.task(user_id=1) as task:
        plan = task.step("plan")

    with pytest.raises(TaskClosed):
        task.step("late")
    with pytest.raises(TaskClosed), plan:
        pytest.fail("it has ended")
    with pytest.raises(TaskClosed):
        plan.track([1])


# Several processes.


def advance(url: str, task_id: str, items: int) -> None:
    task = Progress(url).attach(task_id)
    for _item in range(items):
        task.advance()


def track(url: str, task_id: str, items: int) -> None:
    with Progress(url).attach(task_id) as task, task.step("within") as step:
        list(step.track(range(items)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("work", [advance, track])
def test_counts_of_other_processes_move_the_bar_within_the_step(
    method: str,
    work: Callable[..., None],
    database_url: str,
    progress: Progress,
    engine: sa.Engine,
    seen: Callable[[Task], list[float]],
    shows: Callable[..., None],
) -> None:
    with progress.task(user_id=1) as task, multiprocessing.get_context(method).Pool(2) as pool:
        plan, render, _rest = task.step("plan"), task.step("render"), task.step("rest", weight=2)
        positions = seen(task)
        for step, reached in ((plan, 20), (render, 45)):
            with step:
                step.update(total_items=50)
                pool.starmap(work, [(database_url, task.task_id, 20)] * 2)
                shows(task, completed_items=40, progress=reached)
            shows(task, progress=25 if step is plan else 50)

    assert row(engine, task.task_id)["completed_items"] == 40
    assert all(before <= after for before, after in pairwise(positions))


def test_other_processes_move_the_bar_no_further_than_the_step(
    database_url: str, progress: Progress, shows: Callable[..., None]
) -> None:
    with progress.task(user_id=1) as task:
        first, _second = task.step("first"), task.step("second")
        with first as step:
            for item in step.track(range(5)):
                joined = Progress(database_url).attach(task.task_id)
                with joined:
                    joined.advance(100)
                if item == 3:
                    shows(task, completed_items=403, total_items=5, progress=50)


def test_a_step_of_a_process_that_does_not_run_the_task_only_says_the_stage(
    progress: Progress, engine: sa.Engine
) -> None:
    insert(engine, "running", status="running", total_items=10)

    with progress.attach("running") as task, task.step("within") as step:
        list(step.track(range(4)))
        step.advance()

    found = row(engine, "running")
    assert (found["stage"], found["completed_items"], found["total_items"]) == ("within", 5, 10)
    assert found["progress"] == 50


def test_a_forked_child_that_leaves_a_step_of_its_parent_ends_nothing(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        first, second = task.step("first"), task.step("second")
        with first as outer, outer.step("inner") as step:
            step.update(total_items=10)
            wait_until(lambda: row(engine, task.task_id)["stage"] == "inner", 5)
            child = multiprocessing.get_context("fork").Process(target=leave, args=[step, first])
            child.start()
            child.join()
            wait_until(lambda: row(engine, task.task_id)["progress"] == 15, 5)
            assert row(engine, task.task_id)["stage"] == "inner"
        with second:
            wait_until(lambda: row(engine, task.task_id)["stage"] == "second", 5)
            assert row(engine, task.task_id)["progress"] == 50


def leave(step: Step, outer: Step) -> None:
    step.advance(3)
    step.__exit__(None, None, None)
    outer.__exit__(None, None, None)


def test_another_attempt_has_the_whole_bar_again(progress: Progress, shows: Callable[..., None]) -> None:
    task_id = progress.create(user_id=1, status="queued")
    with pytest.raises(LookupError), progress.run(task_id, retry=True) as task, task.step("first"):
        raise LookupError

    with progress.run(task_id) as task:
        with progress.attach(task_id) as joined:
            joined.update(total_items=10)
            joined.advance(5)
        shows(task, progress=50, completed_items=5, total_items=10)


def test_the_example_of_the_documentation_runs(progress: Progress, engine: sa.Engine) -> None:
    [example] = re.findall(r"```python\n((?:(?!```).)*task\.step\((?:(?!```).)*)```", WORKERS, re.DOTALL)
    drawn: list[int] = []
    names: dict[str, Any] = {"progress": progress, "draw": drawn.append}

    exec(example, names)

    found = row(engine, names["task"].task_id)
    assert len(drawn) == 8
    assert (found["stage"], found["completed_items"], found["progress"]) == ("finished", 8, 100)
