"""A host's servers: gunicorn's kinds of workers with the host's own hooks and wrappers, and `flask run`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, Answer, EventStream, Server, environment, free_port, insert, row, update, wait_until

HOST = "tests.hosts.threads_host"
# Every hook of ours replaced by one of the host's own.
OWN_HOOKS = """
from taskapi.gunicorn_conf import *
def on_starting(server): pass
def post_fork(server, worker): pass
def post_worker_init(worker): pass
def worker_int(worker): print("the host's own worker_int", flush=True)
def worker_exit(server, worker): pass
def on_exit(server): pass
"""
WORKERS = {
    "gevent": ("-k", "gevent"),
    "gthread": ("-k", "gthread", "--threads", "8"),
    "sync": ("-k", "sync"),
}

Serve = Callable[..., "HostServer"]
Run = Callable[[], "HostServer"]


class HostServer(Server):
    """The host under gunicorn; who asks is said by a header."""

    def stream(self, path: str, user: int | None = 1, **headers: str) -> Any:
        return super().stream(path, None, X_User=str(user), **headers)

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(lambda: self.process.poll() is not None or self.answers("/"))
        assert self.process.poll() is None, self.log.read_text()


class DevelopmentServer(HostServer):
    """The same under `flask run`."""

    def __init__(self, log: Path, variables: dict[str, str]) -> None:
        self.port, self.log, self.streams = free_port(), log, []
        command = [sys.executable, "-m", "flask", "--app", f"{HOST}:app", "run", "--port", str(self.port)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=output)


@pytest.fixture
def own_hooks(tmp_path: Path) -> str:
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(OWN_HOOKS)
    return str(path)


@pytest.fixture
def no_hooks(tmp_path: Path) -> str:
    """A configuration that knows nothing of us."""
    path = tmp_path / "gunicorn.conf.py"
    path.write_text("worker_tmp_dir = '/dev/shm'\n")
    return str(path)


@pytest.fixture
def members(database_url: str, engine: sa.Engine) -> Iterator[dict[str, str]]:
    """The host's users, 1 to 20, in its own table; the variables that name its database."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE threads_host_members (id INTEGER PRIMARY KEY, team TEXT NOT NULL)")
        for number in range(1, 21):
            team = "support" if number == 20 else "sales"
            connection.exec_driver_sql(f"INSERT INTO threads_host_members VALUES ({number}, '{team}')")
    yield {"HOST_DATABASE": database_url.replace("postgresql://", "postgresql+psycopg://")}
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE threads_host_members")


@pytest.fixture
def serve_host(database_url: str, members: dict[str, str], tmp_path: Path) -> Iterator[Serve]:
    """Start gunicorn on the host."""
    with contextlib.ExitStack() as servers:

        def serve(*arguments: str, app: str = f"{HOST}:wrapped", wait: bool = True, **settings: Any) -> HostServer:
            log = tmp_path / "host.log"
            server = HostServer(database_url, log, *arguments, app=app, variables=members, wait=False, **settings)
            servers.callback(server.close)
            if wait:
                server.wait()
            return server

        yield serve


@pytest.fixture
def run_host(database_url: str, members: dict[str, str], tmp_path: Path) -> Iterator[Run]:
    """Start the development server on the host."""
    with contextlib.ExitStack() as servers:

        def run() -> HostServer:
            server = DevelopmentServer(tmp_path / "host.log", {**environment(database_url), **members})
            servers.callback(server.close)
            server.wait()
            return server

        yield run


only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


# The end.


@pytest.mark.slow
@only_sqlite
@pytest.mark.parametrize(("kind", "stops"), [("gevent", 20), ("gthread", 5)])
def test_every_idle_worker_that_is_told_to_stop_says_bye(
    serve_host: Serve, engine: sa.Engine, no_hooks: str, kind: str, stops: int
) -> None:
    insert(engine, "a")
    server = serve_host("-c", no_hooks, *WORKERS[kind])

    for number in range(stops):
        stream = wait_until(lambda: reopen(server))
        (worker,) = server.workers()
        os.kill(worker, signal.SIGTERM)

        assert said(stream) == ["shutdown"], f"stop {number}"


