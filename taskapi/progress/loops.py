"""The loops of `Task.track`: counted exactly, without a line of Python run per item. Know no task and no database.

Every iterator here is one of the interpreter's own, and tells through `operator.length_hint` how far it is. So
nothing happens while the items go by, and another thread can read the exact position at any moment.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Iterable, Iterator
from functools import partial
from operator import call, length_hint
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# Items between two runs of Python code, in a loop over anything but a list, tuple or range.
GATE_ITEMS = 1024


class Loop(Protocol[T_co]):
    """One loop over an iterable. Nothing is read ahead, and what the iterable raises comes out unchanged."""

    def parts(self) -> Iterator[Iterator[T_co]]:
        """The items, for `itertools.chain.from_iterable`."""

    def completed(self) -> int:
        """How many items the loop's body has done with; the one it works on is not among them."""

    def stop(self) -> None:
        """End the loop before its next item; callable from any thread."""


class SequenceLoop(Generic[T]):
    """A loop over a list, a tuple or a range, whose own iterator knows its position."""

    def __init__(self, items: list[T] | tuple[T, ...] | range) -> None:
        self._items = items
        self._iterator: Any = iter(items)
        self._at_work = 1
        self._seen = 0
        self._end: list[int] = []  # once it was stopped: how many items there were then, and how many of them to come

    def parts(self) -> Iterator[Iterator[T]]:
        """The sequence's iterator as it is."""
        yield self._iterator
        self._at_work = 0

    def completed(self) -> int:
        """Everything that was handed out but the item at work."""
        handed_out = len(self._items) - length_hint(self._iterator)
        if self._end:  # looked at behind the iterator, which may be exhausted at any moment
            handed_out = self._end[0] - self._end[1]
        # A list may shrink in the loop's body; a count does not.
        self._seen = max(self._seen, handed_out - self._at_work)
        return self._seen

    def stop(self) -> None:
        """Exhaust the iterator. To move it to the end is not enough, since a list may grow."""
        if not self._end:
            # All in one call of the interpreter's own, so that no item is handed out in between.
            exhaust = partial(self._iterator.__setstate__, sys.maxsize)
            self._end.extend(map(call, (partial(len, self._items), partial(length_hint, self._iterator), exhaust)))
        while next(self._iterator, self) is not self:
            self._iterator.__setstate__(sys.maxsize)


class IteratorLoop(Generic[T]):
    """A loop over anything else goes through a gate: a list that names the iterator once for each item.

    `map(next, gate)` draws from the gate before it asks the iterator. So the gate's position counts what was asked
    for, and all of that but the last is done: while the body works, while the iterator takes its time to make the
    next item, and when it had no more. The gate ends with an iterator that is empty, which tells a gate that was
    passed from an iterator that is exhausted.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._closed: Iterator[T] = iter(())
        self._gate = [*[iter(items)] * GATE_ITEMS, self._closed]
        self._chunk = (0, iter(self._gate))

    def parts(self) -> Iterator[Iterator[T]]:
        """The items, a gate at a time."""
        before = 0
        while True:
            passes = iter(self._gate)
            self._chunk = (before, passes)
            yield map(next, passes)
            if length_hint(passes):
                return
            before += GATE_ITEMS

    def completed(self) -> int:
        """Everything that was asked for but the last."""
        before, passes = self._chunk
        asked_for = GATE_ITEMS + 1 - length_hint(passes)
        return before + max(0, asked_for - 1)

    def stop(self) -> None:
        """Close the gate, of which the position stays."""
        self._gate[:] = [self._closed] * len(self._gate)


class AsyncLoop(Generic[T]):
    """A loop over an asynchronous iterable, whose items a coroutine asks for."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._iterator = aiter(items)
        self._asked_for = 0
        self._is_stopped = False

    def parts(self) -> Iterator[Iterator[T]]:
        """None that could be had without waiting."""
        return iter(())

    async def next(self) -> T:
        """The next item. Raises `StopAsyncIteration`."""
        self._asked_for += 1
        if self._is_stopped:
            raise StopAsyncIteration
        return await anext(self._iterator)

    def completed(self) -> int:
        """Everything that was asked for but the last."""
        return max(0, self._asked_for - 1)

    def stop(self) -> None:
        """Give no item any more."""
        self._is_stopped = True


class InnerLoop(Generic[T]):
    """A loop in the body of another one of the same task, which counts for both: it only ends with the task."""

    def __init__(self, loop: Loop[T]) -> None:
        self._loop = loop

    def parts(self) -> Iterator[Iterator[T]]:
        """The loop's own."""
        return self._loop.parts()

    def stop(self) -> None:
        """End the loop before its next item."""
        self._loop.stop()

    def completed(self) -> int:
        """Nothing: the items of the outer loop tell how far the task is."""
        return 0


def loop_over(items: Iterable[T]) -> Loop[T]:
    """The loop for this kind of iterable. Raises `TypeError` if it is none."""
    # Not isinstance: a subclass may iterate over something else than what it holds.
    if type(items) in (list, tuple, range):
        return SequenceLoop(items)  # type: ignore[arg-type]
    return IteratorLoop(items)
