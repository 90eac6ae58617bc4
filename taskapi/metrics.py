"""What operators count."""

from __future__ import annotations

import threading
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

    dec = set = observe = inc


if TYPE_CHECKING or extras.has("metrics"):
    from .prometheus import Counter, Gauge, Histogram
else:
    Counter = Gauge = Histogram = Uncounted


class Tallies:
    """Keeps in memory how often something happened, by the value of a label, until `flush` gives it to the metric.

    What several processes add up is written to a file each time, which takes 3 to 6 µs: a poll's whole row takes 25.
    """

    def __init__(self, metric: Counter) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, label: str) -> None:
        """Count one."""
        with self._lock:
            self._counts[label] = self._counts.get(label, 0) + 1

    def flush(self) -> None:
        """Give on what was counted since the last time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        for label, count in counts.items():
            self._metric.labels(label).inc(count)


polls = Tallies(Counter("taskapi_polls", "Answers to polls of one task, by HTTP status: 200, 304", ["status"]))
polls_held = Gauge("taskapi_polls_held", "Polls that wait for news (Prefer: wait)", multiprocess_mode="livesum")
streams_opened = Counter("taskapi_streams_opened", "Event streams opened")
streams_open = Gauge("taskapi_streams_open", "Open event streams", multiprocess_mode="livesum")
streams_handed_over = Counter(
    "taskapi_streams_handed_over", "Streams that went on in another process, neither ended nor opened anew"
)
streams_refused = Counter("taskapi_streams_refused", "Streams refused, by reason: busy, shutdown", ["reason"])
streams_ended = Counter(
    "taskapi_streams_ended",
    "Streams ended, by reason: done, deleted, expired, max_age, shutdown, stalled (dropped), client (it left)",
    ["reason"],
)
frames_sent = Counter("taskapi_frames_sent", "Frames given to streams, keep-alives not counted")
feed_connected = Gauge("taskapi_feed_connected", "Whether every change feed works", multiprocess_mode="livemin")
feed_lag = Histogram(
    "taskapi_feed_lag_seconds",
    "From the moment of a change, by the database's clock, until its frame was written",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
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
# What ended, counted once for all processes and nodes on a database. In seconds, from moments to a day:
LASTING = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
tasks_ended = Counter("taskapi_tasks_ended", "Tasks that ended, by kind and status", ["kind", "status"])
tasks_retried = Counter("taskapi_tasks_retried", "Starts after the first one, of tasks that ended, by kind", ["kind"])
task_waiting = Histogram(
    "taskapi_task_waiting_seconds",
    "From a task's creation to its first start, of tasks that ended, by kind",
    ["kind"],
    buckets=LASTING,
)
task_running = Histogram(
    "taskapi_task_running_seconds",
    "From a task's last start to its end, by kind",
    ["kind"],
    buckets=LASTING,
)


def flush() -> None:
    """Let `/metrics` see all that this process has counted."""
    polls.flush()
