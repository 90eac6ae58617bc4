"""A database that is not as it should be: what operators are told, what clients see, and what is left alone."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from conftest import open_engine, sqlite_file
from harness import ROOT, Server, environment, insert, row, update, wait_until

from taskapi.database.store import Store

Start = Callable[..., Server]

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PASSWORD = "hunter2"
GONE = "/api/tasks/a/status"


def flask(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a database."""
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT, env=environment(url), capture_output=True, text=True, check=False,
    )  # fmt: skip


# Looking without touching.


@only_sqlite
def test_readiness_waits_for_no_writer(server: Server, engine: sa.Engine) -> None:
    with engine.begin():  # the write lock
        started = time.monotonic()
        answer = server.get("/readyz")

    assert answer.status == 200
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("command", ["list --user 1", "watch t", "reap", "prune --days 1"])
def test_a_command_that_finds_no_database_says_so_and_makes_none(tmp_path: Path, command: str) -> None:
    file = tmp_path / "not" / "there" / "x.db"

    looked = flask(f"sqlite:///{file}", "tasks", *command.split())

    assert (looked.returncode, looked.stdout) == (3, "")
    assert looked.stderr == f"Error: There is no database {file}.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("maker", ["server", "helper", "db upgrade"])
def test_server_helper_and_upgrade_make_the_database(tmp_path: Path, maker: str) -> None:
    file = tmp_path / "not" / "there" / "x.db"
    url = f"sqlite:///{file}"

    if maker == "server":
        Server(url, tmp_path / "log").close()
    elif maker == "helper":
        program = "from taskapi.progress import Progress; Progress().create(user_id=1)"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment(url), check=True)
    else:
        assert flask(url, "db", "upgrade").returncode == 0

    assert file.exists()
    assert flask(url, "tasks", "list", "--user", "2").returncode == 0


# A file that is deleted or replaced under the server.


class Embedded(NamedTuple):
    """A server on a file of its own, in which task "a" is at 10 %, and a backup of it, in which "a" is at 70 %."""

    server: Server
    file: Path
    backup: Path

    @property
    def files(self) -> list[Path]:
        """The database's files."""
        return sorted(self.file.parent.glob(f"{self.file.name}*"))

    def progress(self) -> float | int:
        """How far "a" is, or the status of the answer."""
        answer = self.server.get("/api/tasks/a/status", 1)
        return float(answer.json["progress"]) if answer.status == 200 else answer.status


@pytest.fixture
def embedded(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    url, file, backup = sqlite_file(tmp_path), tmp_path / "taskapi.db", tmp_path_factory.mktemp("backup") / "backup.db"
    engine = open_engine(url)
    insert(engine, "a", status="running", progress=70)
    with sqlite3.connect(file) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    update(engine, "a", progress=10)
    server = Server(url, tmp_path / "log", LEASE_SECONDS=1)
    wait_until(lambda: server.get("/api/tasks/a/status", 1).status == 200)
    yield Embedded(server, file, backup)
    server.close()
    engine.dispose()


def remove(embedded: Embedded) -> None:
    for file in embedded.files:
        file.unlink()


def put_back(embedded: Embedded) -> None:
    """Put the backup in its place, whole at once."""
    copy = embedded.backup.with_suffix(".copy")
    shutil.copy(embedded.backup, copy)
    copy.replace(embedded.file)


def content(file: Path) -> dict[str, tuple[str, float]]:
    """Status and progress of every task in a file."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT task_id, status, progress FROM user_tasks")
        return {task_id: (status, progress) for task_id, status, progress in rows}


def test_a_file_that_is_gone_is_a_503_until_it_is_back(embedded: Embedded) -> None:
    stream = embedded.server.stream("/api/tasks/a/events")
    before = stream.next().json["progress"]

    remove(embedded)
    gone, ready = embedded.progress(), embedded.server.get("/readyz").status
    wait_until(lambda: "cannot be closed now" in embedded.server.log.read_text())  # the server's writes, too
    made = embedded.files
    put_back(embedded)

    assert (before, gone, ready, made) == (10, 503, 503, [])
    assert stream.next().json["progress"] == 70
    assert embedded.progress() == 70
    wait_until(lambda: embedded.server.answers("/readyz"))
    assert embedded.server.log.read_text().count(f"There is no database {embedded.file}.") > 0


@pytest.mark.parametrize("is_log_left", [True, False], ids=["beside its log", "without its log"])
def test_a_file_that_is_replaced_is_what_is_served_and_written_from_then_on(
    embedded: Embedded, is_log_left: bool
) -> None:
    stream = embedded.server.stream("/api/tasks/a/events")
    before = stream.next().json["progress"]
    if not is_log_left:
        remove(embedded)

    put_back(embedded)
    served, shown = embedded.progress(), stream.next().json["progress"]
    engine = open_engine(f"sqlite:///{embedded.file}")
    insert(engine, "dead", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")
    wait_until(lambda: row(engine, "dead")["status"] == "timeout")
    engine.dispose()
    embedded.server.stop()

    assert (before, served, shown) == (10, 70, 70)
    assert content(embedded.file) == {"a": ("running", 70), "dead": ("timeout", 0)}
    assert embedded.files == [embedded.file]


def test_a_file_that_is_moved_away_takes_all_that_was_written_with_it(embedded: Embedded, tmp_path: Path) -> None:
    moved = tmp_path / "moved.db"

    embedded.file.rename(moved)
    put_back(embedded)
    served = embedded.progress()

    assert served == 70
    assert content(moved) == {"a": ("running", 10)}


def test_a_link_that_is_led_elsewhere_is_followed(tmp_path: Path) -> None:
    files = []
    for progress in (10, 70):
        (tmp_path / str(progress)).mkdir()
        engine = open_engine(sqlite_file(tmp_path / str(progress)))
        insert(engine, "a", progress=progress)
        engine.dispose()
        files.append(tmp_path / str(progress) / "taskapi.db")
    link = tmp_path / "link.db"
    link.symlink_to(files[0])
    server = Server(f"sqlite:///{link}", tmp_path / "log")
    embedded = Embedded(server, link, link)
    stream = server.stream("/api/tasks/a/events")
    before = stream.next().json["progress"]

    (tmp_path / "new").symlink_to(files[1])
    (tmp_path / "new").replace(link)
    served, shown = embedded.progress(), stream.next().json["progress"]
    server.close()

    assert (before, served, shown) == (10, 70, 70)
    assert content(files[0])["a"] == ("pending", 10)


def test_a_worker_reports_into_the_file_that_is_there(embedded: Embedded) -> None:
    store = Store(open_engine(f"sqlite:///{embedded.file}"))
    store.create({"task_id": "b", "user_id": 1})

    put_back(embedded)
    store.create({"task_id": "c", "user_id": 1})
    store.close()

    assert set(content(embedded.file)) == {"a", "c"}
