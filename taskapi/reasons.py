"""What failures have in common: their reasons without what is each one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .database.store import Failure

# How much of a message is looked at, and how many reasons are told.
LENGTH = 200
REASONS_AT_MOST = 50
# What stands in place of what is each failure's own.
OWN = "…"
NO_REASON = ""

# A number that says what went wrong stays: "HTTP 503", "status code: 404", "[Errno 28]", "exit status 137".
_SAYING = r"\b(?:HTTP|status|code|errno|signal)\W{1,3}\d{1,3}\b"
# In quotes, or one word, with a digit within: a number, a moment, an id, whatever joins its parts. From its beginning,
# and without going back, so that no message takes long.
_WORD = r"\s'\"(),;<=>?&\[\]{}"
_OWN = rf"(?<!\w)(?:'[^'\d]*+\d[^']*+'|\"[^\"\d]*+\d[^\"]*+\")|(?<![^{_WORD}])[^\d{_WORD}]*+\d[^{_WORD}]*+"
_PARTS = re.compile(f"({_SAYING})|{_OWN}", re.IGNORECASE)


@dataclass
class Reason:
    """Failures of one kind for one reason: how many, the first and the last, and which task that was."""

    kind: str | None
    reason: str
    count: int
    first_at: Any
    last_at: Any
    last_task_id: str


def grouped(failures: Iterable[Failure]) -> list[Reason]:
    """The reasons of failures that come newest first, the most frequent first."""
    found: dict[tuple[str | None, str], Reason] = {}
    for failure in failures:
        key, at = (failure.kind, reason_of(failure)), failure.ended_at
        reason = found.setdefault(key, Reason(*key, 0, at, at, failure.task_id))
        reason.count, reason.first_at = reason.count + 1, at
    return sorted(found.values(), key=lambda reason: -reason.count)[:REASONS_AT_MOST]


def reason_of(failure: Failure) -> str:
    """The first line of what was said, or the last of its traceback, without what is this failure's own."""
    if failure.message and failure.message.strip():
        return fold(failure.message.strip().partition("\n")[0])
    return fold((failure.details or NO_REASON).strip().rpartition("\n")[2])


@lru_cache(maxsize=1024)
def fold(line: str) -> str:
    """A line in which every number and id is the same: "Card 4711 has no source" is "Card … has no source"."""
    return _PARTS.sub(lambda part: part[1] or OWN, line[:LENGTH]).strip()
