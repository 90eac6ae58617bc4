"""A worker process, a server process and a client of its streams: the promises seen from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, Server, environment, insert, pipe, row, wait_until
from sqlalchemy.engine import make_url

Start = Callable[..., Server]
Work = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def work(database_url: str) -> Iterator[Work]:
    """Run a piece of Python in a worker process of its own; `progress` is there."""
    workers: list[subprocess.Popen[str]] = []

    def start(code: str, *before: str, **settings: Any) -> subprocess.Popen[str]:
        script = "from taskapi.progress import Progress, TaskClosed\nprogress = Progress()\n" + textwrap.dedent(code)
        workers.append(
            subprocess.Popen(
                [*before, sys.executable, "-c", script],
                cwd=ROOT,
                env=environment(database_url, **settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()
        pipe(worker.stdin).close()
        pipe(worker.stdout).close()


def type_sql(database_url: str, statement: str) -> None:
    """What a person does with the database's own shell."""
    url = make_url(database_url)
    if url.drivername == "sqlite":
        command = ["sqlite3", str(url.database), statement]
    else:
        command = ["psql", "-q", "-c", statement, database_url]
    subprocess.run(command, check=True)


def test_a_task_lives_from_pending_to_completed_in_front_of_an_open_stream(
    server: Server, engine: sa.Engine, work: Work
) -> None:
    worker = work(
        """
        import hashlib
        task_id = progress.create(user_id=1, kind="hashes", total_items=300)
        print(task_id, flush=True)
        input()
        with progress.run(task_id) as task:
            task.stage("generating_cards")
            for number in task.track(range(300)):
                hashlib.pbkdf2_hmac("sha256", b"key", b"salt", 10_000)
            task.result("300 cards created")
        """
    )
    task_id = pipe(worker.stdout).readline().strip()
    stream = server.stream(f"/api/tasks/{task_id}/events")
    events = [stream.next()]

    pipe(worker.stdin).write("\n")
    pipe(worker.stdin).close()
    events += stream.rest()

    *snapshots, done = events
    statuses = [event.json["status"] for event in snapshots]
    assert list(dict.fromkeys(statuses)) == ["pending", "starting", "running", "completed"]
    shown = [event.json["progress"] for event in snapshots]
    assert shown == sorted(shown)
    assert len(set(shown)) > 3
    final = snapshots[-1].json
    assert (final["progress"], final["completed_items"], final["stage"]) == (100, 300, "finished")
    assert final["result_message"] == "300 cards created"
    assert (done.name, done.json) == ("done", {"status": "completed"})
    assert server.stream(f"/api/tasks/{task_id}/events", Last_Event_ID=snapshots[-1].id).status == 204


def test_a_failure_is_shown_with_its_traceback(server: Server, engine: sa.Engine, work: Work) -> None:
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")

    worker = work("with progress.run('a') as task:\n    {}['no such card']")
    *_, final, done = stream.rest()

    assert done.json == {"status": "failed"}
    assert "KeyError: 'no such card'" in final.json["error_details"]
    assert worker.wait(10) == 1


def test_an_update_typed_into_the_databases_shell_moves_the_bar(
    server: Server, engine: sa.Engine, database_url: str
) -> None:
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")
    stream.next()

    type_sql(database_url, "BEGIN; UPDATE user_tasks SET progress = 13 WHERE task_id = 'a'; ROLLBACK")
    type_sql(database_url, "UPDATE user_tasks SET progress = 40 WHERE task_id = 'a'")

    assert stream.next().json["progress"] == 40


def test_a_killed_workers_task_becomes_timeout_on_the_open_bar(
    start_server: Start, engine: sa.Engine, work: Work
) -> None:
    server = start_server(LEASE_SECONDS=2)
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")
    worker = work(
        """
        with progress.run("a") as task:
            task.stage("working")
            input()
        """,
        LEASE_SECONDS=2,
    )
    while stream.next().json["status"] != "running":
        pass

    worker.kill()
    *_, final, done = stream.rest()

    assert done.json == {"status": "timeout"}
    assert final.json["result_message"] == "The worker stopped reporting."


def test_a_worker_that_slept_past_its_lease_changes_nothing_and_is_told(
    start_server: Start, engine: sa.Engine, work: Work
) -> None:
    server = start_server(LEASE_SECONDS=1)
    insert(engine, "a")
    stream = server.stream("/api/tasks/a/events")
    worker = work(
        """
        try:
            with progress.run("a") as task:
                task.stage("working")
                while True:
                    task.advance()
        except TaskClosed as closed:
            print(closed.status, flush=True)
        """,
        LEASE_SECONDS=1,
    )
    while stream.next().json["status"] != "running":
        pass

    worker.send_signal(signal.SIGSTOP)
    assert stream.rest()[-1].json == {"status": "timeout"}
    closed = row(engine, "a")
    worker.send_signal(signal.SIGCONT)

    assert worker.communicate(timeout=20)[0].strip() == "timeout"
    assert row(engine, "a") == closed


