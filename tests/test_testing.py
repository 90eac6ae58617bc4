"""What the tests of a host use: its own suite, on a database in memory and on others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import fresh_database
from flask.testing import FlaskClient
from hosts.paths import Host

from taskapi.progress import Progress, TaskClosed, TaskNotFound, TaskStatus
from taskapi.progress.processes import writer_for
from taskapi.state import state_of
from taskapi.testing import Frame, eager, frames

# As a worker's module has it, made before there is an application.
progress = Progress()


@pytest.fixture(params=["sqlite://", "sqlite", "postgresql"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    if request.param == "sqlite://":
        yield from suite("sqlite://")
        return
    with fresh_database(request.param, tmp_path) as url:
        yield from suite(url)


def suite(url: str) -> Iterator[Host]:
    """As a host's own fixture has it: its tables for each test."""
    host = Host(url, TESTING=True)
    with host.app.app_context():
        host.db.create_all()
        yield host
        host.db.session.remove()
        host.db.drop_all()
        assert sa.inspect(host.db.engine).get_table_names() == []
        state_of(host.app).close()
        host.db.engine.dispose()


@pytest.fixture
def client(host: Host) -> FlaskClient:
    return host.app.test_client()


def status(client: FlaskClient, task_id: str) -> Any:
    response = client.get(f"/api/tasks/{task_id}/status")
    assert response.status_code == 200, response.text
    return response.json


def generate(task_id: str) -> None:
    """A worker's job."""
    with progress.run(task_id) as task:
        for _card in task.track("abc"):
            pass
        task.result("3 cards")


@pytest.mark.parametrize("_time", ["once", "and once more"])
def test_a_test_sees_the_end_of_what_it_began(host: Host, client: FlaskClient, _time: str) -> None:
    host.serve(generate)

    with eager(host.app):
        task_id = client.post("/paths").json["task_id"]  # type: ignore[index]

        task = status(client, task_id)
    assert (task["status"], task["completed_items"], task["result_message"]) == ("completed", 3, "3 cards")
    assert task["learning_path_id"] == host.db.session.scalar(sa.select(host.Path.id))


@pytest.mark.parametrize("host", ["sqlite://"], indirect=True)
def test_one_application_may_have_its_tables_made_anew_for_each_test(host: Host, client: FlaskClient) -> None:
    host.serve(generate)

    for _ in range(2):
        host.db.create_all()
        with eager(host.app):
            task_id = client.post("/paths").json["task_id"]  # type: ignore[index]
            assert status(client, task_id)["status"] == "completed"
            assert status(client, task_id)["id"] == 1
        host.db.session.remove()
        host.db.drop_all()


def test_every_report_is_in_the_row_when_the_call_is_over(host: Host, client: FlaskClient) -> None:
    with eager(host.app):
        task_id = Progress().create(user_id=1, total_items=4)
        seen = [status(client, task_id)["status"]]
        with progress.run(task_id) as task:
            seen.append(status(client, task_id)["status"])
            task.stage("counting")
            task.advance()
            now = status(client, task_id)
            task.update(progress=50)
            then = status(client, task_id)
        seen.append(status(client, task_id)["status"])

    assert seen == ["pending", "running", "completed"]
    assert (now["stage"], now["completed_items"], now["progress"]) == ("counting", 1, 25)
    assert then["progress"] == 50


@pytest.mark.parametrize("iterable", [list, iter])
def test_a_loop_gives_out_each_item_when_those_before_it_are_counted(
    host: Host, client: FlaskClient, iterable: Callable[[str], Any]
) -> None:
    with eager(host.app), progress.task(user_id=1) as task:
        counted = [status(client, task.task_id)["completed_items"] for _item in task.track(iterable("abc"))]
        assert status(client, task.task_id)["completed_items"] == 3

    assert counted == [0, 1, 2]


