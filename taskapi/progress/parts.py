"""The parts of a task's bar: the whole, and the steps it is divided into. Each knows what was counted in it."""

from __future__ import annotations

from typing import Any

from .loops import Loop


class Part:
    """The whole of a bar, or a step of it: the share of its weight among the parts beside it.

    The shares are settled when the first of them is entered; a part that is made later has none. Read without a lock
    by the writer's thread: nothing here is ever in a state between two.
    """

    def __init__(self, name: str = "", weight: float = 1.0, whole: Part | None = None) -> None:
        self.name = name
        self.whole = whole
        self.weight = weight
        self.parts: list[Part] = []
        self.total_given: int | None = None
        self.least_total: int | None = None
        self._tracked_total: int | None = None
        self._counted = 0
        self._looped: tuple[int, tuple[Loop[Any], ...]] = 0, ()  # of the loops that are over, and those that are not
        self._zero = 0
        self._entered = 0
        self._settled = False
        self._finished = False
        self._reached = 0.0
        self._from = 0.0

    # What happens in it.

    def divide(self, name: str, weight: float) -> Part:
        """Make one more part of this one."""
        part = Part(name, 0.0 if self._settled else weight, self)
        self.parts.append(part)
        return part

    def enter(self) -> None:
        """Begin to work on it: from zero, unless others are at it."""
        if self.whole is not None:
            self.whole._settled = True
        self._entered += 1
        if self._entered == 1:
            self.reach(self.done())
            self._from, self._zero, self._tracked_total = self._reached, self.value(), None

    def leave(self, *, finished: bool) -> None:
        """End the work on it; what was reached stays reached."""
        self.reach(self.done())
        self._entered -= 1
        self._finished |= finished and not self._entered

    def count(self, n: int) -> None:
        """Count items."""
        self._counted += n

    def begin(self, loop: Loop[Any], expected: int | None) -> None:
        """Count a loop's items from now on, and expect so many more."""
        done, running = self._looped
        self._looped = done, (*running, loop)
        if expected is not None:
            self._tracked_total = (self._tracked_total or 0) + expected

    def end(self, loop: Loop[Any]) -> None:
        """Keep what a loop has counted."""
        done, running = self._looped
        self._looped = done + loop.completed(), tuple(other for other in running if other is not loop)

    def set_completed(self, completed: int) -> None:
        """Replace what was counted since it was entered."""
        self._zero = self.value() - completed

    def reach(self, fraction: float) -> None:
        """Note how much of it is done, if that is more than before."""
        self._reached = max(self._reached, fraction)

    # What is known of it.

    @property
    def is_entered(self) -> bool:
        """Whether somebody works on it."""
        return self._entered > 0

    def value(self) -> int:
        """What was ever counted here."""
        done, running = self._looped
        return self._counted + done + sum(loop.completed() for loop in running)

    def completed(self) -> int:
        """What was counted since it was entered."""
        return self.value() - self._zero

    def total(self) -> int | None:
        """How many items there are: as it was said, else as the loops expect."""
        if self.total_given is not None or self._tracked_total is None:
            return self.total_given
        return max(self._tracked_total, self.least_total or 0)

    def done(self) -> float:
        """How much of it is done, from 0 to 1; of a divided part, as its parts tell."""
        if self._finished:
            return 1.0
        return max(self._reached, min(1.0, self._share_of_parts() if self.parts else self._items_done()))

    def _share_of_parts(self) -> float:
        return sum(part.weight * part.done() for part in self.parts) / self._weights()

    def _items_done(self) -> float:
        total = self.total()
        return self._from + (1 - self._from) * min(1.0, self.completed() / total) if total else 0.0

    def _weights(self) -> float:
        return sum(part.weight for part in self.parts)

    def window(self) -> tuple[float, float]:
        """Where the bar stands without this part's own items, and how far all of them move it, in percent."""
        share, whole = 100.0, self
        while whole.whole is not None:
            share *= whole.weight / (whole.whole._weights() or 1.0)
            whole = whole.whole
        stands = 100 * whole.done()
        if self._finished or self.parts or not (self._entered and self.total()) or self._reached > self._items_done():
            return stands, 0.0
        return max(0.0, stands - share * (self.done() - self._from)), share * (1 - self._from)
