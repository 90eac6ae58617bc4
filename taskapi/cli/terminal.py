"""Draws a task in a terminal: a live bar, else a line for each change. Knows not where the snapshots come from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from ..database.models import TaskStatus

Fields = dict[str, Any]  # a `UserTaskResponse`

# Narrower terminals have no room for times.
ROOMY_COLUMNS = 70
# An estimate that jumps is worse than none: only after so much work, and so much time.
STABLE_PERCENT = 5.0
STABLE_SECONDS = 5.0
COLORS = {TaskStatus.COMPLETED: "green", TaskStatus.FAILED: "red", TaskStatus.TIMEOUT: "red"}


def show(snapshots: Iterable[Fields], console: Console) -> Fields | None:
    """Show each snapshot of a task as it comes; the last one, or None if there was none."""
    if console.is_terminal and not console.is_dumb_terminal:
        return _show_live(snapshots, console)
    last = None
    for last in snapshots:
        console.out(line(last), highlight=False)
    return last


def line(task: Fields) -> str:
    """A task in a line of plain text."""
    words = [f"{task['progress']:5.1f} %", task["status"], _count(task)]
    return printable("  ".join([*words, task["stage"] or "", task["result_message"] or ""]).rstrip())


def printable(text: str) -> str:
    """Text from a task, without what would move the cursor or break the line."""
    return "".join(character if character.isprintable() else " " for character in text)


def _show_live(snapshots: Iterable[Fields], console: Console) -> Fields | None:
    last = None
    with Progress(*_columns(console.width), console=console, expand=True) as progress:
        bar = progress.add_task("", total=None, snapshot={})
        for last in snapshots:
            progress.update(bar, snapshot=last, completed=last["progress"], total=_total(last))
    if last is not None and last["status"] in COLORS:
        _show_end(last, console)
    return last


def _total(task: Fields) -> float | None:
    """The bar's end; None, at which it pulses, until there is something to count."""
    return 100 if task["progress"] > 0 or task["total_items"] or task["status"] in COLORS else None


class _Field(ProgressColumn):
    """A column that tells something of the newest snapshot, ten times a second."""

    def __init__(self, tell: Callable[[Fields], str], **column: Any) -> None:
        super().__init__(Column(no_wrap=True, **column))
        self._tell = tell

    def render(self, task: Task) -> Text:
        """What rich asks for."""
        snapshot = task.fields["snapshot"]
        return Text(self._tell(snapshot) if snapshot else "")


def _columns(width: int) -> list[ProgressColumn]:
    columns = [
        _Field(_what, overflow="ellipsis", ratio=1),
        BarColumn(bar_width=30 if width >= ROOMY_COLUMNS else 12),
        _Field(lambda task: f"{task['progress']:.0f} %", justify="right"),
    ]
    if width >= ROOMY_COLUMNS:
        columns += [_Field(_count), _Field(_times)]
    return columns


def _what(task: Fields) -> str:
    return printable((task["stage"] or task["status"]).replace("_", " "))


def _times(task: Fields) -> str:
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


def _count(task: Fields) -> str:
    return f"{task['completed_items']}/{'?' if task['total_items'] is None else task['total_items']}"


def _show_end(task: Fields, console: Console) -> None:
    text = Text(task["status"], style=f"bold {COLORS[task['status']]}")
    reason = task["result_message"] or (task["error_details"] or "").strip().rpartition("\n")[2]
    console.print(text.append(f"  {printable(reason)}" if reason else "", style="default"), soft_wrap=True)
