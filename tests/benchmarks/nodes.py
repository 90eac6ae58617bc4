"""Several servers on one PostgreSQL: what each costs it when idle, and what they cost writers and bars."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial

import sqlalchemy as sa

from . import programs
from .fanout import Publisher, writing
from .programs import Missing, Program, Streams
from .table import Row, figure, ratio
from .writes import pgbench

MANY = 4
WRITERS = 8
QUIET_SECONDS = 30.0
FOLLOWED = ",".join(f"/api/tasks/t{number}/events" for number in range(1, WRITERS + 1))


def nodes(number: int) -> Iterator[Row]:
    """No server, one, and four, each with a stream of every task that is written to."""
    try:
        yield Row("an idle node's cost for PostgreSQL", "–", _idle(), "stated")
        bars = programs.rounds(number, {str(count): partial(_milliseconds, count) for count in (1, MANY)})
        value = ratio(bars[str(MANY)], bars["1"], " ms")
        yield Row(f"p50 from commit to client, {MANY} nodes", "one node", value, "stated")
        rates = programs.rounds(number, {str(count): partial(_commits, count) for count in (0, 1, MANY)})
        for count in (1, MANY):
            value = ratio(rates[str(count)], rates["0"], " commits/s")
            yield Row(f"{WRITERS} writers, all tasks followed on {count} nodes", "no node", value, "stated")
    except Missing as reason:
        yield Row("several nodes", "–", f"left out: {reason}", "stated")


@contextlib.contextmanager
def _running(count: int) -> Iterator[tuple[str, sa.Engine, list[Program]]]:
    """So many nodes on one database, and a stream of every task on each."""
    with programs.task_database("postgresql") as url, contextlib.ExitStack() as opened:
        engine = programs.open_engine(url)
        opened.callback(engine.dispose)
        programs.insert_tasks(engine, WRITERS)
        servers = [opened.enter_context(contextlib.closing(programs.taskapi(url))) for _ in range(count)]
        yield url, engine, servers


def _follow(server: Program, paths: str, number: int) -> Streams:
    return Streams(server.port, number, paths, programs.BEARER)


def _idle() -> str:
    """Transactions, connections and CPU that one node with a quiet stream costs."""
    with _running(1) as (_, engine, (server,)), contextlib.closing(_follow(server, "/api/tasks/t1/events", 1)):
        time.sleep(5)
        with engine.connect() as connection:
            ours = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            pids = list(connection.scalars(sa.text(f"SELECT pid {ours}")))
        transactions, cpu = _transactions(engine), sum(map(programs.cpu_of, pids))
        time.sleep(QUIET_SECONDS)
        rate = (_transactions(engine) - transactions) / QUIET_SECONDS
        percent = 100 * (sum(map(programs.cpu_of, pids)) - cpu) / QUIET_SECONDS
    return f"{figure(rate)} transactions/s, {len(pids)} connections, {figure(percent)} % of a core"


def _transactions(engine: sa.Engine) -> int:
    count = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(count)) or 0)


def _milliseconds(count: int) -> float:
    """From a commit to a client of the last of so many nodes, all of which follow the task."""
    with _running(count) as (_, engine, servers), contextlib.ExitStack() as opened:
        followed = "/api/tasks/t1/events"
        streams = [opened.enter_context(contextlib.closing(_follow(server, followed, 1))) for server in servers]
        with writing(engine, "t1") as publish, Publisher(publish, 0.1) as publisher:
            return 1000 * (streams[-1].measure(4).p50 - publisher.commit_seconds)


def _commits(count: int) -> float:
    with _running(count) as (url, _, servers), contextlib.ExitStack() as opened:
        for server in servers:
            opened.enter_context(contextlib.closing(_follow(server, FOLLOWED, WRITERS)))
        return pgbench(url, WRITERS)
