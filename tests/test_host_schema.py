"""Our tables in a host's database, by the commands that a host's developer types."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
import sqlalchemy as sa
from conftest import open_engine
from harness import KEY, ROOT, grants, insert, row
from hosts.paths import Host
from sqlalchemy.engine import make_url

from taskapi import create_app
from taskapi.database import schema
from taskapi.database.store import Store
from taskapi.progress import Progress
from taskapi.state import state_of

# How a host puts itself together.
BEFORE, AFTER, ALONE = "before Flask-Migrate", "after Flask-Migrate", "without Flask-Migrate"
ASIDE = "in a database of its own"
BINDINGS = {
    BEFORE: "tasks = TaskAPI(app, db=db); Migrate(app, db)",
    AFTER: "Migrate(app, db); tasks = TaskAPI(app, db=db)",
    ALONE: "tasks = TaskAPI(app, db=db)",
    ASIDE: "app.config.update(TASKAPI_DATABASE_URL=app.config['SQLALCHEMY_DATABASE_URI']); tasks = TaskAPI(app)",
}
VERSIONS = Path(__file__).with_name("versions")
HOST = """
    from flask import Flask
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy
    from taskapi import Identity, TaskAPI

    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI={url!r}, SECRET_KEY="secret", TASKAPI_HEALTH=True)
    db = SQLAlchemy(app)
    {binding}
    tasks.identity(lambda: Identity(1))

    class Path(db.Model):
        id = db.Column(db.Integer, primary_key=True)
"""
IS_READY = """
    import time
    from app import app
    for _ in range(100):
        answer = app.test_client().get("/api/tasks/readyz")
        if answer.status_code == 200:
            break
        time.sleep(0.1)
    print(answer.status_code, answer.text)
