"""Progress commits a second, beside the same without what taskapi adds."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

import sqlalchemy as sa

from taskapi.database.address import Url
from taskapi.database.postgresql import CHANNEL, FOLLOW
from taskapi.database.store import Report, Store
from taskapi.stream.feed import Following
from taskapi.stream.feed.following import EVERYTHING
from taskapi.stream.feed.postgresql import PostgresqlFeed

from . import programs
from .programs import Missing
from .table import Row, ratio

SECONDS = 3.0
TASKS = 2000
# What is followed, by the keys of the locks that say so, and which tasks are written: each writer's own, or any.
OWN, ANY = ":client_id + 1", f"random(1, {TASKS})"
CASES: dict[str, tuple[str, list[int], str]] = {
    "nobody follows": (OWN, [], "0.95 ×"),
    "20 of 2 000 are followed": (ANY, [*range(1, TASKS, TASKS // 20)], "0.95 ×"),
    "all are followed": (OWN, [EVERYTHING], "0.5 ×"),
}
COMING_AND_GOING = 100_000


def writes(number: int) -> Iterator[Row]:
    """SQLite from one process, PostgreSQL from 8 and 32."""
    found = programs.rounds(number, {"ours": _reports, "plain": _plain})
    yield Row(
        "one process that reports, SQLite",
        "plain sqlite3, same table",
        ratio(found["ours"], found["plain"], " commits/s"),
        "0.5 ×",
    )
    try:
        with programs.task_database("postgresql") as url:
            yield from _postgresql(url, number)
    except Missing as reason:
        yield Row("8 and 32 writers, PostgreSQL", "the same without announcing", f"left out: {reason}", "0.95 ×")


def _per_second(write: object) -> float:
    written, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        for _ in range(100):
            write(written)  # type: ignore[operator]
            written += 1
    return written / (time.perf_counter() - started)


def _reports() -> float:
    with programs.task_database("sqlite") as url:
        store = Store(Url.of(url))
        attempt = store.claim("hot", 60)
        assert attempt is not None
        found = _per_second(lambda number: store.report([Report(*attempt.key, progress=number % 100)], 60))
        store.close()
        return found


def _plain() -> float:
    """The same table and triggers, one UPDATE by its key a transaction."""
    with programs.task_database("sqlite") as url:
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("PRAGMA synchronous = NORMAL")
        update = "UPDATE user_tasks SET progress = ? WHERE id = 1"
        found = _per_second(lambda number: connection.execute(update, (number % 100,)))
        connection.close()
        return found


def pgbench(url: str, writers: int, task: str = OWN) -> float:
    """Commits a second of so many writers, each of a change of a task. Raises `Missing`."""
    program = shutil.which("pgbench")
    if program is None:
        raise Missing("no pgbench")
    script = programs.folder() / "write.sql"
    update = "UPDATE user_tasks SET progress = random() * 100 WHERE task_id = 't' || :task;"
    script.write_text(f"\\set task {task}\n{update}\n")
    command = [program, "-n", "-M", "prepared", "-c", str(writers), "-j", "2", "-T", str(int(SECONDS) + 1)]
    said = subprocess.run([*command, "-f", script, url], capture_output=True, text=True, check=True).stdout
    return float(said.partition("tps = ")[2].split()[0])


def _postgresql(url: str, number: int) -> Iterator[Row]:
    engine = programs.open_engine(url)
    programs.insert_tasks(engine, TASKS)
    for writers in (8, 32):
        for what, (task, followed, to_reach) in CASES.items():
            found = programs.rounds(
                number,
                {
                    "with": partial(_commits, url, engine, writers, task, followed, "ENABLE"),
                    "without": partial(_commits, url, engine, writers, task, followed, "DISABLE"),
                },
            )
            value = ratio(found["with"], found["without"], " commits/s")
            yield Row(f"{writers} writers, PostgreSQL, {what}", "the same without announcing", value, to_reach)
    yield from _coming_and_going(url, engine)
    engine.dispose()


def _commits(url: str, engine: sa.Engine, writers: int, task: str, followed: list[int], word: str) -> float:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as listener:
        listener.exec_driver_sql(f"ALTER TABLE user_tasks {word} TRIGGER user_tasks_announce")
        listener.exec_driver_sql("VACUUM ANALYZE user_tasks")
        listener.exec_driver_sql(f"LISTEN {CHANNEL}")
        listener.exec_driver_sql(FOLLOW, {"keys": followed})
        found = pgbench(url, writers, task)
        listener.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        listener.exec_driver_sql("UNLISTEN *")
        return found


class Crowd:
    """Who follows tasks, so many at a time, each for a moment."""

    def __init__(self, at_a_time: int) -> None:
        self._open: deque[int] = deque(maxlen=at_a_time)
        self.told = 0

    def come(self, task: int) -> None:
        """One comes, for the first who came to go."""
        self._open.append(task)

    def following(self, most: int) -> Following | None:
        """What is followed now."""
        return None if len(self._open) > most else Following(dict.fromkeys(self._open, 1), ())

    def changed(self, keys: Iterable[tuple[int, int]]) -> None:
        """Count what is to be read."""
        self.told += len(list(keys))

    def gap(self) -> None:
        """Count it, too."""
        self.told += 1


def _coming_and_going(url: str, engine: sa.Engine) -> Iterator[Row]:
    """What it costs to say what is followed: one feed, and streams that each follow a task of their own."""
    logging.getLogger("taskapi.stream.feed").disabled = True  # the feeds' threads outlive their database
    for at_a_time in (20, 1000):
        store = Store(Url.of(url))
        crowd = Crowd(at_a_time)
        feed = PostgresqlFeed(store, crowd)
        threading.Thread(target=feed.run, daemon=True).start()
        while not feed.connected:
            time.sleep(0.01)
        before, cpu, started = _statements(engine), time.process_time(), time.perf_counter()
        for task in range(COMING_AND_GOING):
            crowd.come(task)
            feed.want(True)
            if not task % 10:
                time.sleep(0.001)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        time.sleep(1.5)
        asked = _statements(engine) - before
        value = f"{1e6 * cpu / COMING_AND_GOING:.0f} µs of CPU each, {asked} statements in {seconds:.0f} s"
        yield Row(f"{COMING_AND_GOING} streams come and go, {at_a_time} at a time", "–", value, "–")


def _statements(engine: sa.Engine) -> int:
    """How many transactions there were in the database; PostgreSQL tells after a second."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        asked = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.exec_driver_sql(asked).scalar_one())
