"""A hundred thousand streams, or more, over several worker processes, and the final state of each one's task."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator

import sqlalchemy as sa

from . import programs
from .programs import Missing, Program, Streams
from .table import Row

STREAMS = 100_000
TASKS = 100
PATHS = ",".join(f"/api/tasks/t{number}/events" for number in range(1, TASKS + 1))
# A process may have so many descriptors here, and needs some for itself.
A_PROCESS = min(18_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 2_000)
QUIET_SECONDS = 20.0
ENDING_SECONDS = 60.0


def scale(streams: int) -> Iterator[Row]:
    """Open them, leave them alone, end their tasks."""
    clients = -(-streams // A_PROCESS)
    workers = clients + 1  # connections are not spread evenly
    try:
        value = _held_and_ended(streams, clients, workers)
    except Missing as reason:
        value = f"left out: {reason}"
    yield Row(f"{streams} streams over {workers} processes", "–", value, "each gets its task's final state")


def _held_and_ended(streams: int, hosts: int, workers: int) -> str:
    with programs.task_database("postgresql") as url, contextlib.ExitStack() as opened:
        engine = programs.open_engine(url)
        opened.callback(engine.dispose)
        programs.insert_tasks(engine, TASKS)
        server = opened.enter_context(contextlib.closing(programs.taskapi(url, "--workers", str(workers))))
        for pid in server.pids():  # every core works here
            os.sched_setaffinity(pid, range(os.cpu_count() or 1))
        empty = _settled_memory(server)
        clients: list[Streams] = []
        for host in range(1, hosts + 1):
            number = streams // hosts + (host <= streams % hosts)
            client = Streams(server.port, number, PATHS, programs.BEARER, host)
            clients.append(opened.enter_context(contextlib.closing(client)))
            programs.tell(f"  {sum(client.number for client in clients)} streams are open")
        kilobytes = (server.memory() - empty) / streams
        percent = server.cpu_percent(QUIET_SECONDS)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE user_tasks SET status = 'completed' WHERE task_id LIKE 't%'"))
        started = time.monotonic()
        ended = sum(client.ended_after(ENDING_SECONDS) for client in clients)
        seconds = time.monotonic() - started
    return f"{ended} ended within {seconds:.0f} s; {kilobytes:.2f} kB each; {percent:.1f} % of a core while idle"


def _settled_memory(server: Program) -> int:
    """The kilobytes of the worker processes when all have started."""
    memory, before = server.memory(), 0
    while memory > 1.01 * before:
        time.sleep(3)
        memory, before = server.memory(), memory
    return memory
