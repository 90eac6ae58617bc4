"""Cancelling: who may, what the row, the worker and everybody who follows are told, and how soon."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import pickle
import re
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import ROOT, Server, delete, insert, make_token, row, update, wait_until

from taskapi import Identity
from taskapi.database.models import CANCELLED, TaskStatus
from taskapi.database.store import Store
from taskapi.progress import Progress, Task, TaskCancelled, TaskClosed
from taskapi.state import state_of

PAST = "2020-01-01 00:00:00+00:00"
REQUESTED = "2026-11-24T10:00:00.000Z"


@pytest.fixture
def cancel(store: Store) -> Callable[[str], bool]:
    """Ask for a task's end, as the route does."""

    def ask(task_id: str) -> bool:
        task = store.task(task_id)
        assert task is not None
        return store.cancel(task)

    return ask


Cancel = Callable[[str], bool]


def outcome(engine: sa.Engine, task_id: str) -> tuple[str, str | None, str | None]:
    task = row(engine, task_id)
    return task["status"], task["result_message"], task["error_details"]


ENDED = ("failed", CANCELLED, None)


# The row.


@pytest.mark.parametrize("status", ["pending", "queued"])
def test_what_waits_ends_at_once(store: Store, engine: sa.Engine, cancel: Cancel, status: str) -> None:
    insert(engine, "a", status=status, error_details="of the first attempt")

    assert cancel("a")
    assert outcome(engine, "a") == ENDED
    assert row(engine, "a")["ended_at"] is not None
    assert not cancel("a")


@pytest.mark.parametrize("status", ["starting", "running"])
def test_what_was_started_is_asked_once(engine: sa.Engine, cancel: Cancel, status: str) -> None:
    insert(engine, "a", status=status)

    assert cancel("a")
    asked = row(engine, "a")
    assert (asked["status"], asked["result_message"]) == (status, None)
    assert asked["cancel_requested_at"] is not None
    assert not cancel("a")
    assert row(engine, "a") == asked


@pytest.mark.parametrize("status", ["completed", "failed", "timeout"])
def test_what_has_ended_cannot_be_cancelled(engine: sa.Engine, cancel: Cancel, status: str) -> None:
    insert(engine, "a", status=status)
    before = row(engine, "a")

    assert not cancel("a")
    assert row(engine, "a") == before


# The worker.


def test_the_next_item_of_a_loop_is_the_end_and_nothing_leaves_the_block(
    progress: Progress, engine: sa.Engine, cancel: Cancel
) -> None:
    seen = []

    with progress.task(user_id=1, task_id="a") as task:
        for item in task.track(range(1000)):
            seen.append(item)
            if item == 2:
                cancel("a")
            time.sleep(0.02)

    assert outcome(engine, "a") == ENDED
    assert row(engine, "a")["error_details"] is None
    assert 3 <= len(seen) < 100
    assert task.cancelled


