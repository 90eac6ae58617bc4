"""What the database can do to a running server: be late, restart, hang, lose its network, hide behind a pooler."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clusters import Cluster
from flask import Flask
from harness import (
    ROOT,
    Answer,
    Event,
    EventStream,
    Machine,
    Server,
    environment,
    free_port,
    insert,
    may_pull_cables,
    migrate,
    parse,
    row,
    update,
    wait_until,
)
from poolers import transaction_pooler
from sqlalchemy.engine import make_url

from taskapi.database.models import Snapshot
from taskapi.database.store import Store
from taskapi.state import state_of
from taskapi.stream.broadcaster import Broadcaster
from taskapi.stream.queues import QueueStream
from taskapi.stream.streams import Stream, Terms

Serve = Callable[..., Server]

postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

JSON_ENDPOINTS = ("/api/tasks/a/status", "/api/tasks/users/me", "/api/tasks/learning-paths/5")


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Cluster]) -> Cluster:
    """A PostgreSQL of these tests' own, to stop, restart and freeze."""
    return start_cluster()


@pytest.fixture(scope="module")
def postgres_url(cluster: Cluster) -> str:
    """In this file, the PostgreSQL that may be stopped."""
    migrate(cluster.url())
    return cluster.url()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


def is_problem(answer: Answer) -> bool:
    return (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")


def open_streams(server: Server, number: int, path: str = "/api/tasks/a/events") -> list[EventStream]:
    streams = [server.stream(path) for _ in range(number)]
    for stream in streams:
        stream.socket.settimeout(60)
        stream.next()
    return streams


def start_python(code: str, database_url: str) -> subprocess.Popen[str]:
    """A process of its own that works on a database."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment(database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Poller(threading.Thread):
    """Asks again and again, and remembers what came and how long the slowest answer took."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self.slowest = 0.0
        self._server, self._path = server, path
        self._stop_asking = threading.Event()

    def run(self) -> None:
        while not self._stop_asking.is_set():
            started = time.monotonic()
            self.answers.append(self._server.get(self._path, 1))
            self.slowest = max(self.slowest, time.monotonic() - started)
            time.sleep(0.05)

    def __enter__(self) -> Poller:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop_asking.set()
        self.join()

    def all_well_or_unavailable(self) -> bool:
        return all(answer.status == 200 or is_problem(answer) for answer in self.answers)


# PostgreSQL's life.


@pytest.mark.slow
@postgresql
def test_a_server_that_starts_before_its_database_says_so_and_recovers_by_itself(
    cluster: Cluster, serve: Serve, engine: sa.Engine
) -> None:
    insert(engine, "a", learning_path_id=5)
    engine.dispose()

    with cluster.away():
        server = serve(cluster.url(), wait=False)
        wait_until(lambda: server.answers("/healthz"))
        workers = server.workers()
        unready = server.get("/readyz")
        answers = [server.get(path, 1) for path in JSON_ENDPOINTS]
        refused = server.get("/api/tasks/users/me")

    assert is_problem(unready)
    assert all(is_problem(answer) for answer in answers)
    assert refused.status == 401
    wait_until(lambda: server.answers("/readyz"))
    assert [server.get(path, 1).status for path in JSON_ENDPOINTS] == [200, 200, 200]
    stream = server.stream("/api/tasks/a/events")
    stream.next()
    update(engine, "a", status="completed")
    assert [event.name for event in stream.rest()] == ["message", "done"]
    assert server.workers() == workers
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@postgresql
def test_a_restarted_database_loses_no_stream_and_no_update(cluster: Cluster, serve: Serve, engine: sa.Engine) -> None:
    server = serve(cluster.url())
    insert(engine, "a", status="running")
    streams = open_streams(server, 20)
    mine = open_streams(server, 2, "/api/tasks/users/me/events")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            with contextlib.suppress(sa.exc.OperationalError):
                update(engine, "a", progress=number % 100, stage=f"step {number}")

    writer = threading.Thread(target=write)
    writer.start()
    with Poller(server, "/api/tasks/a/status") as status, Poller(server, "/api/tasks/users/me") as mine_polled:
        for _ in range(2):
            with cluster.away():
                wait_until(lambda: is_problem(server.get("/readyz")))
            wait_until(lambda: server.answers("/readyz"))
    stop.set()
    writer.join()
    update(engine, "a", status="completed")

    ends = [stream.rest() for stream in streams]
    for events in ends:
        revisions = [int(event.id) for event in events if event.name == "message"]
        assert revisions == sorted(set(revisions))
        assert events[-2].json["stage"] == row(engine, "a")["stage"]
        assert [event.name for event in events].count("done") == 1
        assert events[-1].json == {"status": "completed"}
    for stream in mine:
        assert wait_until(lambda: stream.next().json["status"] == "completed")  # noqa: B023
    assert status.all_well_or_unavailable()
    assert mine_polled.all_well_or_unavailable()
    assert any(is_problem(answer) for answer in status.answers)
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def distant(cluster: Cluster, machine: Machine) -> Iterator[str]:
    """The cluster's URL by way of another machine."""
    port = free_port()
    code = f"from harness import forward; forward({machine.far!r}, {port}, {machine.near!r}, {cluster.port})"
    forwarder = subprocess.Popen(machine.command(sys.executable, "-c", code), cwd=Path(__file__).parent)
    yield cluster.url(machine.far, port)
    forwarder.kill()
    forwarder.wait()


@pytest.mark.slow
@postgresql
@pytest.mark.skipif(not may_pull_cables(), reason="network namespaces are not allowed here")
def test_a_database_whose_network_is_cut_without_a_word_is_noticed_within_seconds_and_nothing_is_lost(
    distant: str, machine: Machine, serve: Serve, engine: sa.Engine
) -> None:
    """What bounds it: `tcp_user_timeout` (10 s) for what was sent, keep-alives (5 + 3 * 2 s) for who only listens,
    `connect_timeout` (5 s) for new connections."""
    server = serve(distant)
    insert(engine, "a", status="running")
    streams = open_streams(server, 5)

    machine.pull()
    with Poller(server, "/api/tasks/a/status") as poller:
        wait_until(lambda: "the change feed is interrupted" in server.log.read_text(), 30)
        wait_until(lambda: any(is_problem(answer) for answer in poller.answers), 30)
        unready = server.get("/readyz")
        update(engine, "a", progress=50)
        machine.plug_in()
        wait_until(lambda: server.answers("/readyz"), 40)
    update(engine, "a", status="completed")

    assert is_problem(unready)
    assert poller.all_well_or_unavailable()
    assert poller.slowest < 25
    for stream in streams:
        events = stream.rest()
        assert [event.json["progress"] for event in events if event.name == "message"][-1] == 50
        assert events[-1].json == {"status": "completed"}


@pytest.mark.slow
@postgresql
def test_a_database_that_hangs_with_its_connections_open_costs_an_answer_and_no_update(
    cluster: Cluster, serve: Serve, engine: sa.Engine
) -> None:
    """No kernel sees anything wrong here: what bounds it is `database.ANSWER_SECONDS`."""
    server = serve(cluster.url())
    insert(engine, "a", status="running")
    streams = open_streams(server, 5)

    with cluster.frozen():
        answers = [server.get("/api/tasks/a/status", 1) for _ in range(2)]  # a connection that hangs, and a new one
        alive = server.get("/healthz")
    update(engine, "a", status="completed")

    assert all(is_problem(answer) for answer in answers)
    assert alive.status == 200
    for stream in streams:
        assert stream.rest()[-1].json == {"status": "completed"}
    wait_until(lambda: server.answers("/readyz"), 40)


@pytest.fixture
def pooled(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """The cluster's URL by way of a transaction pooler."""
    with transaction_pooler(cluster, tmp_path / "pooler.log") as url:
        yield url


@pytest.mark.slow
@postgresql
@pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed")
def test_workers_may_be_behind_a_transaction_pooler(pooled: str, engine: sa.Engine) -> None:
    code = """
        import time
        from taskapi.progress import Progress
        with Progress().task(user_id=1) as task:
            for number in task.track(range(40)):
                task.stage(f"step {number}")
                time.sleep(0.1)
    """

    workers = [start_python(code, pooled) for _ in range(3)]
    outputs = [worker.communicate(timeout=60) for worker in workers]

    assert outputs == [("", "")] * 3
    with engine.connect() as connection:
        ended = connection.exec_driver_sql("SELECT status, completed_items FROM user_tasks").all()
    assert ended == [("completed", 40)] * 3


@pytest.mark.slow
@postgresql
@pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed")
def test_behind_a_transaction_pooler_the_server_says_so_and_streams_still_move(
    pooled: str, serve: Serve, engine: sa.Engine
) -> None:
    server = serve(pooled, wait=False)
    wait_until(lambda: "is there a transaction pooler" in server.log.read_text(), 30)
    insert(engine, "a", status="running")
    streams = open_streams(server, 2)

    for progress in (10, 20):
        update(engine, "a", progress=progress)
        for stream in streams:
            assert stream.next().json["progress"] == progress
    unready = server.get("/readyz")
    polled = [server.get("/api/tasks/a/status", 1).status for _ in range(30)]
    update(engine, "a", status="completed")

    assert [stream.rest()[-1].json for stream in streams] == [{"status": "completed"}] * 2
    assert is_problem(unready)
    assert "change feed" in unready.json["detail"]
    assert polled == [200] * 30


# A write at the worst moment. The steps of opening a stream, in their order, by hand.


class Reader(threading.Thread):
    """Reads a stream's body as a server's thread does."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self._body = stream
        self.start()

    def run(self) -> None:
        lines = (line for part in self._body for line in part.decode().split("\n")[:-1])
        self.events.extend(event for event in parse(lines) if event.name != "comment")

    def newest(self) -> dict[str, float]:
        return {event.json["task_id"]: event.json["progress"] for event in self.events if event.name == "message"}


@pytest.fixture
def broadcaster(app: Flask) -> Iterator[Broadcaster]:
    broadcaster: Broadcaster = state_of(app).broadcaster
    yield broadcaster
    broadcaster.close()


def new_stream(broadcaster: Broadcaster, cursor: int | None = None) -> tuple[Stream, Reader]:
    stream = broadcaster.open_stream({}, Terms(1, False, cursor, broadcaster.deadline(600), "max_age"))
    assert isinstance(stream, QueueStream)
    return stream, Reader(stream)


def read(store: Store) -> Snapshot:
    task = store.task("a")
    assert task is not None
    return task


SOON = 5.0  # seconds; the sweep, which would hide a gap, comes after ten


@pytest.mark.parametrize("others", [0, 1])
def test_a_write_between_reading_a_task_and_following_it_is_not_missed(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine, others: int
) -> None:
    insert(engine, "a")
    for _ in range(others):
        other, watching = new_stream(broadcaster)
        broadcaster.follow_task(other, read(store))
        wait_until(lambda: watching.events)  # noqa: B023
    stream, reader = new_stream(broadcaster)

    task = read(store)
    update(engine, "a", progress=50)
    if others:
        wait_until(lambda: watching.newest() == {"a": 50}, SOON)
    broadcaster.follow_task(stream, task)

    wait_until(lambda: reader.newest() == {"a": 50}, SOON)


def test_an_end_between_reading_a_task_and_following_it_is_not_missed(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine
) -> None:
    insert(engine, "a")
    stream, reader = new_stream(broadcaster)

    task = read(store)
    update(engine, "a", status="failed")
    broadcaster.follow_task(stream, task)

    wait_until(lambda: [event.name for event in reader.events][-2:] == ["message", "done"], SOON)
    wait_until(lambda: not reader.is_alive())


def test_a_delete_between_reading_a_task_and_following_it_ends_the_stream(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine
) -> None:
    insert(engine, "a")
    stream, reader = new_stream(broadcaster)

    task = read(store)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM user_tasks"))
    broadcaster.follow_task(stream, task)

    wait_until(lambda: not reader.is_alive(), SOON)


@pytest.mark.parametrize("of_user", [False, True])
def test_a_stream_that_follows_only_when_all_were_said_bye_hears_it_too(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine, of_user: bool
) -> None:
    insert(engine, "a")
    task = store.task("a")
    assert task is not None
    stream, reader = new_stream(broadcaster)

    broadcaster.close()
    if of_user:
        broadcaster.follow_user(stream, 1, None)
    else:
        broadcaster.follow_task(stream, task)

    wait_until(lambda: not reader.is_alive(), SOON)
    assert reader.events[-1].json == {"reason": "shutdown"}
    assert isinstance(broadcaster.open_stream({}, Terms(1, False, None, 0.0, "max_age")), str)


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("moment", ["before joining", "before reading", "before introducing"])
def test_a_write_at_any_step_of_following_all_of_a_users_tasks_is_not_missed(
    app: Flask, broadcaster: Broadcaster, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, moment: str, others: int
) -> None:
    insert(engine, "a", status="running")
    broadcaster.start()
    for _ in range(others):
        other, watching = new_stream(broadcaster)
        broadcaster.follow_user(other, 1, None)
        wait_until(lambda: watching.events)  # noqa: B023
    stream, reader = new_stream(broadcaster)

    def write(now: str) -> None:
        if now == moment:
            update(engine, "a", progress=50)
            insert(engine, "new")
            if others:
                wait_until(lambda: watching.newest() == {"a": 50, "new": 0}, SOON)

    own = state_of(app).store
    clock, active_of = own.clock, own.active_of

    def slow_clock() -> int:
        moment = clock()
        if threading.current_thread() is threading.main_thread():  # the sweep asks, too
            write("before joining")
        return moment

    def slow_active_of(user_id: int) -> list[Snapshot]:
        write("before reading")
        tasks = active_of(user_id)
        write("before introducing")
        return tasks

    monkeypatch.setattr(own, "active_of", slow_active_of)
    with monkeypatch.context() as patch:
        patch.setattr(own, "clock", slow_clock)
        broadcaster.follow_user(stream, 1, None)

    wait_until(lambda: reader.newest() == {"a": 50, "new": 0}, SOON)
    ids = [int(event.id) for event in reader.events]
    assert ids == sorted(ids)


def test_the_last_watcher_leaving_and_a_new_one_coming_misses_no_write(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine
) -> None:
    insert(engine, "a")
    for progress in range(1, 31):
        stream, reader = new_stream(broadcaster)
        task = read(store)
        writer = threading.Thread(target=update, args=(engine, "a"), kwargs={"progress": progress})
        writer.start()
        broadcaster.follow_task(stream, task)
        writer.join()

        wait_until(lambda: reader.newest().get("a") == progress, SOON)  # noqa: B023
        stream.drop()


# SQLite's write-ahead log and its one lock.


@pytest.mark.slow
@sqlite
def test_the_write_ahead_log_stays_small_under_streams_and_thirty_thousand_writes(
    serve: Serve, database_url: str, engine: sa.Engine
) -> None:
    server = serve(database_url, MAX_STREAMS_PER_USER=200)
    insert(engine, "a", status="running", stage="x" * 500)
    streams = open_streams(server, 100)
    log = Path(f"{make_url(database_url).database}-wal")
    largest = 0

    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        for number in range(30_000):
            driver.execute("UPDATE user_tasks SET progress = ? WHERE task_id = 'a'", (number % 100,))
            if number % 100 == 0:
                largest = max(largest, log.stat().st_size)
    update(engine, "a", status="completed")

    for stream in streams:
        assert stream.rest()[-1].name == "done"
    assert largest < 30_000_000


HELPER_WRITER = """
import time
from taskapi.progress import Progress
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    with Progress().task(user_id=1, kind="helped") as task:
        for _ in task.track(range(100)):
            time.sleep(0.01)
"""
PLAIN_WRITER = """
import sqlite3, time
connection = sqlite3.connect({path!r}, timeout=5, isolation_level=None)
end = time.monotonic() + {seconds}
number = 0
while time.monotonic() < end:
    number += 1
    connection.execute("UPDATE user_tasks SET progress = ? WHERE task_id = ?", (number % 100, {task!r}))
    time.sleep(0.002)  # without a pause, SQLite's own writers starve each other for more than five seconds
print(number)
"""


@pytest.mark.slow
@sqlite
def test_eight_writer_processes_and_a_server_never_see_a_locked_database(
    serve: Serve, database_url: str, engine: sa.Engine
) -> None:
    server = serve(database_url)
    for number in range(4):
        insert(engine, f"plain{number}", status="running")
    mine = open_streams(server, 1, "/api/tasks/users/me/events")
    path = str(make_url(database_url).database)
    codes = [PLAIN_WRITER.format(path=path, seconds=20, task=f"plain{number}") for number in range(4)]
    codes += [HELPER_WRITER.format(seconds=20)] * 4

    writers = [start_python(code, database_url) for code in codes]
    with Poller(server, "/api/tasks/users/me") as poller:
        outputs = [writer.communicate(timeout=60) for writer in writers]

    assert [error for _, error in outputs] == [""] * 8
    assert [writer.returncode for writer in writers] == [0] * 8
    assert all(int(output) > 100 for output, _ in outputs[:4]), "a writer starved"
    assert {answer.status for answer in poller.answers} == {200}
    with engine.connect() as connection:
        counted = connection.execute(
            sa.text("SELECT DISTINCT status, completed_items FROM user_tasks WHERE task_id LIKE 'helped%'")
        ).all()
    assert counted == [("completed", 100)]
    assert mine[0].next()
    log = server.log.read_text().lower()
    assert "error" not in log
    assert "locked" not in log
    assert "warning" not in log
