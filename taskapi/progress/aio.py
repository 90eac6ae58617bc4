"""asyncio: what asks the database is done in a thread, and counting is free. Knows no task and no database."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .loops import AsyncLoop

# Imported where it runs already: for all other workers it would be half of what they import.
if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns that runs in a thread.

    A thread cannot be cancelled: who is meanwhile waits for its end, and is cancelled then.
    """
    import asyncio

    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not work.cancelled():
            work.exception()  # nobody else will ask for it
        raise cancelled
    return work.result()


def in_event_loop() -> bool:
    """Whether the caller would hold up an event loop."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and bool(asyncio.get_running_loop())
    except RuntimeError:
        return False


def is_cancellation(error: BaseException | None) -> bool:
    """Whether an exception says that an asyncio task was cancelled."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


class AsyncBlock(Generic[T]):
    """A block for `async with` that is made, entered and left in a thread.

    `entered` and `left` are called in the coroutine's own context, around its body.
    """

    def __init__(
        self, make: Callable[[], AbstractContextManager[T]], entered: Callable[[T], None], left: Callable[[T], None]
    ) -> None:
        self._make = make
        self._entered = entered
        self._left = left
        self._block: Any = None  # until it is entered

    async def __aenter__(self) -> T:
        try:
            self._task = await in_thread(self._enter)
        except BaseException as error:
            if is_cancellation(error):
                await in_thread(self._exit, type(error), error, error.__traceback__)
            raise
        self._entered(self._task)
        return self._task

    def _enter(self) -> T:
        block = self._make()
        task = block.__enter__()
        self._block = block
        return task

    def _exit(self, *error: Any) -> bool:
        return self._block is not None and bool(self._block.__exit__(*error))

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> bool:
        self._left(self._task)
        return await self._leave(error)

    async def _leave(self, error: BaseException | None) -> bool:
        return await in_thread(self._exit, error and type(error), error, error and error.__traceback__)


class Stoppable(AbstractContextManager[T], Protocol[T]):  # type: ignore[misc]
    """A block that may have to be left."""

    def stop_by(self, call: Callable[[], None], told: Callable[[], None]) -> None:
        """Have `call` called once, in any thread, when the block is to be left.

        And `told` where an exception says so.
        """

    def reason(self) -> Exception:
        """Why it is to be left."""

    @property
    def is_shielded(self) -> bool:
        """Whether nothing in the block may be torn now."""


class AsyncRun(AsyncBlock[T]):
    """The same for a block that may have to be left: then the asyncio task in it is cancelled.

    As with `asyncio.timeout`, that is undone at the end of the block, where the reason takes its place; unless
    somebody else has cancelled the asyncio task as well.
    """

    def __init__(
        self, make: Callable[[], Stoppable[T]], entered: Callable[[T], None], left: Callable[[T], None]
    ) -> None:
        super().__init__(make, entered, left)
        self._is_open = self._is_interrupted = False

    async def __aenter__(self) -> T:
        import asyncio

        task, loop = await super().__aenter__(), asyncio.get_running_loop()
        runner: Any = asyncio.current_task()
        self._runner, self._cancelling, self._is_open = runner, runner.cancelling(), True
        self._stop = lambda: _call_soon(loop, self._interrupt)
        self._block.stop_by(self._stop, self._told)
        return task

    def _interrupt(self) -> None:
        if self._is_open and self._block.is_shielded:  # since a moment ago
            self._block.stop_by(self._stop, self._told)
        elif self._is_open:
            self._is_interrupted = True
            self._runner.cancel()

    def _told(self) -> None:
        """An exception is on its way through the block: an interruption would tear what cleans up behind it."""
        import asyncio

        if in_event_loop() and asyncio.current_task() is self._runner:
            self._is_open = False

    async def _leave(self, error: BaseException | None) -> bool:
        self._is_open = False
        is_ours = self._is_interrupted and self._runner.uncancel() <= self._cancelling
        # Whoever caught the interruption, to clean up, has heard of it as well.
        if not (is_ours and (error is None or is_cancellation(error))):
            return await super()._leave(error)
        reason = self._block.reason()
        if not await super()._leave(reason):
            raise reason from None
        return True


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(call)


class Following(AsyncIterator[T]):
    """The items of a loop for `async for`; the loop ends with the last one, an error, or when it is let go of.

    Calls `begin` before the first item, `each` when one is there, `end` once and then, if all went well, `check`.
    """

    def __init__(
        self,
        loop: AsyncLoop[T],
        begin: Callable[[], object],
        each: Callable[[], None],
        end: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._each = each
        self._begin: Callable[[], object] | None = begin
        self._end: Callable[[], None] | None = None
        self._at_end = end
        self._check = check

    async def __anext__(self) -> T:
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin()
            self._end = self._at_end
        if self._end is None:
            raise StopAsyncIteration
        try:
            item = await self._loop.next()
            self._each()
        except StopAsyncIteration:
            self._finish()
            self._check()
            raise
        except BaseException:
            self._finish()
            raise
        return item

    def _finish(self) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            end()

    def __del__(self) -> None:
        self._finish()
