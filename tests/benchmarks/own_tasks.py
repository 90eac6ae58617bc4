"""Many tasks, one viewer each: the CPU that one delivered frame costs the server."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from . import fanout, programs
from .programs import Missing, Program, Streams
from .table import Row, ratio
from .workers import EVERY_SECONDS, PROCESSES, TASKS_EACH, working

TASKS = 1000
RATES = (1000, 4000)
# So many changes a second are asked of the writers where as much is to be delivered as can be.
MOST = 11_000
SECONDS = 5.0
# The clients of PostgreSQL among which the changes are shared out; and how many of them one commit has where the server
# is to be kept busy, as a worker's that runs many tasks: alone, PostgreSQL takes half as many here.
WRITERS = 4
TOGETHER = 10
# Of t1: there is a task before it.
FIRST_ID = 2


class Side(NamedTuple):
    """A running server, the paths of its streams, and what goes on publishing while it is open.

    Streams count as open with their first frame; some send it only when somebody publishes.
    """

    program: Program
    paths: str
    publishing: Callable[[int], contextlib.AbstractContextManager[None]]
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    first_frame_is_published: bool = False


class Delivered(NamedTuple):
    """Microseconds of the server's CPU for each frame, frames a second, their age in seconds, the share of the core."""

    microseconds: float
    per_second: float
    p50: float
    p99: float
    core: float


def measure(side: contextlib.AbstractContextManager[Side], rate: int) -> Delivered:
    """Open a stream for each task, and change them in turn, so many a second."""
    with side as running:
        with running.publishing(RATES[0]) if running.first_frame_is_published else contextlib.nullcontext():
            streams = Streams(running.program.port, TASKS, running.paths, running.headers)
        with contextlib.closing(streams), running.publishing(rate):
            streams.measure(1.0)  # until all are at it
            before = running.program.cpu()
            found = streams.measure(SECONDS)
            seconds = running.program.cpu() - before
            microseconds = 1e6 * seconds / max(1, found.frames)
            return Delivered(microseconds, found.frames / SECONDS, found.p50, found.p99, seconds / SECONDS)


@contextlib.contextmanager
def in_turn(publish: Callable[[int], None], rate: int) -> Iterator[None]:
    """Publish of task after task in a thread, so many times a second, for as long as this is open."""
    over = threading.Event()

    def run() -> None:
        numbers, began, done = itertools.cycle(range(1, TASKS + 1)), time.monotonic(), 0
        while not over.is_set():
            due = int((time.monotonic() - began) * rate)
            for _ in range(done, due):
                publish(next(numbers))
            done = due
            time.sleep(0.001)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def paths(pattern: str) -> str:
    """The path of each task's stream."""
    return ",".join(pattern.format(number) for number in range(1, TASKS + 1))


@contextlib.contextmanager
def ours(kind: str, writing: Callable[[str, int], contextlib.AbstractContextManager[None]]) -> Iterator[Side]:
    """Our server, on a database with so many tasks."""
    with programs.task_database(kind) as url:
        engine = programs.open_engine(url)
        programs.insert_tasks(engine, TASKS)
        engine.dispose()
        with contextlib.closing(programs.taskapi(url)) as program:
            streams = paths("/api/tasks/t{}/events")
            yield Side(program, streams, lambda rate: writing(url, rate), programs.BEARER)