def reopen(server: HostServer) -> Any:
    """A stream of the task that has had its first frame; None while the server's worker changes."""
    with contextlib.suppress(OSError, StopIteration):
        stream = server.stream("/api/tasks/a/events")
        return stream if stream.next().name == "message" else None  # a worker that is about to go says bye
    return None


def said(stream: Any) -> list[str]:
    """What the rest of a stream gives as reasons for its end."""
    return [event.json["reason"] for event in stream.rest()]


@only_sqlite
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_whatever_ends_a_worker_streams_end_with_bye_though_every_hook_is_the_hosts(
    serve_host: Serve, engine: sa.Engine, own_hooks: str, kind: str, number: int
) -> None:
    insert(engine, "a")
    server = serve_host("-c", own_hooks, *WORKERS[kind])
    stream = reopen(server)
    started = time.monotonic()

    server.process.send_signal(number)

    assert said(stream) == ["shutdown"]
    assert time.monotonic() - started < 5


@only_sqlite
@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_a_worker_that_has_had_its_requests_says_bye(
    serve_host: Serve, engine: sa.Engine, own_hooks: str, kind: str
) -> None:
    insert(engine, "a")
    server = serve_host("-c", own_hooks, *WORKERS[kind], "--max-requests", "20")
    stream = reopen(server)

    for _ in range(20):
        with contextlib.suppress(OSError):
            server.get("/")

    assert said(stream) == ["shutdown"]


@only_sqlite
def test_the_development_server_says_bye_at_ctrl_c(run_host: Run, engine: sa.Engine) -> None:
    insert(engine, "a")
    server = run_host()
    stream = reopen(server)

    server.process.send_signal(signal.SIGINT)

    assert said(stream) == ["shutdown"]


@only_sqlite
def test_under_a_gunicorn_that_was_not_tried_streams_come_from_generators_and_the_log_says_so_once(
    serve_host: Serve, engine: sa.Engine, no_hooks: str
) -> None:
    with Path(no_hooks).open("a") as configuration:
        configuration.write("import gunicorn\ngunicorn.version_info = (99, 0, 0)\n")
    server = serve_host("-c", no_hooks, "-k", "gevent")
    insert(engine, "a", status="running")
    first, second = reopen(server), reopen(server)

    update(engine, "a", status="completed")

    assert [event.name for event in [*first.rest(), *second.rest()]] == ["message", "done"] * 2
    assert server.log.read_text().count("how gunicorn 99 ends a request is not known") == 1


@only_sqlite
@pytest.mark.parametrize("kind", ["gthread", "development"])
def test_the_headers_of_a_stream_that_has_nothing_to_say_leave_at_once(
    serve_host: Serve, run_host: Run, engine: sa.Engine, kind: str
) -> None:
    server = run_host() if kind == "development" else serve_host(*WORKERS[kind])

    assert time_of(lambda: server.stream("/api/tasks/users/me/events")) < 1


# What runs beside requests.


