"""One row of the table, and the table. Knows no program."""

from __future__ import annotations

from typing import NamedTuple

from .programs import Missing


class Row(NamedTuple):
    """One comparison: a ratio to reach (or a figure), and what it was."""

    what: str
    against: str
    value: str
    to_reach: str


def ratio(ours: float | Missing, theirs: float | Missing, unit: str = "") -> str:
    """How many times theirs ours is, with both figures."""
    if isinstance(ours, Missing) or isinstance(theirs, Missing):
        return f"left out: {ours if isinstance(ours, Missing) else theirs}"
    if not theirs:
        return f"left out: it delivered nothing (ours: {figure(ours)}{unit})"
    return f"{ours / theirs:.2f} × ({figure(ours)} and {figure(theirs)}{unit})"


def figure(value: float) -> str:
    """A number with three digits that count."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}".replace(",", " ")
    return f"{value:.3g}"


def markdown(rows: list[Row]) -> str:
    """The table, as the README shows it."""
    lines = ["| what | against | measured | to reach |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows])
