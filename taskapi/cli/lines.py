"""What is told of a task in plain text: in a line of its own, or in the columns of a bar."""

from __future__ import annotations

import datetime as dt
from typing import Any

Fields = dict[str, Any]  # a `UserTaskResponse`

# An estimate that jumps is worse than none: only after so much work, and so much time.
STABLE_PERCENT = 5.0
STABLE_SECONDS = 5.0


def line(task: Fields) -> str:
    """A task in a line."""
    words = [f"{task['progress']:5.1f} %", task["status"], count(task)]
    return printable("  ".join([*words, task["stage"] or "", task["result_message"] or ""]).rstrip())


def printable(text: str) -> str:
    """Text from a task, without what would move the cursor or break the line."""
    return "".join(character if character.isprintable() else " " for character in text)


def what(task: Fields) -> str:
    """What it does now."""
    return printable((task["stage"] or task["status"]).replace("_", " "))


def count(task: Fields) -> str:
    """Its items, as far as they are known."""
    return f"{task['completed_items']}/{'?' if task['total_items'] is None else task['total_items']}"


def times(task: Fields) -> str:
    """How long it has taken, and will take."""
    elapsed = _elapsed(task)
    if elapsed is None:
        return ""
    return f"{_clock(elapsed)} {_remaining(task['progress'], elapsed)}".rstrip()


def _elapsed(task: Fields) -> float | None:
    """The seconds from a task's start to its end, or till now by this machine's clock."""
    if task["started_at"] is None:
        return None
    end = dt.datetime.now(dt.UTC) if task["ended_at"] is None else dt.datetime.fromisoformat(task["ended_at"])
    return max(0.0, (end - dt.datetime.fromisoformat(task["started_at"])).total_seconds())


def _remaining(progress: float, elapsed: float) -> str:
    if elapsed < STABLE_SECONDS or not STABLE_PERCENT <= progress < 100:
        return ""
    return f"about {_clock(elapsed * (100 - progress) / progress)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