@pytest.mark.parametrize("kind", ["gevent", "gthread", "sync"])
def test_behind_wrappers_and_with_the_hosts_hooks_a_dead_workers_task_times_out(
    serve_host: Serve, engine: sa.Engine, own_hooks: str, kind: str
) -> None:
    insert(engine, "a", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")

    serve_host("-c", own_hooks, *WORKERS[kind])  # which asks for a page of the host's

    wait_until(lambda: row(engine, "a")["status"] == "timeout")


@only_postgresql
def test_a_host_that_is_preloaded_under_gevent_is_served_and_told(
    serve_host: Serve, engine: sa.Engine, no_hooks: str
) -> None:
    insert(engine, "a", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")

    server = serve_host("-c", no_hooks, "-k", "gevent", "--preload", wait=False)
    wait_until(lambda: "Booting worker" in server.log.read_text())

    assert server.get("/").status == 200
    assert "psycopg was imported before gevent" in server.log.read_text()
    wait_until(lambda: row(engine, "a")["status"] == "timeout")


def test_under_the_development_server_a_dead_workers_task_times_out(run_host: Run, engine: sa.Engine) -> None:
    insert(engine, "a", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")

    run_host()

    wait_until(lambda: row(engine, "a")["status"] == "timeout")


@only_sqlite
@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_an_error_tracker_around_the_host_captures_nothing_of_streams(
    serve_host: Serve, engine: sa.Engine, own_hooks: str, kind: str
) -> None:
    insert(engine, "a", status="running")
    server = serve_host("-c", own_hooks, *WORKERS[kind])
    stream = reopen(server)

    update(engine, "a", status="completed")

    assert [event.name for event in stream.rest()] == ["message", "done"]
    server.stop()
    log = server.log.read_text()
    assert "captured" not in log
    assert "rror" not in log


# The host's connections.


@only_postgresql
@pytest.mark.parametrize("arguments", [("-k", "gevent"), ("-k", "gthread", "--threads", "80")])
def test_twenty_long_polls_hold_no_connection_of_the_hosts(
    serve_host: Serve, engine: sa.Engine, arguments: tuple[str, ...]
) -> None:
    server = serve_host(*arguments)
    for user in range(1, 5):
        insert(engine, f"of_{user}", user)
    with ThreadPoolExecutor(20) as pool:
        polls = [pool.submit(long_poll, server, user) for user in range(1, 5) for _ in range(5)]
        wait_until(
            lambda: all(long_poll(server, user, 0).headers["Preference-Applied"] is None for user in range(1, 5))
        )

        idle = idle_in_transaction(engine)
        seconds = time_of(lambda: server.get("/", X_User="9"))
        for user in range(1, 5):
            update(engine, f"of_{user}", progress=50)
        answers = [poll.result() for poll in polls]

    assert (idle, len(answers)) == (0, 20)
    assert seconds < 0.5
    assert {(answer.status, answer.json["progress"]) for answer in answers} == {(200, 50.0)}


def long_poll(server: HostServer, user: int, seconds: int = 30) -> Answer:
    """Wait for news; of more than five at a time of one user, the answer comes at once and says so."""
    path = f"/api/tasks/of_{user}/status"
    tag = server.get(path, X_User=str(user)).headers["ETag"]
    return server.get(path, X_User=str(user), If_None_Match=tag, Prefer=f"wait={seconds}")


def test_after_a_long_poll_the_hosts_rule_still_knows_its_user(serve_host: Serve, engine: sa.Engine) -> None:
    server = serve_host()
    insert(engine, "of_1", 1)
    tag = server.get("/api/tasks/of_1/status", X_User="20").headers["ETag"]

    answer = server.get("/api/tasks/of_1/status", X_User="20", If_None_Match=tag, Prefer="wait=1")

    assert (answer.status, answer.headers["Preference-Applied"]) == (304, "wait=1")


@only_postgresql
@pytest.mark.parametrize("arguments", [("-k", "gevent"), ("-k", "gthread", "--threads", "80")])
def test_twenty_streams_hold_no_connection_of_the_hosts(
    serve_host: Serve, engine: sa.Engine, arguments: tuple[str, ...]
) -> None:
    server = serve_host(*arguments)
    insert(engine, "a")
    for _ in range(10):
        server.stream("/api/tasks/a/events").next()
        server.stream("/api/tasks/users/me/events").next()

    assert idle_in_transaction(engine) == 0
    assert time_of(lambda: server.get("/", X_User="9")) < 0.5


def idle_in_transaction(engine: sa.Engine) -> int:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in %'"
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(statement)))


def time_of(call: Callable[[], Any]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


# Bars on servers that have few threads.


class Bar(threading.Thread):
    """A client of one task that does as the element does: it streams, and where there is no place it polls."""

    def __init__(self, server: HostServer, task_id: str, user: int) -> None:
        super().__init__(daemon=True)
        self.shown: dict[str, Any] = {}
        self.ways: set[str] = set()
        self._server, self._path, self._headers = server, f"/api/tasks/{task_id}", {"X-User": str(user)}
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the test is over
            while self.shown.get("status") != "completed":
                if self._stream() == "busy":
                    self._poll(until=time.monotonic() + 60)

    def _stream(self) -> str:
        with contextlib.closing(EventStream(self._server.port, f"{self._path}/events", self._headers)) as stream:
            for event in stream:
                if event.name == "message":
                    self.shown = event.json
                    self.ways.add("stream")
                elif event.name == "bye":
                    return str(event.json["reason"])
        return "done"

    def _poll(self, until: float) -> None:
        tag = ""
        while time.monotonic() < until and self.shown.get("status") != "completed":
            answer = self._server.get(f"{self._path}/status", X_User=self._headers["X-User"], If_None_Match=tag)
            if answer.status == 200:
                self.shown, tag = answer.json, answer.headers["ETag"]
            self.ways.add("poll")
            time.sleep(float(answer.headers["Retry-After"] or 0))


def all_have_reached(bars: list[Bar], progress: float) -> bool:
    return all(bar.shown.get("progress") == progress for bar in bars)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "streams"), [("gthread", 2), ("sync", 0), ("gevent", 50), ("development", 50)])
