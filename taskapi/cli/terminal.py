"""Draws a task in a terminal: a live bar, else a line for each change. Knows not where the snapshots come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from ..database.models import TaskStatus
from . import lines
from .lines import Fields

# Narrower terminals have no room for times.
ROOMY_COLUMNS = 70
COLORS = {TaskStatus.COMPLETED: "green", TaskStatus.FAILED: "red", TaskStatus.TIMEOUT: "red"}


def show(snapshots: Iterable[Fields]) -> Fields | None:
    """Show each snapshot of a task as it comes; the last one, or None if there was none."""
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return _show_live(snapshots, console)
    last = None
    for last in snapshots:
        console.out(lines.line(last), highlight=False)
    return last


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
        _Field(lines.what, overflow="ellipsis", ratio=1),
        BarColumn(bar_width=30 if width >= ROOMY_COLUMNS else 12),
        _Field(lambda task: f"{task['progress']:.0f} %", justify="right"),
    ]
    if width >= ROOMY_COLUMNS:
        columns += [_Field(lines.count), _Field(lines.times)]
    return columns


def _show_end(task: Fields, console: Console) -> None:
    text = Text(task["status"], style=f"bold {COLORS[task['status']]}")
    reason = task["result_message"] or (task["error_details"] or "").strip().rpartition("\n")[2]
    console.print(text.append(f"  {lines.printable(reason)}" if reason else "", style="default"), soft_wrap=True)
