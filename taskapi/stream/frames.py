"""The frames of snapshots, of forecasts and of the end, each encoded once for all who get it."""

from __future__ import annotations

import random

from ..database.models import Snapshot
from ..forecast import Forecast
from . import sse
from .sse import Frame

# Milliseconds until a browser comes back after a planned close, spread so that not all come at once.
RETRY_RANGE = (500, 3000)
BUSY_RETRY = 30_000
# The same where the database does not answer: it may be back soon, and everybody with it.
OUTAGE_RETRY_RANGE = (3000, 10_000)


def ending(snapshot: Snapshot, *, is_admin: bool = False) -> Frame:
    """A task's frame: its snapshot, and `done` behind a final one."""
    frame = sse.snapshot(snapshot.revision, snapshot.json_for(is_admin))
    return Frame.of(frame + sse.done(snapshot.status) if snapshot.status.is_final else frame)


def for_admins(frame: Frame, task: Snapshot) -> Frame:
    """The same frame with what only administrators are shown."""
    return Frame.of(frame.raw.replace(task.json, task.json_for(True), 1))


def told(forecast: Forecast) -> Frame:
    """What is expected of a task."""
    return Frame.of(sse.forecast(forecast.json))


def come_back() -> Frame:
    """The `bye` to who cannot be served while the database does not answer."""
    return Frame.of(sse.bye("busy", random.randint(*OUTAGE_RETRY_RANGE)))  # noqa: S311 - jitter


def farewell(reason: str) -> Frame:
    """The `bye` before a planned close."""
    retry = BUSY_RETRY if reason == "busy" else random.randint(*RETRY_RANGE)  # noqa: S311 - jitter
    return Frame.of(sse.bye(reason, retry))
