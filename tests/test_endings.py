"""What has ended is counted for `/metrics`, whoever ended it: once, however many processes count."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from harness import Server, insert, wait_until

from taskapi.database.store import Active, Ended, Store
from taskapi.kinds import MOST_KINDS, OTHER, Kinds, bounded

MOMENTS = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{} seconds')",
    "postgresql": "clock_timestamp() - interval '{} seconds'",
}


@pytest.fixture
def ago(engine: sa.Engine) -> Callable[[float], str]:
    """A moment so many seconds ago, for SQL; what ended is counted since a minute ago."""

    def ago(seconds: float) -> str:
        return MOMENTS[engine.dialect.name].format(seconds)

    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE user_tasks_schema SET counted_until = {ago(60)}")
    return ago


def end(engine: sa.Engine, ago: Callable[[float], str], task_id: str, **fields: Any) -> None:
    """Insert a task that waited for three seconds, ran for ten, and ended half a minute ago."""
    insert(engine, task_id, **fields)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE user_tasks SET status = 'completed', created_at = {ago(43)}, started_at = {ago(40)}, "
            f"ended_at = {ago(30)} WHERE task_id = '{task_id}'"
        )


def test_what_ended_is_told_once(store: Store, engine: sa.Engine, ago: Callable[[float], str]) -> None:
    end(engine, ago, "a", kind="export", attempt=2)
    insert(engine, "b", status="running")

    first, second = store.newly_ended(), store.newly_ended()

    assert [(task.kind, task.status, task.starts) for task in first] == [("export", "completed", 2)]
    assert first[0].waited == pytest.approx(3, abs=0.2)
    assert first[0].ran == pytest.approx(10, abs=0.2)
    assert second == []


def test_what_ended_a_moment_ago_waits_for_those_that_commit_late(
    store: Store, engine: sa.Engine, ago: Callable[[float], str]
) -> None:
    insert(engine, "a", status="completed")

    assert store.newly_ended() == []


def test_of_many_that_count_at_once_one_counts(store: Store, engine: sa.Engine, ago: Callable[[float], str]) -> None:
    for number in range(20):
        end(engine, ago, f"task {number}")
    told: list[Ended] = []

    threads = [threading.Thread(target=lambda: told.extend(store.newly_ended())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(told) == 20


def test_the_metrics_have_how_long_tasks_waited_and_ran(
    server: Server, engine: sa.Engine, ago: Callable[[float], str]
) -> None:
    insert(engine, "waiting", kind="counted")
    end(engine, ago, "a", kind="counted")

    def metrics() -> str:
        return server.get("/metrics").body.decode()

    def has(line: str) -> bool:
        return re.search(f"^{re.escape(line)}", metrics(), re.MULTILINE) is not None

    assert has('taskapi_tasks{kind="counted",status="pending"} 1.0')
    assert has('taskapi_oldest_task_seconds{kind="counted",status="pending"} ')
    wait_until(lambda: has('taskapi_tasks_ended_total{kind="counted",status="completed"} 1.0'), 30)
    assert has('taskapi_task_waiting_seconds_bucket{kind="counted",le="5.0"} 1.0')
    assert has('taskapi_task_waiting_seconds_bucket{kind="counted",le="1.0"} 0.0')
    assert has('taskapi_task_running_seconds_bucket{kind="counted",le="15.0"} 1.0')


def test_an_application_that_makes_up_kinds_does_not_make_up_series() -> None:
    kinds = Kinds()
    labels = [kinds.label(f"kind {number}") for number in range(1000)]

    tasks = bounded(Active(f"kind {number}", "queued", 1, None, number, 0) for number in range(1000))

    assert len(set(labels)) == MOST_KINDS + 1
    assert kinds.label("kind 3") == "kind 3"
    assert tasks[-1] == (OTHER, "queued", 1000 - MOST_KINDS, 999)