"""
WRITTEN_BY_HAND = '''
    """Tables of taskapi."""
    import taskapi.migrations
    from alembic import op

    revision = "1"
    down_revision = None

    def upgrade():
        taskapi.migrations.upgrade(op, version=3)

    def downgrade():
        taskapi.migrations.downgrade(op, version=0)
'''


class Application:
    """A host in a folder of its own."""

    def __init__(self, folder: Path, url: str, binding: str) -> None:
        self.folder, self.url = folder, url
        self.write("app.py", HOST.format(url=url, binding=BINDINGS[binding]))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(dedent(text))

    def run(self, *command: str, status: int = 0) -> str:
        """What a command prints, in either stream."""
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "FLASK_APP": "app"}
        done = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def flask(self, *arguments: str, status: int = 0) -> str:
        return self.run("-m", "flask", *arguments, status=status)

    @property
    def readiness(self) -> str:
        self.write("ready.py", IS_READY)
        return self.run("ready.py")

    def revisions(self) -> list[str]:
        return sorted(path.read_text() for path in (self.folder / "migrations/versions").glob("*.py"))


@pytest.fixture
def host(fresh_url: str, tmp_path: Path) -> Callable[[str], Application]:
    folder = tmp_path / "host"
    folder.mkdir()
    return lambda binding: Application(folder, fresh_url, binding)


@pytest.fixture
def engine(fresh_url: str) -> Iterator[sa.Engine]:
    engine = open_engine(fresh_url)
    yield engine
    engine.dispose()


def left_in(engine: sa.Engine) -> set[str]:
    """What there is: tables, indexes, triggers, sequences, functions."""
    statement = {
        "sqlite": "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
        "postgresql": """
            SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace
            UNION SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace""",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return set(connection.scalars(sa.text(statement)))


def tables_in(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def alembics_account(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT version_num FROM alembic_version")))


def install_version(number: int, engine: sa.Engine, url: str) -> None:
    """What the standalone service of an older version left, with rows."""
    text = (VERSIONS / f"{number}.{engine.dialect.name}.sql").read_text()
    if engine.dialect.name == "sqlite":
        with contextlib.closing(sqlite3.connect(str(engine.url.database))) as connection:
            connection.executescript(text)
    else:
        with psycopg.connect(url) as connection:
            connection.execute(text.encode())


@pytest.fixture
def standalone(fresh_url: str) -> Iterator[Callable[..., str]]:
    """`flask db …` of the standalone service on the same database."""
    app = create_app({"DATABASE_URL": fresh_url, "JWT_SECRET_KEY": KEY})

    def run(*arguments: str) -> str:
        result = app.test_cli_runner().invoke(args=["db", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    yield run
    state_of(app).close()


@pytest.mark.slow
@pytest.mark.parametrize("binding", [BEFORE, AFTER])
def test_a_revision_of_the_hosts_own_brings_the_tables_and_takes_them_away(
    host: Callable[[str], Application], engine: sa.Engine, binding: str
) -> None:
    app = host(binding)
    app.flask("db", "init")
    app.flask("db", "migrate", "-m", "paths")
    app.flask("db", "upgrade")
    before = left_in(engine)

    written = app.flask("taskapi", "migration")
    once_more = app.flask("taskapi", "migration", status=1)
    app.flask("db", "upgrade")
    again = app.flask("db", "migrate")
    app.flask("db", "check")
    ready = app.readiness
    insert(engine, "a")
    app.flask("db", "downgrade")

    assert "flask db upgrade" in written
    assert "brings version 3 already" in once_more
    assert "No changes in schema detected" in again
    assert len(app.revisions()) == 2
    assert "user_tasks" not in "".join(app.revisions())
    assert ready.startswith("200")
    assert left_in(engine) == before


@pytest.mark.slow
def test_a_revision_written_by_hand_brings_the_tables_and_takes_them_away(
    host: Callable[[str], Application], engine: sa.Engine
) -> None:
    app = host(AFTER)
    app.flask("db", "init")
    app.write("migrations/versions/1.py", WRITTEN_BY_HAND)

    in_sql = app.flask("db", "upgrade", "--sql", status=1)
    app.flask("db", "upgrade")
    ready = app.readiness
    app.flask("db", "migrate", "-m", "paths")
    app.flask("db", "downgrade")

    assert "Without a database nobody can tell" in in_sql
    assert ready.startswith("200")
    assert "path" in "".join(app.revisions())
    assert "user_tasks" not in "".join(app.revisions())
    assert tables_in(engine) == {"alembic_version"}
    assert not any("user_tasks" in name for name in left_in(engine))


def test_without_alembic_a_command_brings_the_tables_and_makes_the_file(
    host: Callable[[str], Application], engine: sa.Engine
) -> None:
    app = host(ALONE)

    said = app.flask("taskapi", "upgrade")
    again = app.flask("taskapi", "upgrade")
    ready = app.readiness

    assert said == again == "The tables of taskapi are at version 3.\n"
    assert ready.startswith("200")
    assert insert(engine, "a")


@pytest.mark.parametrize("fresh_url", ["sqlite"], indirect=True)
def test_a_host_keeps_the_journal_that_it_has(host: Callable[[str], Application], tmp_path: Path) -> None:
    app = host(ALONE)

    app.flask("taskapi", "upgrade")

    assert app.readiness.startswith("200")
    with contextlib.closing(sqlite3.connect(tmp_path / "fresh.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.mark.parametrize("fresh_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("commands", [[], [("taskapi", "upgrade")]], ids=["by itself", "by command"])
def test_a_file_of_our_own_beside_a_hosts_database_is_made_as_we_want_it(
    host: Callable[[str], Application], tmp_path: Path, commands: list[tuple[str, ...]]
) -> None:
    app = host(ASIDE)

    for command in commands:
        app.flask(*command)

    assert app.readiness.startswith("200")
    with contextlib.closing(sqlite3.connect(tmp_path / "fresh.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_keeps_the_command_from_writing_a_revision_is_a_sentence(host: Callable[[str], Application]) -> None:
    assert "`flask taskapi upgrade` does it" in host(ALONE).flask("taskapi", "migration", status=1)
    assert "use the 'init' command" in host(AFTER).flask("taskapi", "migration", status=1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_standalone_database_of_an_older_version_moves_into_a_host(
    host: Callable[[str], Application], engine: sa.Engine, fresh_url: str, standalone: Callable[..., str], number: int
) -> None:
    install_version(number, engine, fresh_url)
    app = host(BEFORE)
    app.flask("db", "init")

    standalone("upgrade")
    moved = tables_in(engine)
    app.flask("taskapi", "migration")
    app.flask("db", "upgrade")

    assert "alembic_version" not in moved
    assert app.readiness.startswith("200")
    assert row(engine, "waiting")["status"] == "pending"
    assert len(alembics_account(engine)) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_standalone_database_of_an_older_version_is_upgraded_by_a_hosts_command(
    host: Callable[[str], Application], engine: sa.Engine, fresh_url: str, number: int
) -> None:
    install_version(number, engine, fresh_url)
    app = host(ALONE)

    app.flask("taskapi", "upgrade")

    assert app.readiness.startswith("200")
    assert row(engine, "waiting")["status"] == "pending"


@pytest.mark.slow
def test_a_host_that_brought_version_2_brings_the_newest_by_a_second_revision(
    host: Callable[[str], Application], engine: sa.Engine
) -> None:
    app = host(AFTER)
    app.flask("db", "init")
    app.write("migrations/versions/1.py", WRITTEN_BY_HAND.replace(f"version={schema.VERSION}", "version=2"))
    app.flask("db", "upgrade")
    with engine.connect() as connection:
        first = schema.version_of(connection)

    app.flask("taskapi", "migration")
    app.flask("db", "upgrade")
    ready = app.readiness
    app.flask("db", "downgrade")

    assert first == 2
    assert ready.startswith("200")
    with engine.connect() as connection:
        assert schema.version_of(connection) == 2


@pytest.mark.slow
def test_a_host_and_the_standalone_service_share_a_database_in_either_order(
    host: Callable[[str], Application], engine: sa.Engine, standalone: Callable[..., str]
) -> None:
    app = host(AFTER)
    app.flask("db", "init")
    app.flask("db", "migrate", "-m", "paths", "--rev-id", "0001")

    standalone("upgrade")
    app.flask("db", "upgrade")
    standalone("upgrade")
    standalone("downgrade", "base")
    standalone("upgrade")

    assert alembics_account(engine) == ["0001"]
    assert tables_in(engine) >= {"path", "alembic_version", "user_tasks"}
    assert "user_tasks_alembic" not in tables_in(engine)


# In a host's tests.


def test_create_all_brings_the_tables_and_drop_all_removes_them(fresh_url: str, engine: sa.Engine) -> None:
    host = Host(fresh_url, TESTING=True)
    with host.app.app_context():
        for _ in range(2):
            host.db.create_all()
            host.db.create_all()
            assert insert(engine, "a")
            assert row(engine, "a")["revision"] > 0
            host.db.drop_all()
            host.db.drop_all()
            assert left_in(engine) == set()
        host.db.engine.dispose()


def test_the_command_works_on_a_database_in_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    host = Host("sqlite://", TESTING=True)

    done = host.app.test_cli_runner().invoke(args=["taskapi", "upgrade"])

    assert done.exit_code == 0, done.output
    assert list(tmp_path.iterdir()) == []
    with host.app.app_context():
        assert host.tasks.create(user_id=1)
        host.db.session.remove()
        host.db.engine.dispose()


def test_an_operator_whose_tables_are_missing_is_told_what_brings_them(
    fresh_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    in_file, in_memory = Host(fresh_url, TESTING=True), Host("sqlite://", TESTING=True)
    with in_file.app.app_context():
        in_file.db.create_all()
        in_file.db.session.execute(sa.text("DROP TABLE user_tasks"))
        in_file.db.session.commit()

    answers = [host.app.test_client().get("/api/tasks/users/me") for host in (in_file, in_memory)]
    for host in (in_file, in_memory):
        with host.app.app_context():
            state_of(host.app).close()
            host.db.engine.dispose()

    assert [answer.status_code for answer in answers] == [503, 503]
    assert caplog.text.count("user_tasks") == 2
    assert caplog.text.count("without Flask-Migrate `flask taskapi upgrade`") == 2
    assert "SQLite database :memory:" in caplog.text


# A role that does not own the tables.


@pytest.mark.parametrize("fresh_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("number", [1, 2])
def test_a_server_needs_no_more_grants_after_an_upgrade_than_before(
    fresh_url: str, engine: sa.Engine, standalone: Callable[..., str], number: int
) -> None:
    install_version(number, engine, fresh_url)
    with role_without_tables(engine, fresh_url) as url:
        standalone("upgrade")

        store = Store(make_url(url))
        assert schema.trouble(store) is None
        with Progress(url).task(user_id=1) as task:
            task.advance()
        assert store.task(task.task_id) is not None
        forget_that_anything_was_counted(engine)
        assert store.newly_ended() == []
        store.close()


def forget_that_anything_was_counted(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE user_tasks_schema SET counted_until = now() - interval '1 minute'")


@contextlib.contextmanager
def role_without_tables(engine: sa.Engine, url: str, statements: Iterable[str] = ()) -> Iterator[str]:
    """The URL of a role with the grants that the documentation names, or others."""
    role = f"taskapi_test_{secrets.token_hex(4)}"
    with engine.begin() as connection:
        name = connection.scalar(sa.text("SELECT current_schema()"))
        for statement in (
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
            *([each.format(role=role) for each in statements] or grants(name, role)),
        ):
            connection.exec_driver_sql(statement)
    yield make_url(url).set(username=role, password="secret").render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
