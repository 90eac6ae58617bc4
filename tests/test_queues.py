"""The helper where work really runs: in Celery's forked children behind a broker, and in gunicorn's."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from harness import ROOT, Server, environment, free_port, row, wait_until

BROKERS = {
    "redis": os.environ.get("TASKAPI_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    "rabbitmq": os.environ.get("TASKAPI_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672"),
}

JOBS = """
import os
import pathlib
import time

from celery import Celery
from kombu import Queue
from taskapi.progress import Progress, TaskClosed

app = Celery("jobs", broker={broker!r})
app.conf.task_default_queue = {queue!r}
app.conf.task_queues = [Queue({queue!r}, expires=600)]
progress = Progress()  # before the fork, for the parent and all its children


@app.task
def count(task_id):
    with progress.run(task_id) as task:
        task.stage(f"process {{os.getpid()}}")
        for _ in task.track(range(300)):
            time.sleep(0.002)


@app.task
def fail(task_id):
    with progress.run(task_id) as task:
        for _ in task.track(range(7)):
            pass
        raise RuntimeError("the eighth item is broken")


@app.task
def sleep(task_id):
    with progress.run(task_id) as task:
        task.stage(f"process {{os.getpid()}}")
        time.sleep(600)


@app.task
def count_for_ever(task_id):
    with progress.run(task_id) as task:
        for _ in task.track(iter(lambda: time.sleep(0.01), 1)):
            pass
    pathlib.Path(f"behind {{task_id}}").touch()


@app.task
def look_for_ever(task_id):
    with progress.run(task_id) as task:
        while not task.cancelled:
            time.sleep(0.05)
    pathlib.Path(f"behind {{task_id}}").touch()


@app.task(bind=True, autoretry_for=(RuntimeError,), max_retries=2, default_retry_delay=0)
def succeed_at_last(self, task_id):
    with progress.run(task_id, retry=self.request.retries < self.max_retries) as task:
        for item in task.track(range(30)):
            if item == 20 and self.request.retries < 2:
                raise RuntimeError(f"item {{item}} is broken")


@app.task(bind=True, max_retries=1)
def overtake(self, task_id):
    overtaking = pathlib.Path("overtaking")
    with progress.run(task_id, retry=not self.request.retries) as task:
        if self.request.retries:
            overtaking.touch()
            for _ in task.track(range(30)):
                time.sleep(0.02)
        else:
            task.advance(7)
            try:
                raise self.retry(countdown=0)
            finally:
                while not overtaking.exists():
                    time.sleep(0.01)
                task.advance(7)


@app.task(acks_late=True, reject_on_worker_lost=True)
def survive(task_id):
    killed, seen = pathlib.Path("killed"), pathlib.Path("seen")
    with progress.run(task_id) as task:
        while killed.exists() and not seen.exists():
            time.sleep(0.01)
        for item in task.track(range(30)):
            if item == 20 and not killed.exists():
                task.stage(f"process {{os.getpid()}}")
                time.sleep(600)
"""

# What a web process does for each request: a row for the bar, then a message for the queue.
ASK = """
import sys
import jobs
for job in sys.argv[1:]:
    task_id = jobs.progress.create(user_id=1, kind=job, status="queued")
    getattr(jobs, job).delay(task_id)
    print(task_id)
