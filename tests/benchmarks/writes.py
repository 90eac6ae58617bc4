"""Progress commits a second, beside the same without what taskapi adds."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from functools import partial

import sqlalchemy as sa

from taskapi.database.address import Url
from taskapi.database.store import Report, Store

from . import programs
from .programs import Missing
from .table import Row, ratio

SECONDS = 3.0
ANNOUNCING = ("user_tasks_announce_row", "user_tasks_announce_change", "user_tasks_announce_late")


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
        yield Row(
            "8 and 32 writers, PostgreSQL", "the same without announcing", f"left out: {reason}", "0.8 × and 0.5 ×"
        )


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


def pgbench(url: str, writers: int) -> float:
    """Commits a second of so many writers, each of which updates a task of its own. Raises `Missing`."""
    program = shutil.which("pgbench")
    if program is None:
        raise Missing("no pgbench")
    script = programs.folder() / "write.sql"
    update = "UPDATE user_tasks SET progress = random() * 100 WHERE task_id = 't' || :client_id + 1;"
    script.write_text(update + "\n")
    command = [program, "-n", "-M", "prepared", "-c", str(writers), "-j", "2", "-T", str(int(SECONDS) + 1)]
    said = subprocess.run([*command, "-f", script, url], capture_output=True, text=True, check=True).stdout
    return float(said.partition("tps = ")[2].split()[0])


def _postgresql(url: str, number: int) -> Iterator[Row]:
    engine = programs.open_engine(url)
    programs.insert_tasks(engine, 32)

    def commits(writers: int, word: str) -> float:
        with engine.begin() as connection:
            for trigger in ANNOUNCING:
                connection.execute(sa.text(f"ALTER TABLE user_tasks {word} TRIGGER {trigger}"))
        return pgbench(url, writers)

    for writers, to_reach in ((8, "0.8 ×"), (32, "0.5 ×")):
        found = programs.rounds(
            number,
            {
                "with": partial(commits, writers, "ENABLE"),
                "without": partial(commits, writers, "DISABLE"),
            },
        )
        value = ratio(found["with"], found["without"], " commits/s")
        yield Row(f"{writers} writers, PostgreSQL", "the same without announcing", value, to_reach)
    engine.dispose()
