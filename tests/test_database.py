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
from clusters import MISSING, PROGRAMS, Cluster
from conftest import open_engine, sqlite_file
from harness import ROOT, Server, environment, insert, row, update, wait_until

from taskapi.database import schema
from taskapi.progress import Progress

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
    progress = Progress(f"sqlite:///{embedded.file}")
    progress.create(user_id=1, task_id="b")

    put_back(embedded)
    progress.create(user_id=1, task_id="c")

    assert set(content(embedded.file)) == {"a", "c"}


# What is wrong with a database, for its operator.


@pytest.fixture(scope="module")
def strict() -> Iterator[Cluster]:
    """A PostgreSQL that asks for passwords, with a role that may do nothing and databases of every kind."""
    if PROGRAMS is None:
        pytest.skip(MISSING)
    cluster = Cluster()
    rules = cluster.data / "pg_hba.conf"
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    for statement in (
        "SELECT pg_reload_conf()",
        f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'",
        "CREATE ROLE poor LOGIN",
        "CREATE DATABASE empty",
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
        "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    ):
        cluster.query(statement)
    upgrade(cluster.url())
    yield cluster
    cluster.close()


def upgrade(url: str) -> None:
    engine = open_engine(url)
    schema.upgrade(engine)
    engine.dispose()


class Wrong(NamedTuple):
    """A URL with one thing wrong, `{port}` being the cluster's, and what the operator is told."""

    url: str
    place: str
    reason: str


WRONG = {
    "host": Wrong(
        f"postgresql://me:{PASSWORD}@no-such-host.invalid:{{port}}/postgres",
        'PostgreSQL at no-such-host.invalid:{port}, database "postgres"',
        "failed to resolve host 'no-such-host.invalid'",
    ),
    "port": Wrong(
        f"postgresql://me:{PASSWORD}@127.0.0.1:1/postgres",
        'PostgreSQL at 127.0.0.1:1, database "postgres"',
        "Connection refused",
    ),
    "ports": Wrong(
        f"postgresql://me:{PASSWORD}@/postgres?host=127.0.0.1:1&host=127.0.0.1:2",
        'PostgreSQL at 127.0.0.1:1, 127.0.0.1:2, database "postgres"',
        "Connection refused",
    ),
    "socket": Wrong(
        f"postgresql://me:{PASSWORD}@/postgres?host=/no/such/folder",
        'PostgreSQL at /no/such/folder:5432, database "postgres"',
        "No such file or directory",
    ),
    "database": Wrong(
        f"postgresql://postgres:{PASSWORD}@127.0.0.1:{{port}}/nope",
        'PostgreSQL at 127.0.0.1:{port}, database "nope"',
        'database "nope" does not exist',
    ),
    "role": Wrong(
        f"postgresql://nobody:{PASSWORD}@127.0.0.1:{{port}}/postgres",
        'PostgreSQL at 127.0.0.1:{port}, database "postgres"',
        'role "nobody" does not exist',
    ),
    "password": Wrong(
        f"postgresql://guarded:{PASSWORD}er@127.0.0.1:{{port}}/postgres",
        'PostgreSQL at 127.0.0.1:{port}, database "postgres"',
        'password authentication failed for user "guarded"',
    ),
    "an @ in the password": Wrong(
        f"postgresql://me:x@{PASSWORD}@127.0.0.1:1/postgres",
        'PostgreSQL at 127.0.0.1:1, database "postgres"',
        "",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_upgrade_says_in_a_sentence_what_is_wrong_and_where(strict: Cluster, name: str) -> None:
    wrong = Wrong(*(text.format(port=strict.port) for text in WRONG[name]))

    upgraded = flask(wrong.url, "db", "upgrade")

    assert (upgraded.returncode, upgraded.stdout) == (1, "")
    [sentence] = upgraded.stderr.splitlines()
    assert sentence.startswith(f"Error: {wrong.place}: ")
    assert wrong.reason in sentence
    assert PASSWORD not in sentence


@pytest.mark.parametrize("name", WRONG)
def test_a_server_logs_what_is_wrong_and_where_and_tells_nobody_else(
    strict: Cluster, tmp_path: Path, name: str
) -> None:
    wrong = Wrong(*(text.format(port=strict.port) for text in WRONG[name]))
    server = Server(wrong.url, tmp_path / "log", wait=False)
    wait_until(lambda: server.answers("/healthz"))

    answers = [server.get("/readyz"), server.get("/api/tasks/a/status", 1)]
    server.close()

    log = server.log.read_text()
    assert [answer.status for answer in answers] == [503, 503]
    assert [answer.json["detail"] for answer in answers] == [
        "The postgresql database does not answer.",
        "The database does not answer. Try again soon.",
    ]
    for beginning in ("not ready: ", "the database does not answer: "):
        [sentence] = [line for line in log.splitlines() if beginning + wrong.place in line]
        assert wrong.reason in sentence
    assert PASSWORD not in log
    assert "Traceback" not in log


def test_missing_grants_are_named_by_upgrade_and_server(strict: Cluster, tmp_path: Path) -> None:
    url = strict.url().replace("postgres@", "poor@")

    upgraded = flask(url.removesuffix("postgres") + "empty", "db", "upgrade")
    server = Server(url, tmp_path / "log", wait=False)
    wait_until(lambda: server.answers("/healthz"))
    answer = server.get("/api/tasks/a/status", 1)
    ready = server.get("/readyz")
    server.close()

    place = f'PostgreSQL at 127.0.0.1:{strict.port}, database "{{}}": '
    assert upgraded.returncode == 1
    assert upgraded.stderr == f"Error: {place.format('empty')}permission denied for schema public.\n"
    assert (answer.status, ready.status) == (503, 503)
    assert ready.json["detail"] == "The postgresql database does not answer."
    assert f"{place.format('postgres')}permission denied for table user_tasks." in server.log.read_text()


@pytest.mark.parametrize(("database", "encoding"), [("latin", "LATIN1"), ("ascii", "SQL_ASCII")])
def test_a_database_that_cannot_hold_every_text_is_refused(
    strict: Cluster, tmp_path: Path, database: str, encoding: str
) -> None:
    url = strict.url().removesuffix("postgres") + database

    upgraded = flask(url, "db", "upgrade")
    server = Server(url, tmp_path / "log", wait=False)
    wait_until(lambda: server.answers("/healthz"))
    ready = server.get("/readyz")
    server.close()

    assert upgraded.returncode == 1
    [sentence] = upgraded.stderr.splitlines()
    assert f"The database's encoding is {encoding}, which cannot hold every text" in sentence
    assert (ready.status, ready.json["detail"]) == (503, "The database's encoding is not UTF-8.")


def test_an_sqlite_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, but something longer than the hundred bytes of a header" * 2)
    broken, below = f"sqlite:///{tmp_path}/file", f"sqlite:///{tmp_path}/file/x.db"

    upgraded = [flask(url, "db", "upgrade") for url in (broken, below)]
    looked = flask(broken, "tasks", "list", "--user", "1")
    server = Server(below, tmp_path / "log", wait=False)
    wait_until(lambda: server.answers("/healthz"))
    ready = server.get("/readyz")
    server.close()

    assert [(done.returncode, done.stderr) for done in upgraded] == [
        (1, f"Error: SQLite database {tmp_path}/file: file is not a database.\n"),
        (1, f"Error: SQLite database {tmp_path}/file/x.db: File exists.\n"),
    ]
    assert (looked.returncode, looked.stderr) == (3, upgraded[0].stderr)
    assert (ready.status, ready.json["detail"]) == (503, "The sqlite database does not answer.")
    assert "Traceback" not in server.log.read_text()