@contextlib.contextmanager
def sqlite_writer(url: str, rate: int) -> Iterator[None]:
    """One commit for each change."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    update = "UPDATE user_tasks SET stage = ? WHERE task_id = ?"

    def publish(number: int) -> None:
        connection.execute(update, (fanout.stamp(), f"t{number}"))

    with contextlib.closing(connection), in_turn(publish, rate):
        yield


@contextlib.contextmanager
def postgresql_writer(url: str, rate: int, together: int = 1) -> Iterator[None]:
    """One commit for so many changes, by pgbench, which keeps to the rate. Raises `Missing`."""
    program = shutil.which("pgbench")
    if program is None:
        raise Missing("no pgbench")
    script = programs.folder() / "in_turn.sql"
    each = TASKS // WRITERS
    script.write_text(
        f"\\set turn (:turn + 1) % {each // together}\n"
        f"\\set first :client_id * {each} + :turn * {together} + {FIRST_ID}\n"
        "UPDATE user_tasks SET stage = 'at=' || (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint - :began"
        f" || ' ' WHERE id BETWEEN :first AND :first + {together - 1};\n"
    )
    began = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    command = [program, "-n", "-M", "prepared", "-c", WRITERS, "-R", rate / together, "-T", 3600, "-f", script]
    command += ["-D", "turn=0", "-D", f"began={began}", url]
    process = subprocess.Popen(
        list(map(str, command)), env={**os.environ, "PGOPTIONS": "-c synchronous_commit=off"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def nchan() -> Iterator[Side]:
    """nginx with nchan, a channel for each task; its CPU includes the requests that publish."""
    with fanout.nchan_program() as program, socket.create_connection(("127.0.0.1", program.port)) as connection:

        def publish(number: int) -> None:
            body = (fanout.stamp() + fanout.PADDING).encode()
            head = f"POST /publish/t{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.recv(65_536)

        yield Side(program, paths("/stream/t{}"), lambda rate: in_turn(publish, rate), first_frame_is_published=True)


# Who writes on which database.
SIDES: dict[str, Callable[[], Any]] = {
    "SQLite": lambda: ours("sqlite", sqlite_writer),
    "PostgreSQL": lambda: ours("postgresql", postgresql_writer),
}
BY_THE_HELPER: dict[str, Callable[[], Any]] = {
    "SQLite": lambda: ours("sqlite", lambda url, _rate: working(url)),
    "PostgreSQL": lambda: ours("postgresql", lambda url, _rate: working(url)),
}


def own_tasks(number: int) -> Iterator[Row]:
    """Microseconds of CPU for each frame, beside nginx with nchan; and how many a second one core sustains."""
    for rate in RATES:
        yield from _beside_nchan(number, rate, SIDES, f"{rate} changes/s")
    yield _sustained(number)


def own_tasks_by_helper(number: int) -> Iterator[Row]:
    """The same, written by worker processes: each writes all its tasks in one transaction."""
    rate = round(PROCESSES * TASKS_EACH / EVERY_SECONDS)
    writers = f"{PROCESSES} workers of {TASKS_EACH} tasks, {rate} changes/s"
    yield from _beside_nchan(number, rate, BY_THE_HELPER, writers)


def _beside_nchan(number: int, rate: int, sides: dict[str, Callable[[], Any]], writers: str) -> Iterator[Row]:
    seen: dict[str, list[Delivered]] = {name: [] for name in sides}
    contestants = {name: partial(_measured, seen[name], side, rate) for name, side in sides.items()}
    found = programs.rounds(number, {**contestants, "nchan": partial(_measured, [], nchan, rate)})
    for name in sides:
        what = f"CPU for a frame, {TASKS} tasks with a stream each, {writers}, {name}"
        yield Row(what, "nginx + nchan", ratio(found[name], found["nchan"], " µs") + _details(seen[name]), "0.6 ×")


def _measured(seen: list[Delivered], side: Callable[[], Any], rate: int) -> float:
    seen.append(measure(side(), rate))
    return seen[-1].microseconds


def _sustained(number: int) -> Row:
    """What comes through where more is written than is asked for."""
    seen: list[Delivered] = []
    side = partial(ours, "postgresql", partial(postgresql_writer, together=TOGETHER))
    found = programs.rounds(number, {"PostgreSQL": partial(_measured, seen, side, MOST)})["PostgreSQL"]
    value = f"left out: {found}" if isinstance(found, Missing) else _details(seen).removeprefix("; ")
    return Row(
        f"sustained on one core, {TASKS} tasks with a stream each, {MOST} changes/s, {TOGETHER} a commit, PostgreSQL",
        "–",
        value,
        "10 000 frames/s, p99 under 100 ms",
    )


def _details(seen: list[Delivered]) -> str:
    if not seen:
        return ""
    middle = sorted(seen)[len(seen) // 2]
    times = f"p50 {1000 * middle.p50:.1f} ms, p99 {1000 * middle.p99:.1f} ms"
    return f"; {middle.per_second:.0f} frames/s, {times}, {100 * middle.core:.0f} % of the core"
