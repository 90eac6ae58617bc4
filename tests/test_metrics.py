"""What operators see: `/metrics`, and one log line for each thing that matters."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness import EventStream, Server, insert, update, wait_until

Start = Callable[..., Server]

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def metric(server: Server, name: str) -> float:
    """A metric's value, by its name with labels as Prometheus prints it."""
    answer = server.get("/metrics")
    assert answer.status == 200
    text = answer.body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_streams_are_counted_over_all_workers_from_opening_to_end(start_server: Start, engine: sa.Engine) -> None:
    server = start_server("--workers", "2", MAX_STREAMS_PER_USER=30)
    wait_until(lambda: len(server.workers()) == 2)
    insert(engine, "a", status="running")
    streams = [server.stream("/api/tasks/a/events") for _ in range(10)]
    for stream in streams:
        stream.next()
    wait_until(lambda: metric(server, "taskapi_streams_open") == 10)

    streams[0].close()
    wait_until(lambda: metric(server, "taskapi_streams_open") == 9)
    update(engine, "a", status="completed")
    for stream in streams[1:]:
        stream.rest()

    wait_until(lambda: metric(server, "taskapi_streams_open") == 0)
    wait_until(lambda: metric(server, 'taskapi_streams_ended_total{reason="client"}') == 1)
    wait_until(lambda: metric(server, 'taskapi_streams_ended_total{reason="done"}') == 9)
    wait_until(lambda: metric(server, "taskapi_frames_sent_total") >= 19)
    wait_until(lambda: metric(server, "taskapi_feed_connected") == 1)
    assert metric(server, "taskapi_streams_opened_total") == 10
    assert metric(server, 'taskapi_feed_lag_seconds_bucket{le="10.0"}') >= 1


def test_polls_are_counted_by_answer_and_those_that_wait_are_seen(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    before = {status: metric(server, f'taskapi_polls_total{{status="{status}"}}') for status in (200, 304)}

    tag = server.get("/api/tasks/a/status", 1).headers["ETag"]
    held = threading.Thread(
        target=server.get, args=("/api/tasks/a/status", 1), kwargs={"If_None_Match": tag, "Prefer": "wait=2"}
    )
    held.start()

    wait_until(lambda: metric(server, "taskapi_polls_held") == 1)
    held.join()
    assert metric(server, "taskapi_polls_held") == 0
    after = {status: metric(server, f'taskapi_polls_total{{status="{status}"}}') for status in (200, 304)}
    assert after == {200: before[200] + 1, 304: before[304] + 1}


def test_refused_streams_are_counted_by_reason(start_server: Start, engine: sa.Engine) -> None:
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


# The folder where the counts of several processes meet.


def open_streams(server: Server, count: int) -> list[EventStream]:
    """Streams of the task "a", each of which has been sent one frame."""
    streams = [server.stream("/api/tasks/a/events") for _ in range(count)]
    for stream in streams:
        stream.next()
    return streams


def kill_workers(server: Server) -> None:
    """Kill all workers, and wait until as many others are at work."""
    killed = server.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(server.workers()) - set(killed)) == len(killed))
    wait_until(lambda: server.answers("/readyz"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an operator wants the counts; not there yet."""
    return tmp_path / "run" / "counts"


@pytest.fixture
def variables(folder: Path) -> dict[str, str]:
    return {"PROMETHEUS_MULTIPROC_DIR": str(folder)}


@pytest.fixture
def others(folder: Path, variables: dict[str, str]) -> Callable[[], bool]:
    """Another service's count in the same folder; whether it is as it was."""
    folder.mkdir(parents=True)
    program = "from prometheus_client import Counter, Gauge; Counter('jobs', 'x').inc(7); Gauge('idle', 'x').set(3)"
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **variables}, check=True)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 2
    return lambda: {path: path.read_bytes() for path in before if path.exists()} == before


@only_sqlite
def test_a_folder_that_is_missing_is_made_and_counts_go_on_after_a_restart(
    start_server: Start, engine: sa.Engine, variables: dict[str, str]
) -> None:
    insert(engine, "a")
    first = start_server(variables=variables)
    open_streams(first, 3)

    first.stop()
    second = start_server(variables=variables)
    open_streams(second, 2)

    assert metric(second, "taskapi_frames_sent_total") == 5
    assert metric(second, "taskapi_streams_open") == 2


@only_sqlite
def test_other_services_counts_outlive_restarts_kills_and_the_end(
    start_server: Start, engine: sa.Engine, others: Callable[[], bool], variables: dict[str, str]
) -> None:
    server = start_server(variables=variables)
    kill_workers(server)

    shown = metric(server, "jobs_total")
    server.stop()

    assert shown == 7
    assert others()


