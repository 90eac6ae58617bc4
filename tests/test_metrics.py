"""What operators see: `/metrics`, and one log line for each thing that matters."""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa
from harness import Server, insert, update, wait_until


def metric(server: Server, name: str) -> float:
    """A metric's value, by its name with labels as Prometheus prints it."""
    text = server.get("/metrics").body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_streams_are_counted_over_all_workers_from_opening_to_end(
    start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    server = start_server("--workers", "2", MAX_STREAMS_PER_USER=30)
    wait_until(lambda: len(server.workers()) == 2)
    insert(engine, "a", status="running")
    streams = [server.stream("/api/tasks/a/events") for _ in range(10)]
    for stream in streams:
        stream.next()
    assert metric(server, "taskapi_streams_open") == 10

    streams[0].close()
    wait_until(lambda: metric(server, "taskapi_streams_open") == 9)
    update(engine, "a", status="completed")
    for stream in streams[1:]:
        stream.rest()

    assert metric(server, "taskapi_streams_open") == 0
    assert metric(server, 'taskapi_streams_ended_total{reason="client"}') == 1
    assert metric(server, 'taskapi_streams_ended_total{reason="done"}') == 9
    assert metric(server, "taskapi_frames_sent_total") >= 19
    wait_until(lambda: metric(server, "taskapi_feed_connected") == 1)


def test_refused_streams_are_counted_by_reason(start_server: Callable[..., Server], engine: sa.Engine) -> None:
    server = start_server(MAX_STREAMS_PER_USER=1)
    insert(engine, "a")
    server.stream("/api/tasks/a/events").next()

    server.stream("/api/tasks/a/events").rest()

    assert metric(server, 'taskapi_streams_refused_total{reason="busy"}') == 1


def test_an_abandoned_task_is_counted_and_logged_once(server: Server, engine: sa.Engine) -> None:
    before = metric(server, "taskapi_tasks_reaped_total")
    insert(engine, "dead", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")

    wait_until(lambda: metric(server, "taskapi_tasks_reaped_total") == before + 1)

    assert server.log.read_text().count("task dead") == 1