def test_the_loop_of_the_documentation_is_left_between_two_items_and_tears_nothing(
    progress: Progress, engine: sa.Engine, cancel: Cancel
) -> None:
    page = (ROOT / "taskapi/docs/cancel-limits-retries.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    progress.create(user_id=1, task_id="a")
    published: list[int] = []
    noted: list[int] = []

    def publish(card: int) -> None:
        published.append(card)
        if card == 2:
            cancel("a")
            time.sleep(3)  # by then it has been told

    names = {"progress": progress, "task_id": "a", "cards": range(1000), "draw": id, "publish": publish}
    exec(example, {**names, "note": noted.append})

    assert outcome(engine, "a") == ENDED
    assert published == noted == [0, 1, 2]


def test_the_next_call_raises(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        cancel("a")
        wait_until(lambda: task.cancelled, 3)
        for call in (
            lambda: task.advance(),
            lambda: task.stage("x"),
            lambda: task.update(progress=5),
            lambda: task.result("x"),
            lambda: list(task.track([1])),
        ):
            with pytest.raises(TaskCancelled):
                call()

    assert outcome(engine, "a") == ENDED


def told_after(task: Task, work: Callable[[], object]) -> float:
    started = time.monotonic()
    with contextlib.suppress(TaskCancelled):
        while time.monotonic() - started < 10:
            work()
    assert task.cancelled
    return time.monotonic() - started


def test_a_worker_that_reports_is_told_within_a_second(progress: Progress, cancel: Cancel) -> None:
    for turn in range(3):
        with progress.task(user_id=1, task_id=f"a{turn}") as task:
            task.advance()
            time.sleep(0.5)
            cancel(task.task_id)

            def work(task: Task = task) -> None:
                task.advance()
                time.sleep(0.01)

            assert told_after(task, work) < 1


@pytest.mark.parametrize("pause", [0.0, 0.9, 1.9])
def test_a_silent_worker_is_told_within_three_seconds(progress: Progress, cancel: Cancel, pause: float) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        time.sleep(0.6 + pause)
        cancel("a")
        started = time.monotonic()
        wait_until(lambda: task.cancelled, 3)
        assert time.monotonic() - started < 3


def test_a_loop_that_is_silent_ends(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        cancel("a")
        for _ in task.track(iter(lambda: time.sleep(0.01), 1)):
            pass

    assert outcome(engine, "a") == ENDED


def test_who_looks_and_leaves_has_cancelled(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        cancel("a")
        while not task.cancelled:
            time.sleep(0.01)

    assert outcome(engine, "a") == ENDED


def test_who_catches_it_to_clean_up_has_cancelled(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        cancel("a")
        with contextlib.suppress(TaskCancelled):
            while True:
                task.advance()
                time.sleep(0.01)

    assert outcome(engine, "a") == ENDED


def test_who_was_done_before_it_knew_is_done(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a"):
        cancel("a")

    assert row(engine, "a")["status"] == "completed"


def test_an_exception_that_has_nothing_to_do_with_it_goes_on(
    progress: Progress, engine: sa.Engine, cancel: Cancel
) -> None:
    def work() -> None:
        with progress.task(user_id=1, task_id="a"):
            cancel("a")
            raise KeyError("card")

    with pytest.raises(KeyError):
        work()

    assert outcome(engine, "a")[:2] == ("failed", "KeyError: 'card'")


def test_another_tasks_cancellation_is_an_error_here(progress: Progress, engine: sa.Engine) -> None:
    with pytest.raises(TaskCancelled), progress.task(user_id=1, task_id="a"):
        raise TaskCancelled("b", TaskStatus.RUNNING)

    assert row(engine, "a")["status"] == "failed"
    assert row(engine, "a")["error_details"] is not None


def test_an_exception_group_of_it_is_it(progress: Progress, engine: sa.Engine) -> None:
    with progress.task(user_id=1, task_id="a"):
        raise ExceptionGroup("of a task group", [TaskCancelled("a", TaskStatus.RUNNING)])

    assert outcome(engine, "a") == ENDED


def test_a_cancelled_task_is_not_tried_again(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    task_id = progress.create(user_id=1)

    def work() -> None:
        with progress.run(task_id, retry=True):
            cancel(task_id)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()

    assert outcome(engine, task_id) == ENDED
    with pytest.raises(TaskCancelled):
        progress.run(task_id).__enter__()


def test_what_a_queue_delivers_again_is_not_started(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    insert(engine, "a", status="running", attempt=1)  # by a worker that was killed
    cancel("a")

    with pytest.raises(TaskCancelled, match="was cancelled"):
        progress.run("a").__enter__()

    assert outcome(engine, "a") == ENDED


def test_a_request_written_by_hand_on_a_waiting_task_is_heeded(progress: Progress, engine: sa.Engine) -> None:
    task_id = progress.create(user_id=1)
    update(engine, task_id, cancel_requested_at=REQUESTED)

    with pytest.raises(TaskCancelled):
        progress.run(task_id).__enter__()

    assert outcome(engine, task_id) == ENDED


@pytest.mark.parametrize("cards", [list(range(500)), set(range(500))], ids=["list", "set"])
def test_a_cancelled_loop_has_counted_what_it_did(
    progress: Progress, engine: sa.Engine, cancel: Cancel, cards: Collection[int]
) -> None:
    made: list[int] = []

    with progress.task(user_id=1, task_id="a") as task:
        for card in task.track(cards):
            if len(made) == 9:
                cancel("a")
                wait_until(lambda: task.cancelled, 3)
            made.append(card)

    found = row(engine, "a")
    assert len(made) == 10
    assert (found["completed_items"], found["total_items"], found["progress"]) == (10, 500, 2.0)


def test_nothing_is_torn_where_that_is_said(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    done: list[object] = []

    with progress.task(user_id=1, task_id="a") as task:
        with task.uncancellable():
            cancel("a")
            wait_until(lambda: task.cancelled, 3)
            task.stage("saving")
            done += task.track([1, 2, 3])
            with task.uncancellable():
                task.advance()
            done.append("saved")
        done.append("never")

    assert done == [1, 2, 3, "saved"]
    assert outcome(engine, "a") == ENDED
    assert (row(engine, "a")["stage"], row(engine, "a")["completed_items"]) == ("saving", 4)


def test_a_loop_around_what_must_not_be_torn_ends_behind_it(progress: Progress, cancel: Cancel) -> None:
    done = []

    with progress.task(user_id=1, task_id="a") as task:
        for item in task.track(range(10)):
            with task.uncancellable():
                if item == 2:
                    cancel("a")
                    wait_until(lambda: task.cancelled, 3)
                done.append(item)

    assert done == [0, 1, 2]


def test_other_threads_are_told_while_one_must_not_be_torn(progress: Progress, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a") as task, ThreadPoolExecutor(1) as pool, task.uncancellable():
        cancel("a")
        wait_until(lambda: task.cancelled, 3)

        with pytest.raises(TaskCancelled):
            pool.submit(task.advance).result()

        task.advance()


def test_an_error_in_what_must_not_be_torn_is_the_error(progress: Progress, engine: sa.Engine, cancel: Cancel) -> None:
    def work() -> None:
        with progress.task(user_id=1, task_id="a") as task, task.uncancellable():
            cancel("a")
            wait_until(lambda: task.cancelled, 3)
            raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        work()

    assert row(engine, "a")["result_message"] == "ValueError: disk full"


def test_a_watcher_is_called_once_when_a_worker_is_to_stop(progress: Progress, cancel: Cancel) -> None:
    calls: list[str] = []

    with progress.task(user_id=1, task_id="a") as task:
        task._ledger.on_stop = lambda: calls.append("stop")
        with task.uncancellable():
            cancel("a")
            wait_until(lambda: task.cancelled, 3)
            assert calls == []
    assert calls == ["stop"]


def test_who_joined_is_told(progress: Progress, database_url: str, engine: sa.Engine, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        joined = Progress(database_url).attach("a")
        cancel("a")

        def work() -> None:
            with joined:
                for _ in joined.track(range(10_000)):
                    time.sleep(0.01)

        with pytest.raises(TaskCancelled):
            work()
        wait_until(lambda: task.cancelled, 3)

    assert outcome(engine, "a") == ENDED


def test_who_joined_and_only_looks_is_told(progress: Progress, database_url: str, cancel: Cancel) -> None:
    with progress.task(user_id=1, task_id="a"):
        joined = Progress(database_url).attach("a")
        assert not joined.cancelled
        cancel("a")
        wait_until(lambda: joined.cancelled, 3)


def count_for_ever(database_url: str, task_id: str) -> None:
    task = Progress(database_url).attach(task_id)
    while True:
        task.advance()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_is_told(
    progress: Progress, database_url: str, engine: sa.Engine, cancel: Cancel, method: str
) -> None:
    started = time.monotonic()

    with progress.task(user_id=1, task_id="a"), multiprocessing.get_context(method).Pool(2) as pool:
        results = [pool.apply_async(count_for_ever, (database_url, "a")) for _ in range(2)]
        wait_until(lambda: row(engine, "a")["completed_items"] > 2)
        cancel("a")
        for result in results:
            result.get(10)

    assert outcome(engine, "a") == ENDED
    assert time.monotonic() - started < 20


def test_a_worker_whose_task_the_server_has_closed_is_told_why(
    progress: Progress, engine: sa.Engine, store: Store, cancel: Cancel
) -> None:
    with progress.task(user_id=1, task_id="a") as task:
        cancel("a")
        update(engine, "a", cancel_requested_at=PAST)
        assert [found.task_id for found in store.close_overdue(store.overdue(30))] == ["a"]
        wait_until(lambda: task._ledger.closed, 5)
        with pytest.raises(TaskCancelled):
            task.advance()

    assert outcome(engine, "a") == ENDED


def test_a_worker_that_never_noticed_leaves_its_block_in_peace(
    progress: Progress, engine: sa.Engine, store: Store, cancel: Cancel
) -> None:
    with progress.task(user_id=1, task_id="a"):
        cancel("a")
        update(engine, "a", cancel_requested_at=PAST)
        store.close_overdue(store.overdue(30))

    assert outcome(engine, "a") == ENDED


def test_the_error_travels_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(TaskCancelled("a", TaskStatus.RUNNING, "why")))

    assert isinstance(copy, TaskClosed)
    assert (type(copy), str(copy)) == (TaskCancelled, "Task a was cancelled.")


# The server closes what does not react.


def test_a_worker_that_does_not_react_is_given_so_many_seconds(store: Store, engine: sa.Engine) -> None:
    insert(engine, "late", status="running", cancel_requested_at=PAST, stage="x", progress=40)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET lease_expires_at = '2100-01-01' WHERE task_id = 'late'"))
    insert(engine, "in time", status="running")
    task = store.task("in time")
    assert task is not None
    store.cancel(task)

    closed = store.close_overdue(store.overdue(30))

    assert [(task.task_id, task.reason) for task in closed] == [("late", "cancelled")]
    assert outcome(engine, "late") == ENDED
    assert row(engine, "in time")["status"] == "running"
    assert [task.task_id for task in store.overdue(0.0)] == ["in time"]


def test_a_cancelled_task_whose_worker_has_died_is_cancelled(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a", status="running", lease_expires_at=PAST)
    update(engine, "a", cancel_requested_at="2100-01-01T00:00:00.000Z")

    store.close_overdue(store.overdue(30))

    assert outcome(engine, "a") == ENDED


def test_a_running_server_closes_it(start_server: Callable[..., Server], engine: sa.Engine) -> None:
    server = start_server(CANCEL_SECONDS=1)
    insert(engine, "a", status="running")

    assert server.request("POST", "/api/tasks/a/cancel", 1).status == 202

    wait_until(lambda: row(engine, "a")["status"] == "failed")
    assert outcome(engine, "a") == ENDED
    wait_until(lambda: "does not react to the cancellation" in server.log.read_text())
    counts = server.get("/metrics").body.decode()
    assert 'taskapi_tasks_cancelled_total{how="asked"} 1.0' in counts
    assert 'taskapi_tasks_cancelled_total{how="closed"} 1.0' in counts


# The route.


def post(client: FlaskClient, task_id: str, user: int = 1, **claims: Any) -> Any:
    return client.post(
        f"/api/tasks/{task_id}/cancel", headers={"Authorization": f"Bearer {make_token(user, **claims)}"}
    )


def test_cancelling_what_waits(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", status="queued")

    answer = post(client, "a")

    assert (answer.status_code, answer.content_type) == (202, "application/json")
    assert answer.headers["Location"] == "/api/tasks/a/status"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert (answer.json["status"], answer.json["result_message"]) == ("failed", CANCELLED)
    assert (
        answer.json == client.get(answer.headers["Location"], headers={"Authorization": f"Bearer {make_token()}"}).json
    )
    assert post(client, "a").status_code == 409


def test_cancelling_what_was_started_and_again(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")

    answers = [post(client, "a"), post(client, "a")]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    assert answers[0].json["status"] == "running"


@pytest.mark.parametrize("status", ["completed", "failed", "timeout"])
def test_cancelling_what_has_ended_is_a_conflict(client: FlaskClient, engine: sa.Engine, status: str) -> None:
    insert(engine, "a", status=status)

    answer = post(client, "a")

    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    assert answer.json["detail"] == f"The task has ended: {status}."


def test_who_may_cancel(client: FlaskClient, engine: sa.Engine, app: Flask) -> None:
    for name in ("owners", "admins", "strangers", "teams"):
        insert(engine, name, status="running")

    assert post(client, "owners").status_code == 202
    assert post(client, "admins", 2, is_admin=True).status_code == 202
    assert post(client, "strangers", 2).status_code == 403
    assert client.post("/api/tasks/strangers/cancel").status_code == 401
    assert post(client, "nothing").status_code == 404
    assert post(client, "x" * 256).status_code == 404

    rules = state_of(app).rules
    rules.may_see = lambda _identity, _task: True
    assert post(client, "teams", 2).status_code == 403
    rules.may_see, rules.may_cancel = None, lambda identity, task: (identity.user_id, task.task_id) == (2, "teams")
    assert post(client, "teams", 2).status_code == 202
    assert post(client, "strangers", 2).status_code == 403
    assert row(engine, "strangers")["cancel_requested_at"] is None


def test_a_task_that_is_another_ones_by_then_is_not_cancelled(store: Store, engine: sa.Engine) -> None:
    number = insert(engine, "a", status="running")
    task = store.task("a")
    assert task is not None
    delete(engine, "a")
    insert(engine, "b", user=2, id=number, status="running")

    assert not store.cancel(task)
    assert row(engine, "b")["cancel_requested_at"] is None


def test_who_cancels_what_is_another_ones_by_then_is_shown_nothing_of_it(
    client: FlaskClient, engine: sa.Engine, app: Flask
) -> None:
    insert(engine, "a", status="running")

    def may_cancel(_identity: Identity, _task: object) -> bool:
        update(engine, "a", user_id=3, stage="secret")
        return True

    state_of(app).rules.may_cancel = may_cancel
    answer = post(client, "a", 2)

    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert row(engine, "a")["cancel_requested_at"] is None


def test_a_rule_that_is_a_coroutine_function_opens_nothing(client: FlaskClient, engine: sa.Engine, app: Flask) -> None:
    insert(engine, "a", status="running")

    async def nobody(_identity: Identity, _task: object) -> bool:
        return False

    state_of(app).rules.may_see = state_of(app).rules.may_cancel = nobody  # type: ignore[assignment]

    # Flask runs it where its extra "async" is installed, and says so where it is not.
    assert post(client, "a", 2).status_code in (403, 500)
    seen = client.get("/api/tasks/a/status", headers={"Authorization": f"Bearer {make_token(2)}"})
    assert seen.status_code in (403, 500)
    assert row(engine, "a")["cancel_requested_at"] is None


def test_a_page_of_another_origin_may_cancel_where_it_is_allowed_to(database_url: str, engine: sa.Engine) -> None:
    from taskapi import create_app

    origin = "https://app.example.com"
    app = create_app({"DATABASE_URL": database_url, "CORS_ORIGINS": [origin], "TESTING": True})
    client = app.test_client()

    allowed = client.options(
        "/api/tasks/a/cancel",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, x-csrf-token",
        },
    )

    assert allowed.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
    assert {"authorization", "x-csrf-token"} <= set(allowed.headers["Access-Control-Allow-Headers"].lower().split(", "))
    assert "Location" in allowed.headers.get("Access-Control-Expose-Headers", "Location")
    state_of(app).close()


# Forged requests, in an application that protects itself.


@pytest.fixture
def protected(database_url: str, engine: sa.Engine) -> Iterator[Flask]:
    """An application with sessions, and Flask-WTF's protection."""
    flask_wtf = pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed")
    from taskapi import TaskAPI

    app = Flask("protected")
    app.config.update(SECRET_KEY="k" * 32, TASKAPI_DATABASE_URL=database_url, TESTING=True)
    flask_wtf.CSRFProtect(app)
    tasks = TaskAPI(app)
    tasks.identity(lambda: Identity(1))  # a session's cookie comes with every request
    app.add_url_rule("/token", view_func=flask_wtf.csrf.generate_csrf)
    yield app
    state_of(app).close()


def test_a_page_of_another_site_cancels_nothing(protected: Flask, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    client = protected.test_client()

    for headers in ({}, {"X-CSRFToken": "forged"}, {"Authorization": "Basic dXNlcjpwYXNz"}):
        answer = client.post("/api/tasks/a/cancel", headers=headers)
        assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
        assert "CSRF" in answer.text
    assert row(engine, "a")["cancel_requested_at"] is None

    token = client.get("/token").text
    assert client.post("/api/tasks/a/cancel", headers={"X-CSRFToken": token}).status_code == 202


def test_a_bearer_token_is_proof_enough(protected: Flask, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")

    answer = protected.test_client().post("/api/tasks/a/cancel", headers={"Authorization": "Bearer any"})

    assert answer.status_code == 202


def test_an_application_that_looks_by_itself_is_left_to_it(protected: Flask, engine: sa.Engine) -> None:
    protected.config["WTF_CSRF_CHECK_DEFAULT"] = False
    insert(engine, "a", status="running")

    assert protected.test_client().post("/api/tasks/a/cancel").status_code == 202


# Those who follow.


def test_an_open_stream_is_told_at_once_and_whoever_joins(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    server.request("POST", "/api/tasks/a/cancel", 1)
    server.request("POST", "/api/tasks/a/cancel", 1)

    snapshot, told = stream.next(), stream.next()
    assert (snapshot.name, snapshot.json["status"]) == ("message", "running")
    assert (told.name, told.id) == ("cancelling", snapshot.id)  # it has none of its own
    requested = json.loads(told.data)["requested_at"]
    assert told.data == json.dumps({"requested_at": requested})
    assert requested.endswith("Z")

    joined = server.stream("/api/tasks/a/events")
    assert [joined.next().name, joined.next().data] == ["message", told.data]
    returned = server.stream("/api/tasks/a/events", Last_Event_ID=snapshot.id)
    assert returned.next().data == told.data

    update(engine, "a", progress=50)
    assert [stream.next().json["progress"], joined.next().json["progress"]] == [50, 50]
    update(engine, "a", status="failed", result_message=CANCELLED)
    assert [event.name for event in stream.rest()] == ["message", "done"]
    assert [event.name for event in server.stream("/api/tasks/a/events").rest()] == ["message", "done"]


def test_a_stream_of_all_tasks_names_the_task(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    insert(engine, "b", status="running")
    stream = server.stream("/api/tasks/users/me/events")
    stream.next(), stream.next()

    server.request("POST", "/api/tasks/a/cancel", 1)

    assert stream.next().json["task_id"] == "a"
    told = stream.next()
    assert told.name == "cancelling"
    assert list(told.json) == ["task_id", "requested_at"]
    assert told.json["task_id"] == "a"
    joined = server.stream("/api/tasks/users/me/events")
    events = [joined.next() for _ in range(3)]
    assert sorted(event.name for event in events) == ["cancelling", "message", "message"]


@pytest.mark.parametrize("moment", [REQUESTED, "2026-11-24 10:00:00+00:00", "2026-11-24T12:00:00+02:00"])
def test_a_request_by_hand_is_told_in_one_form(server: Server, engine: sa.Engine, moment: str) -> None:
    insert(engine, "a", status="running", cancel_requested_at=moment)

    stream = server.stream("/api/tasks/a/events")

    assert [stream.next().name, stream.next().data] == ["message", '{"requested_at": "2026-11-24T10:00:00.000Z"}']


def test_a_poll_that_is_held_ends(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    etag = server.get("/api/tasks/a/status", 1).headers["ETag"]
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(server.get, "/api/tasks/a/status", 1, If_None_Match=etag, Prefer="wait=20")
        time.sleep(0.3)
        started = time.monotonic()
        server.request("POST", "/api/tasks/a/cancel", 1)
        assert held.result().status == 200
    assert time.monotonic() - started < 3
