"""Kinds as the values of a label: any text that an application makes up, and each a series to Prometheus, for ever."""

from __future__ import annotations

from collections.abc import Iterable

from .database.store import Active

MOST_KINDS = 50
OTHER = "other"


class Kinds:
    """The first so many that are met, and one word for all others."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, kind: str | None) -> str:
        """What stands for a kind; an empty text for none."""
        name = kind or ""
        if name in self._known or len(self._known) < MOST_KINDS:
            self._known.add(name)
            return name
        return OTHER


def bounded(tasks: Iterable[Active]) -> list[tuple[str, str, int, float]]:
    """The same by labels, given the most frequent first: kind, status, how many, the oldest's age in seconds."""
    kinds, found = Kinds(), dict[tuple[str, str], tuple[int, float]]()
    for task in tasks:
        labels = kinds.label(task.kind), task.status
        number, oldest = found.get(labels, (0, 0.0))
        found[labels] = number + task.number, max(oldest, task.age)
    return [(*labels, *told) for labels, told in found.items()]
