"""A hundred thousand streams over several worker processes, and the final state of each one's task."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator

import sqlalchemy as sa

from . import programs
from .programs import Missing, Streams
from .table import Row

STREAMS = 100_000
A_PROCESS = 18_000
TASKS = 100
QUIET_SECONDS = 20.0


def scale(_number: int) -> Iterator[Row]:
    """As many as the descriptor limit lets us, up to a hundred thousand."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    a_process = min(A_PROCESS, limit - 2_000)
    workers = -(-STREAMS // a_process) + 1
    what = f"{STREAMS} streams over {workers} processes"
    with programs.task_database("postgresql") as url:
        engine = programs.open_engine(url)
        programs.insert_tasks(engine, TASKS)
        server = programs.taskapi(url, "--workers", str(workers))
        for pid in server.pids():  # every core works here
            os.sched_setaffinity(pid, range(os.cpu_count() or 1))
        paths = ",".join(f"/api/tasks/t{number}/events" for number in range(1, TASKS + 1))
        clients: list[Streams] = []
        try:
            before = server.memory()
            share = STREAMS // (-(-STREAMS // a_process))
            while sum(1 for _ in clients) * share < STREAMS:
                clients.append(Streams(server.port, share, paths, {"Authorization": f"Bearer {programs.TOKEN}"}))
            memory = (server.memory() - before) / (share * len(clients))
            cpu = server.cpu()
            time.sleep(QUIET_SECONDS)
            idle = 100 * (server.cpu() - cpu) / QUIET_SECONDS
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE user_tasks SET status = 'completed' WHERE task_id LIKE 't%'"))
            started = time.monotonic()
            ended = sum(client.closed_after(30) for client in clients)
            seconds = time.monotonic() - started
            value = f"{ended} ended within {seconds:.0f} s; {memory:.2f} kB each; {idle:.1f} % of a core while idle"
            yield Row(what, "–", value, "each gets its task's final state")
        except Missing as reason:
            yield Row(what, "–", f"left out: {reason}", "each gets its task's final state")
        finally:
            for client in clients:
                client.close()
            with contextlib.suppress(OSError):
                server.close()
            engine.dispose()
