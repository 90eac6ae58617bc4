"""A writer without a thread: what a worker says is in the row when the call is over. For tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from ..database.store import Store
from .ledger import Ledger
from .writer import Writer

T = TypeVar("T")


class EagerWriter(Writer):
    """Writes with a store of somebody else's, which need not be one that another connection could see."""

    def __init__(self, store: Store, lease: float) -> None:
        super().__init__(store.url, lease)
        self._store = store

    def ask(self, question: Callable[[Store], T], _seconds: float) -> T:
        """Put a question to the store, once."""
        with self._talking:
            return question(self.store())

    def writes_at_once(self, _ledger: Ledger) -> bool:
        """Always."""
        return True

    def watch(self, ledger: Ledger) -> None:
        """Write what is said of a task. Raises `TaskClosed`."""
        ledger.check_open()
        if not self._writing:  # else a signal handler interrupts a write: what it said comes with the next one
            self.flush(ledger)

    def is_cancelled(self, ledger: Ledger) -> bool:
        """Whether a task is to end, as its row says now."""
        with self._talking:
            self._ask_after([ledger])
        return ledger.is_cancelled

    def look(self, ledger: Ledger) -> None:
        """Let others know that there are steps."""
        self.watch(ledger)

    def follow(self, ledger: Ledger, parts: Iterator[Iterator[T]]) -> Iterator[Iterator[T]]:
        """A loop's items, each given out when those before it are counted in the row."""
        for part in parts:
            yield self._one_by_one(ledger, part)

    def _one_by_one(self, ledger: Ledger, part: Iterator[T]) -> Iterator[T]:
        for item in part:
            self.before_item(ledger)
            yield item

    def before_item(self, ledger: Ledger) -> None:
        """Write what is counted. Raises `TaskClosed`."""
        self.watch(ledger)
        ledger.check_open()
