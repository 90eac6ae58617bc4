"""`Task.track`: every item is counted exactly, whatever is iterated and however the loop ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import length_hint
from typing import Any

import pytest
import sqlalchemy as sa
from harness import insert, row, update, wait_until, writes

from taskapi.progress import Progress, Task, TaskClosed
from taskapi.progress.loops import GATE_ITEMS, AsyncLoop, loop_over

KINDS: dict[str, Callable[[int], Iterable[Any]]] = {
    "list": lambda n: list(range(n)),
    "tuple": lambda n: tuple(range(n)),
    "range": range,
    "range with a step": lambda n: range(3, 3 + 2 * n, 2),
    "huge range": lambda n: range(2**80, 2**80 + n),
    "generator": lambda n: (item for item in range(n)),
    "iterator": lambda n: iter(list(range(n))),
    "set": lambda n: set(range(n)),
    "dict": lambda n: dict.fromkeys(range(n)),
    "text": lambda n: "x" * n,
    "map": lambda n: map(str, range(n)),
}
# None, one, and both sides of where a gate ends.
LENGTHS = (0, 1, 2, GATE_ITEMS - 1, GATE_ITEMS, GATE_ITEMS + 1, 2 * GATE_ITEMS, 2 * GATE_ITEMS + 1)


def counted(engine: sa.Engine, task: Task) -> tuple[int, int | None]:
    """What the row says: (completed_items, total_items)."""
    fields = row(engine, task.task_id)
    return fields["completed_items"], fields["total_items"]


def shows(engine: sa.Engine, task: Task, completed: int) -> bool:
    """Wait until the row says that so many items are completed."""
    wait_until(lambda: counted(engine, task)[0] >= completed, 5)
    return counted(engine, task)[0] == completed


# The position, at every moment.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_at_every_item_all_before_it_are_completed(kind: str, length: int) -> None:
    loop = loop_over(KINDS[kind](length))

    positions = [loop.completed() for _item in itertools.chain.from_iterable(loop.parts())]

    assert positions == list(range(length))
    assert loop.completed() == length


@pytest.mark.parametrize("kind", KINDS)
def test_the_items_come_unchanged_and_in_order(kind: str) -> None:
    length = 2 * GATE_ITEMS + 5

    loop = loop_over(KINDS[kind](length))

    assert list(itertools.chain.from_iterable(loop.parts())) == list(KINDS[kind](length))


def test_an_item_is_completed_while_the_iterable_makes_the_next_one() -> None:
    seen = []

    def slow() -> Iterator[int]:
        for item in range(3):
            seen.append(loop.completed())
            yield item
        seen.append(loop.completed())

    loop = loop_over(slow())
    list(itertools.chain.from_iterable(loop.parts()))

    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["list", "generator"])
@pytest.mark.parametrize("at", [0, 1, GATE_ITEMS - 1, GATE_ITEMS, GATE_ITEMS + 1])
def test_the_item_at_which_a_loop_breaks_off_does_not_count(kind: str, at: int) -> None:
    loop = loop_over(KINDS[kind](3 * GATE_ITEMS))

    for index, _item in enumerate(itertools.chain.from_iterable(loop.parts())):
        if index == at:
            break

    assert loop.completed() == at


def test_nothing_is_read_ahead() -> None:
    source = iter(range(10_000))

    for item in itertools.chain.from_iterable(loop_over(iter(source)).parts()):
        if item == 2000:
            break

    assert next(source) == 2001


def test_an_exhausted_iterator_is_not_asked_again() -> None:
    class Once:
        """As a terminal does, it would begin anew after its end."""

        def __init__(self) -> None:
            self.left = GATE_ITEMS - 1
            self.asked = 0

        def __iter__(self) -> Once:
            return self

        def __next__(self) -> int:
            self.asked += 1
            if self.asked == GATE_ITEMS:
                raise StopIteration
            return self.asked

    once = Once()

    items = list(itertools.chain.from_iterable(loop_over(once).parts()))

    assert len(items) == GATE_ITEMS - 1
    assert once.asked == GATE_ITEMS


def test_a_list_may_grow_in_the_loop() -> None:
    items = [0]
    loop = loop_over(items)

    positions = []
    for item in itertools.chain.from_iterable(loop.parts()):
        positions.append(loop.completed())
        if item < 4:
            items.append(item + 1)

    assert positions == [0, 1, 2, 3, 4]
    assert loop.completed() == 5


def test_a_count_never_goes_back_when_a_list_shrinks() -> None:
    items = [1, 2, 3, 4]
    loop = loop_over(items)

    positions = []
    for item in itertools.chain.from_iterable(loop.parts()):
        positions.append(loop.completed())
        if item == 3:
            del items[:]
    positions.append(loop.completed())

    assert positions == sorted(positions)


@pytest.mark.parametrize("last", [1, 2, GATE_ITEMS - 1, GATE_ITEMS, GATE_ITEMS + 1, 3 * GATE_ITEMS])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_loop_ends_before_its_next_item(kind: str, last: int) -> None:
    loop = loop_over(KINDS[kind](3 * GATE_ITEMS))
    handed_out = 0
    at_work = []

    for _item in itertools.chain.from_iterable(loop.parts()):
        handed_out += 1
        if handed_out == last:
            loop.stop()
            loop.stop()
            at_work.append(loop.completed())

    assert handed_out == last
    assert (at_work, loop.completed()) == ([last - 1], last)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_is_stopped_from_another_thread_has_counted_what_it_did(kind: str) -> None:
    for _round in range(20):
        loop = loop_over(KINDS[kind](200_000))
        stopping = threading.Timer(0.002, loop.stop)
        stopping.start()

        handed_out = sum(1 for _item in itertools.chain.from_iterable(loop.parts()))
        stopping.join()

        assert loop.completed() == handed_out


def test_an_async_loop_that_is_stopped_has_counted_what_it_did() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(9):
            yield number

    async def go_through() -> list[int]:
        positions = []
        with contextlib.suppress(StopAsyncIteration):
            while True:
                if await loop.next() == 3:
                    loop.stop()
                positions.append(loop.completed())
        return positions

    loop = AsyncLoop(numbers())

    assert asyncio.run(go_through()) == [0, 1, 2, 3]
    assert loop.completed() == 4


def test_a_stopped_loops_count_stays_though_its_list_grows() -> None:
    items = list(range(9))
    loop = loop_over(items)

    for item in itertools.chain.from_iterable(loop.parts()):
        if item == 3:
            loop.stop()
        items.append(item)

    assert loop.completed() == 4


def test_a_stopped_loop_ends_though_its_list_grows() -> None:
    items = [0]
    loop = loop_over(items)

    for item in itertools.chain.from_iterable(loop.parts()):
        if item == 3:
            loop.stop()
        if item < 9:
            items.append(item + 1)

    assert items == [0, 1, 2, 3, 4]


def test_the_interpreter_tells_where_its_iterators_are() -> None:
    """What the loops lean on; should an interpreter change it, this says so."""
    for items in ([1, 2, 3], (1, 2, 3), range(3)):
        iterator: Any = iter(items)
        next(iterator)
        assert length_hint(iterator) == 2
        iterator.__setstate__(sys.maxsize)
        assert length_hint(iterator) == 0
        assert next(iterator, "end") == "end"


# In a task.


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_is_in_the_row(kind: str, progress: Progress, engine: sa.Engine) -> None:
    items = KINDS[kind](50)
    known = 50 if hasattr(items, "__len__") else None

    with progress.task(user_id=1) as task:
        list(task.track(items))

    assert counted(engine, task) == (50, known)


def test_an_empty_loop_is_in_the_row(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        nothing: list[None] = []
        for _item in task.track(nothing):
            pytest.fail("there is no item")

    assert counted(engine, task) == (0, 0)


def test_the_position_is_written_while_the_loop_is_at_one_item(task: Task, engine: sa.Engine) -> None:
    for item in task.track(range(8)):
        if item == 5:
            assert shows(engine, task, 5)
            assert row(engine, task.task_id)["progress"] == 62.5


def test_the_position_is_written_while_the_iterable_makes_the_next_item(task: Task, engine: sa.Engine) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        assert shows(engine, task, 2)

    assert list(task.track(source(), total=4)) == [1, 2]
    assert row(engine, task.task_id)["progress"] == 50


def test_loops_one_after_another_add_up(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        list(task.track([1, 2, 3]))
        list(task.track("abcd"))
        list(task.track((n for n in range(5)), total=5))

    assert counted(engine, task) == (12, 12)


def test_of_nested_loops_the_outer_one_counts(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        for number in task.track(range(3)):
            for _item in task.track(range(100)):
                for _part in task.track([1, 2]):
                    pass
            assert shows(engine, task, number)
            assert row(engine, task.task_id)["progress"] == pytest.approx(100 * number / 3)
        list(task.track(range(5)))

    assert counted(engine, task) == (8, 8)


def test_a_source_that_tracks_its_own_work_does_not_count_twice(progress: Progress, engine: sa.Engine) -> None:
    def source(task: Task) -> Iterator[int]:
        for number in task.track(range(10)):
            yield from range(number)

    with progress.task(user_id=1) as task:
        list(task.track(source(task), total=45))

    assert counted(engine, task) == (45, 45)


def test_two_loops_in_step_count_as_one(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        list(zip(task.track(range(10)), task.track(range(10)), strict=True))

    assert counted(engine, task) == (10, 10)


def test_a_loop_in_another_task_s_loop_counts(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as outer, progress.task(user_id=1) as inner:
        for _number in outer.track(range(3)):
            list(inner.track(range(10)))

    assert counted(engine, outer) == (3, 3)
    assert counted(engine, inner) == (30, 30)


def test_a_loop_after_one_that_was_broken_off_counts(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        kept = task.track(range(10))
        next(kept)
        next(kept)
        thread = threading.Thread(target=list, args=[kept])  # which ends it elsewhere
        thread.start()
        thread.join()
        list(task.track(range(5)))

    assert counted(engine, task) == (15, 15)


def test_loops_beside_each_other_add_up(progress: Progress, engine: sa.Engine) -> None:
    met = threading.Barrier(4)

    def work(task: Task) -> None:
        for item in task.track(range(10)):
            if item == 5:
                met.wait(10)

    with progress.task(user_id=1) as task, ThreadPoolExecutor(4) as threads:
        for _thread in range(4):
            threads.submit(work, task)

    assert counted(engine, task) == (40, 40)


def test_loops_of_asyncio_tasks_beside_each_other_add_up(progress: Progress, engine: sa.Engine) -> None:
    async def work(task: Task) -> None:
        for _item in task.track(range(10)):
            await asyncio.sleep(0)

    async def work_four_times(task: Task) -> None:
        await asyncio.gather(*[work(task) for _ in range(4)])
        for _number in task.track([1, 2]):
            await asyncio.gather(*[work(task) for _ in range(4)])

    with progress.task(user_id=1) as task:
        asyncio.run(work_four_times(task))

    assert counted(engine, task) == (42, 42)


def test_a_loop_within_another_ends_at_once_when_the_task_was_closed(progress: Progress, engine: sa.Engine) -> None:
    handed_out = []

    def work() -> None:
        with progress.task(user_id=1) as task:
            for _number in task.track(range(3)):
                for item in task.track(range(1000)):
                    handed_out.append(item)
                    if item == 3:
                        update(engine, task.task_id, status="timeout")
                        task.stage("unaware")
                        wait_until(lambda: closed(task), 5)

    with pytest.raises(TaskClosed):
        work()
    assert handed_out == [0, 1, 2, 3]


def test_loops_and_advance_add_up(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        for _item in task.track(range(10)):
            task.advance(2)

    assert counted(engine, task) == (30, 10)


def test_a_total_that_was_given_at_creation_stands(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1, total_items=40) as task:
        list(task.track(range(10)))

    assert counted(engine, task) == (10, 40)


def test_a_total_that_was_given_by_update_stands(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        task.update(total_items=40)
        list(task.track(range(10)))

    assert counted(engine, task) == (10, 40)


def test_a_new_absolute_count_replaces_what_a_loop_has_counted(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        for item in task.track(range(10)):
            if item == 4:
                task.update(completed_items=100)

    assert counted(engine, task) == (106, 10)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_a_loop_that_is_broken_off_counts_what_was_done(kind: str, progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task:
        for item in task.track(KINDS[kind](50)):
            if item == 20:
                break
        list(task.track("ab"))

    assert counted(engine, task)[0] == 22


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_an_error_in_the_body_counts_what_was_done(kind: str, progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id) as task:
            for item in task.track(KINDS[kind](50)):
                1 / (20 - item)

    with pytest.raises(ZeroDivisionError):
        work()
    assert row(engine, task_id)["completed_items"] == 20


def test_an_error_of_the_iterable_comes_out_unchanged(progress: Progress, engine: sa.Engine) -> None:
    error = LookupError("no more")

    def source() -> Iterator[int]:
        yield from range(20)
        raise error

    with pytest.raises(LookupError) as raised, progress.task(user_id=1) as task:
        list(task.track(source()))

    assert raised.value is error
    assert counted(engine, task)[0] == 20


def test_what_cannot_be_iterated_is_refused_at_the_call(task: Task) -> None:
    with pytest.raises(TypeError):
        task.track(5)  # type: ignore[call-overload]


@pytest.mark.parametrize("total", [-1, True, "5", 1.5, 2**63])
def test_a_total_that_cannot_be_is_refused_at_the_call(total: Any, task: Task) -> None:
    with pytest.raises((TypeError, ValueError), match="total"):
        task.track([1], total=total)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_a_loop_ends_at_once_when_its_task_was_closed(kind: str, progress: Progress, engine: sa.Engine) -> None:
    handed_out = []

    def work() -> None:
        with progress.task(user_id=1) as task:
            for item in task.track(KINDS[kind](1000)):
                handed_out.append(item)
                if item == 3:
                    update(engine, task.task_id, status="timeout")
                    task.stage("unaware")
                    wait_until(lambda: closed(task), 5)

    with pytest.raises(TaskClosed) as raised:
        work()
    assert raised.value.status == "timeout"
    assert handed_out == [0, 1, 2, 3]


def closed(task: Task) -> bool:
    try:
        task.advance(0)
    except TaskClosed:
        return True
    return False


def test_a_loop_begins_with_an_error_when_its_task_was_closed(progress: Progress, engine: sa.Engine) -> None:
    insert(engine, "closed", status="running")
    task = progress.attach("closed")
    items = task.track([1, 2, 3])
    update(engine, task.task_id, status="failed")
    task.stage("unaware")
    wait_until(lambda: closed(task), 5)

    with pytest.raises(TaskClosed):
        next(items)
    with pytest.raises(TaskClosed):
        task.track([1])


def test_a_hot_loop_writes_less_than_ten_times_a_second(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1) as task, writes(progress) as written:
        wait_until(lambda: row(engine, task.task_id)["status"] == "running", 5)
        before, start = len(written), time.monotonic()
        loops = 0
        while time.monotonic() < start + 1:
            for _item in task.track(range(1_000_000)):
                pass
            loops += 1
        in_the_loops = len(written) - before
        seconds = time.monotonic() - start

    assert 2 <= in_the_loops < 10 * seconds
    assert counted(engine, task)[0] == loops * 1_000_000
