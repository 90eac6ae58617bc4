"""What operators count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from . import extras


class Uncounted:
    """Takes the place of a count where prometheus_client is not installed, and nobody could read it."""

    def __init__(self, *_description: Any, **_options: Any) -> None:
        pass

    def labels(self, *_values: str) -> Self:
        """The same."""
        return self

    def inc(self, amount: float = 1) -> None:
        """Nothing."""

    dec = set = inc


if TYPE_CHECKING or extras.has("metrics"):
    from .prometheus import Counter, Gauge
else:
    Counter = Gauge = Uncounted

streams_open = Gauge("taskapi_streams_open", "Open event streams", multiprocess_mode="livesum")
streams_refused = Counter("taskapi_streams_refused", "Streams refused, by reason: busy, shutdown", ["reason"])
streams_ended = Counter(
    "taskapi_streams_ended",
    "Streams ended, by reason: done, deleted, expired, max_age, shutdown, stalled (dropped), client (it left), "
    "handed_over (to another process)",
    ["reason"],
)
frames_sent = Counter("taskapi_frames_sent", "Frames given to streams, keep-alives not counted")
feed_connected = Gauge("taskapi_feed_connected", "Whether every change feed works", multiprocess_mode="livemin")
feed_lag = Gauge(
    "taskapi_feed_lag_seconds",
    "From reading changed rows until their frames were written, the last time",
    multiprocess_mode="livemax",
)
tasks_reaped = Counter("taskapi_tasks_reaped", "Tasks closed as timeout because their worker had gone")
tasks_expired = Counter(
    "taskapi_tasks_expired", "Tasks closed as timeout by a limit, by reason: unstarted, unfinished", ["reason"]
)
tasks_cancelled = Counter(
    "taskapi_tasks_cancelled",
    "Tasks cancelled, by how: waiting, asked (its worker), closed (it did not react)",
    ["how"],
)