def test_a_job_that_fails_is_seen_to_have_failed(host: Host, client: FlaskClient) -> None:
    def fail(task_id: str) -> None:
        with progress.run(task_id):
            raise LookupError("no such card")

    with eager(host.app):
        task_id = host.tasks.create(user_id=1, on_commit=fail)
        with pytest.raises(LookupError):
            host.db.session.commit()

        assert status(client, task_id)["status"] == "failed"
        assert status(client, task_id)["result_message"] == "LookupError: no such card"


@pytest.mark.parametrize("looks", [False, True])
def test_a_cancellation_reaches_the_job_at_once(host: Host, client: FlaskClient, looks: bool) -> None:
    seen = []

    with eager(host.app), progress.task(user_id=1) as task:
        for item in task.track("abc"):
            seen.append(item)
            assert not task.cancelled
            assert client.post(f"/api/tasks/{task.task_id}/cancel").status_code == 202
            if looks:
                assert task.cancelled

    assert seen == ["a"]
    with eager(host.app):
        ended = status(client, task.task_id)
    assert (ended["status"], ended["result_message"]) == ("failed", "Cancelled.")


def test_a_rollback_leaves_nothing_to_run(host: Host) -> None:
    with eager(host.app):
        host.add_path()
        task_id = host.tasks.create(user_id=1, on_commit=generate)
        host.db.session.rollback()

        with pytest.raises(TaskNotFound):
            generate(task_id)


def test_what_is_raised_outside_is_raised_inside(host: Host) -> None:
    with eager(host.app):
        task_id = progress.create(user_id=1, task_id="a")
        with pytest.raises(ValueError, match="taken"):
            progress.create(user_id=1, task_id="a")
        followed = progress.run(task_id).__enter__()
        task = progress.run(task_id).__enter__()
        with pytest.raises(TaskClosed, match="running again"):
            followed.advance()
        host.db.session.execute(sa.text("UPDATE user_tasks SET status = 'timeout'"))
        host.db.session.commit()
        with pytest.raises(TaskClosed, match="timeout"):
            next(iter(task.track("abc")))


def test_other_threads_write_at_once_too(host: Host, client: FlaskClient) -> None:
    before = set(threading.enumerate())  # of earlier tests

    with eager(host.app):
        task_id = progress.create(user_id=1)
        thread = threading.Thread(target=generate, args=(task_id,))
        thread.start()
        thread.join()

        assert status(client, task_id)["status"] == TaskStatus.COMPLETED
        assert set(threading.enumerate()) <= before


def test_after_the_block_the_helper_writes_as_ever(host: Host) -> None:
    before = progress._writer
    with eager(host.app):
        assert progress._writer is not before

    assert progress._writer is before is writer_for(progress._url, progress._lease)


def test_the_events_of_a_stream_are_a_list(host: Host, client: FlaskClient) -> None:
    with eager(host.app):
        task_id = progress.create(user_id=1)
        generate(task_id)

        events = frames(client.get(f"/api/tasks/{task_id}/events"))
        again = client.get(f"/api/tasks/{task_id}/events", headers={"Last-Event-ID": str(events[0].id)})

    snapshot = status(client, task_id)
    assert events == [Frame(events[0].id, "message", snapshot), Frame(None, "done", {"status": "completed"})]
    assert isinstance(events[0].id, int)
    assert frames(again) == []


@pytest.mark.slow
def test_a_stream_that_goes_on_is_left_when_it_falls_silent(host: Host, client: FlaskClient) -> None:
    with eager(host.app):
        task_id = progress.create(user_id=1)

        events = frames(client.get(f"/api/tasks/{task_id}/events"))

    assert [(event.event, event.data["status"]) for event in events] == [("message", "pending")]


def test_an_answer_that_is_no_stream_is_told(client: FlaskClient) -> None:
    with pytest.raises(ValueError, match="404 NOT FOUND"):
        frames(client.get("/api/tasks/nothing/events"))