"""


def answers(broker: str) -> bool:
    url = urlsplit(broker)
    try:
        with socket.create_connection((url.hostname, url.port), timeout=2):
            return True
    except OSError:
        return False


class Queue:
    """Celery's worker with two forked children, and the web side that gives it work."""

    def __init__(self, folder: Path, database_url: str, broker: str, lease: float) -> None:
        name = f"taskapi_test_{secrets.token_hex(6)}"
        (folder / "jobs.py").write_text(JOBS.format(broker=broker, queue=name))
        self.folder = folder
        path = os.pathsep.join([str(folder), str(ROOT)])
        variables = {"PYTHONPATH": path, "C_FORCE_ROOT": "1"}
        self._environment = {**environment(database_url, LEASE_SECONDS=lease), **variables}
        self.log = folder / "celery.log"
        command = [sys.executable, "-m", "celery", "-A", "jobs", "worker", "--pool", "prefork", "--concurrency", "2"]
        command += ["--queues", name, "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        with self.log.open("wb") as log:
            self.worker = subprocess.Popen(command, cwd=folder, env=self._environment, stdout=log, stderr=log)
        wait_until(lambda: " ready." in self.log.read_text() or self.worker.poll() is not None, 60)
        assert self.worker.poll() is None, self.log.read_text()

    def ask(self, *jobs: str) -> list[str]:
        """Have jobs done; their task ids."""
        asked = subprocess.run(
            [sys.executable, "-c", ASK, *jobs],
            cwd=self.folder,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return asked.stdout.split()

    def close(self) -> None:
        self.worker.terminate()
        try:
            self.worker.wait(20)
        except subprocess.TimeoutExpired:
            self.worker.kill()
            self.worker.wait()


@pytest.fixture(params=[("redis", 2)], ids=["redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, database_url: str, engine: sa.Engine) -> Iterator[Queue]:
    """Celery on a broker, with leases of so many seconds."""
    pytest.importorskip("celery")
    name, lease = request.param
    if not answers(BROKERS[name]):
        pytest.skip(f"no {name} answers")
    queue = Queue(tmp_path, database_url, BROKERS[name], lease)
    yield queue
    queue.close()


on_each_broker = pytest.mark.parametrize("queue", [(name, 60) for name in BROKERS], ids=list(BROKERS), indirect=True)


@pytest.mark.slow
def test_tasks_run_through_celery_are_queued_then_counted_exactly_in_its_children(
    queue: Queue, server: Server, engine: sa.Engine
) -> None:
    mine = server.stream("/api/tasks/users/me/events")

    task_ids = queue.ask("count", "count", "count", "fail")
    shown: dict[str, list[str]] = {task_id: [] for task_id in task_ids}
    while not all(statuses and statuses[-1] in ("completed", "failed") for statuses in shown.values()):
        snapshot = mine.next().json
        shown[snapshot["task_id"]].append(snapshot["status"])

    *counted, failed = [row(engine, task_id) for task_id in task_ids]
    assert [(task["status"], task["completed_items"], task["progress"]) for task in counted] == [
        ("completed", 300, 100)
    ] * 3
    assert (failed["status"], failed["completed_items"]) == ("failed", 7)
    assert failed["error_details"].endswith("RuntimeError: the eighth item is broken\n")
    assert shown[task_ids[2]][0] == "queued", "both children were busy"
    assert all("running" in shown[task_id] for task_id in task_ids[:3])
    log = queue.log.read_text()
    assert "reports are" not in log, "no report was lost or late"
    assert log.count("Traceback") == 1, "Celery saw the failure, and nothing else went wrong"


@pytest.mark.slow
def test_a_killed_celery_child_becomes_timeout_and_its_successor_works(
    queue: Queue, start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    server = start_server(LEASE_SECONDS=2)
    (task_id,) = queue.ask("sleep")
    stream = server.stream(f"/api/tasks/{task_id}/events")
    while "process" not in ((snapshot := stream.next().json)["stage"] or ""):
        pass

    os.kill(int(snapshot["stage"].split()[1]), signal.SIGKILL)
    *_, final, done = stream.rest()
    (next_id,) = queue.ask("count")

    assert done.json == {"status": "timeout"}
    assert final.json["result_message"] == "The worker stopped reporting."
    wait_until(lambda: row(engine, next_id)["status"] == "completed")
    assert row(engine, next_id)["completed_items"] == 300


@on_each_broker
@pytest.mark.slow
def test_what_celery_tries_again_begins_anew_until_it_succeeds(queue: Queue, server: Server, engine: sa.Engine) -> None:
    mine = server.stream("/api/tasks/users/me/events")

    (task_id,) = queue.ask("succeed_at_last")
    shown = [mine.next().json]
    while shown[-1]["status"] != "completed":
        shown.append(mine.next().json)

    again = [snapshot for snapshot in shown if snapshot["status"] == "queued" and snapshot["result_message"]]
    assert [(snapshot["result_message"], snapshot["completed_items"]) for snapshot in again] == [
        (f"Attempt {number} failed: RuntimeError: item 20 is broken. It will be tried again.", 0) for number in (1, 2)
    ]
    assert all("RuntimeError" in snapshot["error_details"] for snapshot in again)
    task = row(engine, task_id)
    assert (task["completed_items"], task["total_items"], task["attempt"]) == (30, 30, 3)
    assert (task["result_message"], task["error_details"]) == (None, None)


@on_each_broker
@pytest.mark.slow
def test_celerys_workers_are_told_of_a_cancellation(queue: Queue, server: Server, engine: sa.Engine) -> None:
    counting, looking, waiting = queue.ask("count_for_ever", "look_for_ever", "count_for_ever")
    for task_id in (counting, looking):
        wait_until(lambda task_id=task_id: row(engine, task_id)["status"] == "running")  # type: ignore[misc]
    took = {}

    for task_id in (waiting, counting, looking):
        started = time.monotonic()
        assert server.request("POST", f"/api/tasks/{task_id}/cancel", 1).status == 202
        wait_until(lambda task_id=task_id: row(engine, task_id)["status"] == "failed")  # type: ignore[misc]
        took[task_id] = time.monotonic() - started
    (next_id,) = queue.ask("count")
    wait_until(lambda: row(engine, next_id)["status"] == "completed")

    assert took[waiting] < 0.5
    assert took[counting] < 1.5  # and what the end takes to be written
    assert took[looking] < 3.5
    for task_id in (counting, looking, waiting):
        assert (row(engine, task_id)["result_message"], row(engine, task_id)["error_details"]) == ("Cancelled.", None)
    assert {path.name for path in queue.folder.glob("behind *")} == {f"behind {counting}", f"behind {looking}"}
    log = queue.log.read_text()
    assert "TaskCancelled" in log, "the task that waited was delivered, and not started"
    assert f"Task {waiting} was cancelled." in log


@on_each_broker
@pytest.mark.slow
def test_an_attempt_that_celery_starts_before_the_last_one_is_over_is_not_disturbed(
    queue: Queue, engine: sa.Engine
) -> None:
    (task_id,) = queue.ask("overtake")
    wait_until(lambda: row(engine, task_id)["status"] == "completed", 60)

    task = row(engine, task_id)
    assert (task["completed_items"], task["total_items"], task["attempt"]) == (30, 30, 2)
    assert (task["result_message"], task["error_details"]) == (None, None)


@on_each_broker
@pytest.mark.slow
def test_what_celery_delivers_again_after_a_kill_begins_anew(queue: Queue, server: Server, engine: sa.Engine) -> None:
    mine = server.stream("/api/tasks/users/me/events")

    (task_id,) = queue.ask("survive")
    shown = [mine.next().json]
    while not (shown[-1]["stage"] or "").startswith("process") or shown[-1]["completed_items"] < 20:
        shown.append(mine.next().json)
    (queue.folder / "killed").touch()
    os.kill(int(shown[-1]["stage"].split()[1]), signal.SIGKILL)
    restarted = mine.next().json
    (queue.folder / "seen").touch()
    wait_until(lambda: row(engine, task_id)["status"] == "completed", 60)

    assert restarted["status"] in ("starting", "running")
    assert (restarted["completed_items"], restarted["progress"], restarted["stage"]) == (0, 0, None)
    task = row(engine, task_id)
    assert (task["completed_items"], task["total_items"], task["attempt"]) == (30, 30, 2)


WEB = """
import os
import sys
from taskapi.progress import Progress

progress = Progress()
with progress.task(user_id=1, kind="at_import") as task:  # connects, and starts the thread, before the fork
    task.advance(3)


def app(environ, start_response):
    with progress.task(user_id=1, kind="request") as task:
        for _ in task.track(range(50)):
            task.stage(f"process {os.getpid()}")
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"""


@pytest.mark.slow
def test_a_global_used_before_gunicorn_forks_works_in_every_child(
    tmp_path: Path, database_url: str, engine: sa.Engine
) -> None:
    (tmp_path / "web.py").write_text(WEB)
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--no-control-socket", "web:app"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with log.open("wb") as output:
        web = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{port}"],
            cwd=tmp_path,
            env={**environment(database_url), "PYTHONPATH": path},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: log.read_text().count("Booting worker") == 3)
        served: set[bytes] = set()
        requests = 0
        while len(served) < 3 or requests < 12:
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/")
            served.add(connection.getresponse().read())
            connection.close()
            requests += 1
            assert requests < 500, "one child never answered"
    finally:
        web.terminate()
        web.wait(30)

    with engine.connect() as database:
        rows = database.exec_driver_sql("SELECT status, completed_items, count(*) FROM user_tasks GROUP BY 1, 2").all()
    assert sorted(map(tuple, rows)) == [("completed", 3, 1), ("completed", 50, requests)]
    assert "reports are" not in log.read_text()