@only_sqlite
def test_a_new_master_that_is_rolled_back_takes_nothing_from_the_old_one(
    start_server: Start, engine: sa.Engine, tmp_path: Path, variables: dict[str, str]
) -> None:
    insert(engine, "a")
    server = start_server("--pid", str(tmp_path / "pid"), variables=variables)
    open_streams(server, 3)

    server.process.send_signal(signal.SIGUSR2)
    new = wait_until(lambda: read_pid(tmp_path / "pid.2"))
    wait_until(lambda: server.log.read_text().count("the change feed is connected") == 2)
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: new not in server.workers())
    open_streams(server, 2)

    assert metric(server, "taskapi_frames_sent_total") == 5
    assert metric(server, "taskapi_streams_open") == 5


@only_sqlite
def test_a_folder_of_the_servers_own_is_removed_with_it_and_not_with_another_one(
    start_server: Start, engine: sa.Engine, tmp_path: Path
) -> None:
    insert(engine, "a")
    variables = {"PROMETHEUS_MULTIPROC_DIR": "", "TMPDIR": str(tmp_path)}
    server = start_server("--pid", str(tmp_path / "pid"), variables=variables)

    server.process.send_signal(signal.SIGUSR2)
    new = wait_until(lambda: read_pid(tmp_path / "pid.2"))
    wait_until(lambda: server.log.read_text().count("the change feed is connected") == 2)
    both = list(tmp_path.glob("taskapi-metrics-*"))
    server.stop()
    open_streams(server, 2)
    sent = metric(server, "taskapi_frames_sent_total")
    os.kill(new, signal.SIGTERM)

    assert (len(both), sent) == (2, 2)
    wait_until(lambda: not list(tmp_path.glob("taskapi-metrics-*")))


@only_sqlite
def test_the_folder_of_a_killed_server_goes_with_the_next_start_and_no_other(
    start_server: Start, engine: sa.Engine, tmp_path: Path
) -> None:
    variables = {"PROMETHEUS_MULTIPROC_DIR": "", "TMPDIR": str(tmp_path)}
    killed, living = start_server(variables=variables), start_server(variables=variables)
    (tmp_path / "taskapi-metrics-of-somebody").mkdir()
    folders = set(tmp_path.glob("taskapi-metrics-*"))

    killed.close()
    start_server(variables=variables)

    left = set(tmp_path.glob("taskapi-metrics-*"))
    assert len(folders & left) == 2
    assert len(folders - left) == 1
    assert metric(living, "taskapi_feed_connected") == 1


def read_pid(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


@only_sqlite
def test_counts_of_the_dead_are_kept_in_one_file_and_no_sum_ever_steps_back(
    start_server: Start, engine: sa.Engine, folder: Path, variables: dict[str, str]
) -> None:
    insert(engine, "a")
    server = start_server("--workers", "4", variables=variables)
    wait_until(lambda: len(server.workers()) == 4)
    seen, stopped = [0.0], threading.Event()

    def look() -> None:
        while not stopped.wait(0.01):
            with contextlib.suppress(OSError, HTTPException):  # its worker was killed
                seen.append(metric(server, "taskapi_frames_sent_total"))

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(5):
        open_streams(server, 20)
        kill_workers(server)
    open_streams(server, 1)
    stopped.set()
    looking.join()

    assert metric(server, "taskapi_frames_sent_total") == 101
    assert metric(server, "taskapi_streams_open") == 1
    assert seen == sorted(seen)
    assert len(list(folder.glob("counter_*.db"))) <= 5
    assert len(list(folder.iterdir())) < 30


@only_sqlite
def test_a_file_that_has_only_just_been_made_is_no_error(
    start_server: Start, engine: sa.Engine, folder: Path, variables: dict[str, str]
) -> None:
    insert(engine, "a")
    server = start_server(variables=variables)
    open_streams(server, 2)

    (folder / "counter_1.db").touch()

    assert metric(server, "taskapi_frames_sent_total") == 2


@only_sqlite
def test_what_a_killed_master_left_is_not_counted_as_alive(
    start_server: Start, engine: sa.Engine, variables: dict[str, str]
) -> None:
    insert(engine, "a")
    first = start_server(variables=variables)
    open_streams(first, 3)

    first.close()
    second = start_server(variables=variables)

    assert metric(second, "taskapi_streams_open") == 0
    assert metric(second, "taskapi_frames_sent_total") == 3