def test_beside_fifty_bars_the_hosts_views_answer_and_every_bar_moves(
    serve_host: Serve, run_host: Run, engine: sa.Engine, kind: str, streams: int
) -> None:
    server = run_host() if kind == "development" else serve_host(*WORKERS[kind])
    users = {f"task_{number}": number % 20 + 1 for number in range(50)}
    for task_id, user in users.items():
        insert(engine, task_id, user, status="running")
    bars: list[Bar] = []
    for task_id, user in users.items():  # one after the other, as people come
        bars.append(Bar(server, task_id, user))
        wait_until(lambda: bars[-1].shown)

    times = []
    for progress in (20.0, 40.0, 60.0):
        for task_id in users:
            update(engine, task_id, progress=progress)
            times.append(time_of(lambda: server.get("/", X_User="9")))
        wait_until(partial(all_have_reached, bars, progress))
    for task_id in users:
        update(engine, task_id, status="completed")
    for bar in bars:
        bar.join(10)

    assert {bar.shown["status"] for bar in bars} == {"completed"}
    assert sum(bar.ways == {"stream"} for bar in bars) >= streams
    assert sorted(times)[len(times) * 9 // 10] < 0.5  # the rest: a machine of two cores has pauses of its own


@only_sqlite
def test_a_client_that_leaves_gives_its_thread_back_within_seconds(serve_host: Serve, engine: sa.Engine) -> None:
    insert(engine, "a")
    server = serve_host(*WORKERS["gthread"])
    streams = [reopen(server), reopen(server)]
    assert reopen(server) is None  # a quarter of eight

    for stream in streams:
        stream.close()

    wait_until(lambda: reopen(server), 5)


@pytest.mark.slow
@only_sqlite
@pytest.mark.parametrize("kind", ["gthread", "development"])
def test_fifty_bars_of_a_page_move_on_few_threads(
    browser: Any, serve_host: Serve, run_host: Run, engine: sa.Engine, kind: str
) -> None:
    names = [f"task_{number}" for number in range(50)]
    for name in names:
        insert(engine, name, status="running", progress=5)
    server = run_host() if kind == "development" else serve_host(*WORKERS[kind])
    page = browser.new_context(locale="en-GB").new_page()

    page.goto(f"http://127.0.0.1:{server.port}/bars?user=1&tasks={','.join(names)}")
    page.wait_for_function(f"{ALL_SHOW}(5)")
    for name in names:
        update(engine, name, progress=60)
    page.wait_for_function(f"{ALL_SHOW}(60)")
    seconds = time_of(lambda: server.get("/", X_User="9"))
    page.context.close()

    assert seconds < 0.5


# Whether fifty bars show so many per cent.
ALL_SHOW = """(percent => {
    const bars = [...document.querySelectorAll("task-progress")];
    return bars.length === 50 && bars.every(({ task }) => task?.progress === percent);
})"""