@pytest.mark.slow
def test_a_lease_is_kept_alive_through_a_long_silence(start_server: Start, engine: sa.Engine, work: Work) -> None:
    server = start_server(LEASE_SECONDS=1)
    insert(engine, "a")
    insert(engine, "abandoned", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")
    worker = work("with progress.run('a'):\n    print(flush=True); input()", LEASE_SECONDS=1)
    pipe(worker.stdout).readline()
    for name in ("abandoned", "abandoned too", "abandoned three"):  # three rounds of the reaper, two seconds apart
        wait_until(lambda: row(engine, name)["status"] == "timeout")  # noqa: B023
        if name != "abandoned three":
            following = {"abandoned": "abandoned too", "abandoned too": "abandoned three"}[name]
            insert(engine, following, status="running", lease_expires_at="2020-01-01 00:00:00+00:00")

    worker.communicate("\n", timeout=20)

    assert row(engine, "a")["status"] == "completed"
    assert server.get("/healthz").status == 200


@pytest.mark.slow
def test_many_writers_at_once_are_all_seen_and_none_is_locked_out(
    server: Server, engine: sa.Engine, work: Work
) -> None:
    for number in range(6):
        insert(engine, f"task{number}")
    streams = [server.stream(f"/api/tasks/task{number}/events") for number in range(6)]
    code = """
        with progress.run("task{}") as task:
            for _ in task.track(range(200)):
                task.update(stage=f"step {{_}}")
                sum(range(20_000))
    """
    workers = [work(code.format(number)) for number in range(6)]

    ends = [stream.rest()[-1].json for stream in streams]

    assert ends == [{"status": "completed"}] * 6
    assert [worker.wait(20) for worker in workers] == [0] * 6
    assert "locked" not in server.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.skipif(not shutil.which("faketime"), reason="faketime is not installed")
def test_a_worker_whose_clock_is_an_hour_off_is_judged_by_the_databases(
    start_server: Start, engine: sa.Engine, work: Work
) -> None:
    start_server(LEASE_SECONDS=2)
    for task_id, offset in (("slow", "-1h"), ("fast", "+1h")):
        insert(engine, task_id)
        insert(engine, f"abandoned beside {task_id}", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")
        code = f"with progress.run('{task_id}'):\n    print(flush=True); input()"
        worker = work(code, "faketime", "-f", offset, LEASE_SECONDS=2)
        pipe(worker.stdout).readline()
        wait_until(lambda: row(engine, f"abandoned beside {task_id}")["status"] == "timeout")  # noqa: B023

        worker.communicate("\n", timeout=20)

        ended = row(engine, task_id)
        assert ended["status"] == "completed"
        assert abs((ended["ended_at"] - ended["created_at"]).total_seconds()) < 60


@pytest.mark.slow
def test_a_hundred_clients_see_the_end_through_every_restart(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("--workers", "2", MAX_STREAMS_PER_USER=200)
    wait_until(lambda: len(server.workers()) == 2)
    insert(engine, "a", status="running")
    seen: list[list[int]] = [[] for _ in range(100)]
    ends: list[str] = []
    stop = threading.Event()

    def follow(number: int) -> None:
        last = "0"
        while True:
            try:
                stream = server.stream("/api/tasks/a/events", Last_Event_ID=last)
                if stream.status == 204:
                    return
                while True:
                    event = stream.next()
                    if event.name == "message":
                        seen[number].append(int(event.id))
                        last = event.id
                    elif event.name == "done":
                        ends.append(event.json["status"])
            except StopIteration:
                continue
            except OSError:
                time.sleep(0.1)  # as a browser's `retry`

    def write() -> None:
        number = 0
        while not stop.wait(0.05):
            number += 1
            with engine.begin() as connection:
                connection.execute(
                    sa.text("UPDATE user_tasks SET progress = :p WHERE task_id = 'a'"), {"p": number % 100}
                )

    clients = [threading.Thread(target=follow, args=(number,)) for number in range(100)]
    writer = threading.Thread(target=write)
    for thread in (*clients, writer):
        thread.start()
    wait_until(lambda: all(seen))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log.read_text().count("Worker exiting") >= 2)
    wait_until(lambda: len(server.workers()) == 2)
    os.kill(server.workers()[0], signal.SIGKILL)
    marks = [len(revisions) for revisions in seen]
    wait_until(lambda: sum(len(s) > mark for s, mark in zip(seen, marks, strict=True)) == 100)

    stop.set()
    writer.join()
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET status = 'completed' WHERE task_id = 'a'"))
    for client in clients:
        client.join(30)

    assert not any(client.is_alive() for client in clients)
    assert ends == ["completed"] * 100
    assert all(revisions == sorted(set(revisions)) for revisions in seen)
    assert {revisions[-1] for revisions in seen} == {row(engine, "a")["revision"]}


def test_no_token_and_no_ticket_is_in_any_log_line(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("--access-logfile", "-", "--log-level", "debug")
    insert(engine, "a")
    ticket = server.request("POST", "/api/tasks/a/events", 1).json["url"]
    secret = ticket.partition("ticket=")[2]
    server.stream(ticket, None).next()
    for path in (ticket, f"/api/tasks/b/events?ticket={secret}", f"{ticket}x", f"/nowhere?ticket={secret}"):
        server.get(path.replace("/a/", "/missing/"))
    server.stop()

    log = server.log.read_text()

    assert "GET /api/tasks/a/events" in log
    assert secret[:20] not in log
    assert "eyJ" not in log
    assert Path(server.log).stat().st_size > 1000
