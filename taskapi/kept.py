"""An answer that is dear to make: one of those who ask at once makes it for all, and it is kept for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

# What took long to make is kept for so many times as long: however many ask, that is its share of one connection.
KEPT_FOR = 20

Answer = TypeVar("Answer")


class Kept(Generic[Answer]):
    """May be asked by many threads or greenlets. An answer is kept for `seconds` at least; a failure is not."""

    def __init__(self, make: Callable[[], Answer], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._make = make
        self._seconds = seconds
        self._lock = threading.Lock()
        self._answer: Future[Answer] | None = None
        self._until = 0.0

    def get(self) -> Answer:
        """The answer; raises what making it raised."""
        with self._lock:
            answer = self._answer
            is_mine = answer is None or (answer.done() and self._until <= self._clock())
            if answer is None or is_mine:
                answer = self._answer = Future()
        if is_mine:
            self._fill(answer)
        return answer.result()

    def _fill(self, answer: Future[Answer]) -> None:
        """Make it; whoever waits for it gets what came of that, whatever it is."""
        began = self._clock()
        try:
            made = self._make()
        except BaseException as error:
            self._until = 0.0
            answer.set_exception(error)
        else:
            self._until = began + max(self._seconds, KEPT_FOR * (self._clock() - began))
            answer.set_result(made)
