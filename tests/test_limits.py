"""Limits: how long a task may wait, and take; tried again; and the words for what was closed."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from harness import Follower, Server, insert, row, update, wait_until

from taskapi import maintenance
from taskapi.database.connections import dialect_of
from taskapi.database.overdue import Overdue, duration
from taskapi.database.store import Report, Store
from taskapi.maintenance import Limits
from taskapi.progress import Progress, TaskClosed

PAST = "2020-01-01 00:00:00+00:00"
LIMITS = Limits(lease=60, start_within=86_400, cancel_within=30)


def ago(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def moment(value: Any) -> dt.datetime:
    """A column's value on either database."""
    found = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(dt.UTC)


def seconds_from_creation(engine: sa.Engine, task_id: str, column: str) -> float | None:
    task = row(engine, task_id)
    return task[column] and (moment(task[column]) - moment(task["created_at"])).total_seconds()


def closed(store: Store, limits: Limits = LIMITS) -> dict[str, str]:
    return {task.task_id: task.reason for task in maintenance.reap(store, limits)}


def outcome(engine: sa.Engine, task_id: str) -> tuple[str, str | None]:
    task = row(engine, task_id)
    return task["status"], task["result_message"]


# At the task's creation.


def test_limits_are_moments_counted_from_the_creation(progress: Progress, engine: sa.Engine) -> None:
    limits_of: dict[str, dict[str, Any]] = {
        "none": {},
        "start": {"start_within": 60},
        "end": {"finish_within": 600},
        "both": {"start_within": 60, "finish_within": 600},
        "end first": {"start_within": 900, "finish_within": 600},
    }
    for task_id, limits in limits_of.items():
        progress.create(user_id=1, task_id=task_id, **limits)

    def seconds(task_id: str) -> list[float | None]:
        return [seconds_from_creation(engine, task_id, column) for column in ("start_by", "end_by")]

    assert seconds("none") == [None, None]
    assert seconds("start") == [pytest.approx(60, abs=0.1), None]
    # What is not started by its end cannot be finished by it.
    assert seconds("end") == [pytest.approx(600, abs=0.1)] * 2
    assert seconds("both") == [pytest.approx(60, abs=0.1), pytest.approx(600, abs=0.1)]
    assert seconds("end first") == [pytest.approx(600, abs=0.1)] * 2


