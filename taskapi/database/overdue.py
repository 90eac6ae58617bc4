"""Tasks that nobody is to wait for any longer: why, and what is said of it in place of a result."""

from __future__ import annotations

from typing import Any, NamedTuple

from .models import CANCELLED, TaskStatus

# Units of time: their seconds, from how many on they are used where they fit, and from how many on in any case.
UNITS = (("day", 86_400, 172_800, 864_000), ("hour", 3600, 3600, 36_000), ("minute", 60, 60, 600))


class Overdue(NamedTuple):
    """A task that is to be closed, as it was found.

    `reason`: "cancelled", "silent" (its lease has run out), "unstarted" or "unfinished", which it should not have been
    any more after so many seconds.
    """

    id: int
    task_id: str
    attempt: int
    status: str
    lease_expires_at: Any  # as the driver gives it
    reason: str
    seconds: float | None

    @property
    def closed_as(self) -> TaskStatus:
        """Its status from then on."""
        return TaskStatus.FAILED if self.reason == "cancelled" else TaskStatus.TIMEOUT

    @property
    def message(self) -> str:
        """Why, for whoever reads it in place of a result."""
        if self.reason in ("unstarted", "unfinished"):
            within = f"within {duration(self.seconds)}" if self.seconds and self.seconds > 0 else "in time"
            return f"Not {self.reason.removeprefix('un')} {within}."
        return CANCELLED if self.reason == "cancelled" else "The worker stopped reporting."


def duration(seconds: float) -> str:
    """A length of time in words, as exact as anybody wants to know it."""
    for unit, length, least, most in UNITS:
        count = round(seconds / length)
        if seconds > most - 0.5 or (seconds > least - 0.5 and abs(seconds - count * length) < 0.5):
            return _number(count, unit)
    return _number(round(seconds, 0 if seconds >= 10 else 1 if seconds >= 1 else 2), "second")


def _number(count: float, unit: str) -> str:
    return f"{count:g} {unit}" if count == 1 else f"{count:g} {unit}s"