@pytest.mark.parametrize("name", ["start_within", "finish_within"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (1e10, ValueError),
        ("60", TypeError),
        (True, TypeError),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_the_call(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Progress("sqlite:////nowhere/at/all.db").create(user_id=1, **{name: value})


# What is overdue.


def test_what_was_not_started_in_time_is_closed_with_the_reason(
    progress: Progress, store: Store, engine: sa.Engine
) -> None:
    progress.create(user_id=1, task_id="late", start_within=60)
    progress.create(user_id=1, task_id="queued", status="queued", start_within=60)
    progress.create(user_id=1, task_id="in time", start_within=3600)
    for task_id in ("late", "queued"):
        update(engine, task_id, created_at=ago(61), start_by=ago(1))

    assert closed(store) == {"late": "unstarted", "queued": "unstarted"}
    assert outcome(engine, "late") == ("timeout", "Not started within 1 minute.")
    assert row(engine, "late")["ended_at"] is not None
    assert row(engine, "in time")["status"] == "pending"
    assert closed(store) == {}


@pytest.mark.parametrize("status", ["pending", "queued", "starting", "running"])
def test_what_was_not_finished_in_time_is_closed_with_the_reason(
    progress: Progress, store: Store, engine: sa.Engine, status: str
) -> None:
    progress.create(user_id=1, task_id="a", finish_within=600)
    update(engine, "a", status=status, created_at=ago(601), start_by=ago(1), end_by=ago(1))

    assert closed(store) == {"a": "unfinished"}
    assert outcome(engine, "a") == ("timeout", "Not finished within 10 minutes.")


def test_what_was_started_in_time_may_take_its_time(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a", status="running", created_at=PAST, start_by=PAST)

    assert closed(store) == {}


@pytest.mark.parametrize("kind", [None, "mail", "report"])
def test_no_task_waits_for_ever(store: Store, engine: sa.Engine, kind: str | None) -> None:
    for task_id, created_at in {"old": ago(86_500), "new": ago(86_300)}.items():
        insert(engine, task_id, kind=kind, created_at=created_at)
    insert(engine, "another", kind="another", created_at=ago(86_300))
    insert(engine, "has its own", kind=kind, created_at=ago(86_500), start_by="2100-01-01T00:00:00.000Z")
    end = "2100-01-01T00:00:00.000Z"
    insert(engine, "has only an end", kind=kind, created_at=ago(86_500), start_by=end, end_by=end)
    insert(engine, "started", kind=kind, created_at=ago(86_500), status="running")

    assert closed(store, LIMITS._replace(start_within=0)) == {}
    assert closed(store) == {"old": "unstarted", "has only an end": "unstarted"}
    assert outcome(engine, "old") == ("timeout", "Not started within 24 hours.")


def test_the_limit_for_all_counts_by_kinds_however_many(store: Store, engine: sa.Engine) -> None:
    names = [f"kind {number}" for number in range(30)]
    for name in names:
        insert(engine, f"old {name}", kind=name, created_at=ago(100), status="queued")
        insert(engine, f"new {name}", kind=name, status="queued")

    assert set(closed(store, LIMITS._replace(start_within=50))) == {f"old {name}" for name in names}


def test_more_than_a_batch_is_closed(store: Store, engine: sa.Engine) -> None:
    statement = "INSERT INTO user_tasks (task_id, user_id, created_at, start_by) VALUES (:name, 1, :past, :start_by)"
    with engine.begin() as connection:
        for group, start_by in (("own", ago(1)), ("all", None)):
            rows = [{"name": f"{group} {number}", "past": PAST, "start_by": start_by} for number in range(1100)]
            connection.execute(sa.text(statement), rows)

    assert len(closed(store)) == 2200


# Found, and changed before it is closed.


@pytest.mark.parametrize(
    "change",
    [
        {"status": "running", "attempt": 1},
        {"status": "completed"},
        {"attempt": 1},
        {"lease_expires_at": "2100-01-01T00:00:00Z"},
    ],
    ids=str,
)
def test_what_has_changed_since_it_was_found_is_left_alone(
    store: Store, engine: sa.Engine, change: dict[str, Any]
) -> None:
    insert(engine, "a", created_at=ago(61), start_by=ago(1))
    found = store.overdue(30)
    update(engine, "a", **change)

    assert [task.task_id for task in found] == ["a"]
    assert store.close_overdue(found) == []
    assert row(engine, "a")["status"] == change.get("status", "pending")


def test_a_lease_that_was_renewed_meanwhile_saves_the_task(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a", status="running", attempt=1, lease_expires_at=PAST)
    found = store.overdue(30)
    attempt = store.attempt("a")
    assert attempt is not None
    store.renew([attempt.key], 60)

    assert [task.reason for task in found] == ["silent"]
    assert store.close_overdue(found) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_overdue_takes_no_write_lock(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a")
    with engine.begin():  # somebody's write
        started = time.monotonic()
        assert closed(store) == {}
    assert time.monotonic() - started < 1


@pytest.fixture
def many_waiting(engine: sa.Engine) -> None:
    """Some thousand tasks that wait, of five kinds and of none; every other with a limit of its own."""
    statement = "INSERT INTO user_tasks (task_id, user_id, kind, start_by) VALUES (:name, 1, :kind, :start_by)"
    tasks = [
        {
            "name": str(number),
            "kind": f"kind {number % 6}" if number % 6 else None,
            "start_by": f"2100-01-01T00:00:{number % 60:02}.000Z" if number % 2 else None,
        }
        for number in range(4000)
    ]
    with engine.begin() as connection:
        connection.execute(sa.text(statement), tasks)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE user_tasks"))


@pytest.mark.usefixtures("many_waiting")
@pytest.mark.parametrize(
    ("name", "parameters", "index"),
    [
        ("overdue_started", {"cancel_within": 30.0}, "ix_user_tasks_started"),
        ("overdue_waiting", {}, "ix_user_tasks_start_by"),
        ("waiting_too_long", {"start_within": 86_400.0}, "ix_user_tasks_waiting"),
    ],
)
def test_what_is_overdue_is_found_by_an_index(
    engine: sa.Engine, name: str, parameters: dict[str, Any], index: str
) -> None:
    statement = getattr(dialect_of(engine.url).statements, name)
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    with engine.connect() as connection:
        lines = connection.execute(sa.text(f"{explain} {statement}"), {**parameters, "batch": 500}).all()

    plan = "\n".join(str(line[-1]) for line in lines)
    assert index in plan
    assert "Seq Scan" not in plan
    for line in plan.splitlines():
        assert "user_tasks" not in line or "INDEX" in line or "Index" in line, plan


# The worker.


def test_a_worker_that_starts_too_late_is_told(progress: Progress, engine: sa.Engine) -> None:
    progress.create(user_id=1, task_id="start", start_within=60)
    update(engine, "start", created_at=ago(61), start_by=ago(1))
    progress.create(user_id=1, task_id="end", finish_within=120)
    update(engine, "end", created_at=ago(121), start_by=ago(1), end_by=ago(1))

    for task_id, message in (("start", "Not started within 1 minute."), ("end", "Not finished within 2 minutes.")):
        for _ in range(2):  # closed by the first, found closed by the second
            with pytest.raises(TaskClosed) as raised:
                progress.run(task_id).__enter__()
            assert str(raised.value) == f"Task {task_id} has ended: timeout. {message}"
            assert raised.value.message == message
        assert outcome(engine, task_id) == ("timeout", message)


def test_what_is_delivered_again_after_its_time_is_not_started(progress: Progress, engine: sa.Engine) -> None:
    insert(engine, "a", status="running", attempt=1, created_at=ago(601), end_by=ago(1))

    with pytest.raises(TaskClosed, match="Not finished within 10 minutes"):
        progress.run("a").__enter__()


def test_a_worker_that_takes_too_long_is_told_though_it_is_silent(
    progress: Progress, store: Store, engine: sa.Engine
) -> None:
    def work() -> None:
        with progress.task(user_id=1, task_id="a", finish_within=1.5) as task:
            wait_until(lambda: closed(store), 5)
            started = time.monotonic()
            for _ in task.track(iter(lambda: time.sleep(0.01), 1)):
                assert time.monotonic() - started < 3

    with pytest.raises(TaskClosed, match=r"timeout\. Not finished within 1\.5 seconds\."):
        work()

    assert row(engine, "a")["status"] == "timeout"


# Tried again.


def test_a_task_that_is_tried_again_waits_since_then(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a", kind="k", status="running", attempt=1, created_at=PAST, start_by=PAST)
    attempt = store.attempt("a")
    assert attempt is not None

    store.report([Report(*attempt.key, status=attempt.status.QUEUED, error_details="e")], 60)

    assert row(engine, "a")["start_by"] is None
    assert closed(store) == {}
    time.sleep(0.3)
    assert closed(store, LIMITS._replace(start_within=0.2)) == {"a": "unstarted"}


def test_the_limit_of_the_whole_holds_over_all_attempts(progress: Progress, store: Store, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1, start_within=60, finish_within=600)
    with pytest.raises(ValueError, match="broken"), progress.run(task_id, retry=True):
        raise ValueError("broken")
    task = row(engine, task_id)
    assert task["start_by"] == task["end_by"]
    assert closed(store) == {}

    update(engine, task_id, created_at=ago(601), start_by=ago(1), end_by=ago(1))

    assert closed(store) == {task_id: "unfinished"}


def test_a_stream_sees_a_new_attempt_by_its_new_start(server: Server, engine: sa.Engine, progress: Progress) -> None:
    task_id = progress.create(user_id=1, status="queued")
    follower = Follower(server.stream(f"/api/tasks/{task_id}/events"))

    def see(number: int) -> None:
        wait_until(lambda: follower.newest.get(task_id, {}).get("progress") == number)

    def attempt(*, retry: bool) -> None:
        with progress.run(task_id, retry=retry) as task:
            if not retry:
                see(0)
            task.update(progress=70 if retry else 5)
            see(70 if retry else 5)
            if retry:
                raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        attempt(retry=True)
    wait_until(lambda: follower.newest[task_id]["status"] == "queued")
    attempt(retry=False)

    follower.join(20)
    snapshots = [event.json for event in follower.events if event.name == "message"]
    between = next(snapshot for snapshot in snapshots if snapshot["error_details"])
    assert (between["status"], between["progress"], between["started_at"]) == ("queued", 0, None)
    assert between["result_message"] == "Attempt 1 failed: ValueError: broken. It will be tried again."
    _, second = dict.fromkeys(snapshot["started_at"] for snapshot in snapshots if snapshot["started_at"])
    assert moment(second) == moment(row(engine, task_id)["started_at"])
    again = [snapshot for snapshot in snapshots if snapshot["started_at"] == second]
    assert (again[0]["status"], again[0]["progress"], again[0]["error_details"]) == ("starting", 0, None)
    assert [snapshot["progress"] for snapshot in again] == sorted(snapshot["progress"] for snapshot in again)


def test_a_stream_sees_that_a_queue_has_delivered_again(server: Server, progress: Progress) -> None:
    task_id = progress.create(user_id=1)
    killed = progress.run(task_id)
    killed.__enter__().update(progress=70)
    follower = Follower(server.stream(f"/api/tasks/{task_id}/events"))
    wait_until(lambda: follower.newest.get(task_id, {}).get("progress") == 70)
    before = follower.newest[task_id]

    with progress.run(task_id):
        wait_until(lambda: follower.newest[task_id]["progress"] == 0)
        again = follower.newest[task_id]
        with pytest.raises(TaskClosed):
            killed.__exit__(None, None, None)

    assert (before["status"], again["status"]) == ("running", "starting")
    assert again["started_at"] > before["started_at"]


# A running server.


def test_a_running_server_closes_what_is_overdue(
    start_server: Callable[..., Server], engine: sa.Engine, progress: Progress
) -> None:
    server = start_server(START_WITHIN_SECONDS=3)
    progress.create(user_id=1, task_id="own", start_within=1)
    progress.create(user_id=1, task_id="end", finish_within=1)
    progress.create(user_id=1, task_id="all")
    stream = server.stream("/api/tasks/all/events")

    assert [event.name for event in stream.rest()][-1] == "done"

    assert outcome(engine, "all") == ("timeout", "Not started within 3 seconds.")
    assert outcome(engine, "own") == ("timeout", "Not started within 1 second.")
    assert outcome(engine, "end") == ("timeout", "Not finished within 1 second.")
    for count in ('{reason="unstarted"} 2.0', '{reason="unfinished"} 1.0'):
        wait_until(lambda count=count: f"taskapi_tasks_expired_total{count}" in server.get("/metrics").body.decode())  # type: ignore[misc]


# Words.


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.25, "0.25 seconds"),
        (1, "1 second"),
        (1.4997, "1.5 seconds"),
        (45, "45 seconds"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (599.9996, "10 minutes"),
        (600, "10 minutes"),
        (1000, "17 minutes"),
        (3600, "1 hour"),
        (5400, "90 minutes"),
        (7200.01, "2 hours"),
        (86_400, "24 hours"),
        (100_000, "28 hours"),
        (172_800, "2 days"),
        (604_800, "7 days"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_limit_that_lies_before_the_creation_has_words() -> None:
    assert Overdue(1, "a", 0, "pending", None, "unstarted", -5.0).message == "Not started in time."
