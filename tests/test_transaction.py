"""A host's row and its task: committed together, and only then is the job sent; or neither."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import fresh_database
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from harness import ROOT
from hosts.paths import Host
from sqlalchemy.orm import Session

from taskapi import TaskAPI
from taskapi.progress import Progress
from taskapi.state import state_of

needs_psycopg2 = pytest.mark.skipif(find_spec("psycopg2") is None, reason="psycopg2 is not installed")
DRIVERS = ["sqlite", "postgresql+psycopg", pytest.param("postgresql+psycopg2", marks=needs_psycopg2)]


@contextlib.contextmanager
def running(host: Host) -> Iterator[Host]:
    """A host whose database gets its tables, and ours."""
    with host.app.app_context():
        host.db.create_all()
        yield host
        host.db.session.remove()
        state_of(host.app).close()
        host.db.engine.dispose()


@pytest.fixture(params=DRIVERS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    with fresh_database(request.param, tmp_path) as url, running(Host(url, TESTING=True)) as host:
        yield host


class Jobs(list[str]):
    """The ids of the tasks whose jobs were sent."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._store = state_of(host.app).store

    def send(self, task_id: str) -> None:
        """As a broker would: at once, to a worker that looks by a connection of its own."""
        assert self._store.task(task_id) is not None
        self.append(task_id)


@pytest.fixture
def jobs(host: Host) -> Jobs:
    return Jobs(host)


def stored(host: Host) -> tuple[int, int]:
    """How many paths and tasks others see."""
    with host.db.engine.connect() as connection:
        paths = connection.scalar(sa.text("SELECT count(*) FROM path"))
        tasks = connection.scalar(sa.text("SELECT count(*) FROM user_tasks"))
    return int(paths or 0), int(tasks or 0)


def create(host: Host, jobs: Jobs, **fields: Any) -> str:
    return host.tasks.create(user_id=1, on_commit=jobs.send, **fields)


def test_a_commit_leaves_both_rows_and_the_job_finds_its_task(host: Host, jobs: Jobs) -> None:
    path = host.add_path()
    task_id = create(host, jobs, learning_path_id=path)
    assert (stored(host), jobs) == ((0, 0), [])

    host.db.session.commit()

    assert (stored(host), jobs) == ((1, 1), [task_id])


def test_a_rollback_leaves_neither_row_and_sends_no_job(host: Host, jobs: Jobs) -> None:
    host.add_path()
    create(host, jobs)

    host.db.session.rollback()
    host.db.session.commit()

    assert (stored(host), jobs) == ((0, 0), [])


@pytest.mark.parametrize(
    "end",
    ["close", "remove", "invalidate", *(["reset"] if hasattr(Session, "reset") else [])],  # since SQLAlchemy 2.0.22
)
def test_a_session_that_is_closed_without_a_commit_sends_no_job_then_or_later(host: Host, jobs: Jobs, end: str) -> None:
    session = host.db.session()
    host.add_path()
    create(host, jobs)

    getattr(host.db.session if end == "remove" else session, end)()
    session.execute(sa.text("SELECT 1"))
    session.commit()

    assert (stored(host), jobs) == ((0, 0), [])
    session.close()


def test_a_savepoints_rollback_drops_what_it_holds_and_nothing_else(host: Host, jobs: Jobs) -> None:
    host.add_path()
    kept = create(host, jobs)
    savepoint = host.db.session.begin_nested()
    host.add_path("Go")
    create(host, jobs)

    savepoint.rollback()
    also_kept = create(host, jobs)
    host.db.session.commit()

    assert (stored(host), jobs) == ((1, 2), [kept, also_kept])


def test_what_a_released_savepoint_holds_shares_the_fate_of_the_one_around_it(host: Host, jobs: Jobs) -> None:
    host.add_path()
    with host.db.session.begin_nested() as outer:
        with host.db.session.begin_nested():
            create(host, jobs)
        assert jobs == []
        outer.rollback()
    with host.db.session.begin_nested(), host.db.session.begin_nested():
        kept = create(host, jobs)
    assert jobs == []

    host.db.session.commit()

    assert (stored(host), jobs) == ((1, 1), [kept])


def test_a_rollback_drops_what_released_savepoints_held(host: Host, jobs: Jobs) -> None:
    host.add_path()
    with host.db.session.begin_nested():
        create(host, jobs)
        with host.db.session.begin_nested():
            create(host, jobs)

    host.db.session.rollback()
    host.db.session.commit()

    assert (stored(host), jobs) == ((0, 0), [])


def test_a_commit_from_within_savepoints_commits_all(host: Host, jobs: Jobs) -> None:
    host.add_path()
    host.db.session.begin_nested()
    host.db.session.begin_nested()
    task_id = create(host, jobs)

    host.db.session.commit()

    assert (stored(host), jobs) == ((1, 1), [task_id])


def test_a_savepoint_that_fails_drops_its_job_only(host: Host, jobs: Jobs) -> None:
    host.add_path()
    kept = create(host, jobs)
    savepoint = host.db.session.begin_nested()
    create(host, jobs)
    host.db.session.add(host.Path(title=None))
    with pytest.raises(sa.exc.IntegrityError), savepoint:
        host.db.session.flush()

    host.db.session.commit()

    assert (stored(host), jobs) == ((1, 1), [kept])


@pytest.mark.parametrize("begin", [lambda session: session.begin(), lambda session: session.begin_nested()])
def test_a_transaction_that_begins_with_the_task_keeps_row_and_job_together(
    host: Host, jobs: Jobs, begin: Callable[[Session], Any]
) -> None:
    """To SQLite, as Python opens it, the release of a savepoint that begins a transaction is a commit."""
    session = host.db.session()
    with begin(session):
        create(host, jobs)
    was_committed = stored(host) == (0, 1)
    assert bool(jobs) is was_committed

    session.rollback()

    assert stored(host) == (0, len(jobs))


def test_a_commit_that_fails_sends_no_job(host: Host, jobs: Jobs) -> None:
    host.db.session.add(host.Path(title=None))
    create(host, jobs)

    with pytest.raises(sa.exc.IntegrityError):
        host.db.session.commit()
    host.db.session.rollback()

    assert (stored(host), jobs) == ((0, 0), [])


def test_what_the_host_has_added_is_not_flushed_for_the_task(host: Host, jobs: Jobs) -> None:
    host.db.session.add(host.Path(title=None))

    create(host, jobs)

    host.db.session.rollback()


def test_a_task_after_the_hosts_own_flush_waits_for_no_lock(host: Host, jobs: Jobs) -> None:
    began = time.monotonic()
    host.add_path()
    task_id = create(host, jobs)
    host.add_path("Go")
    host.db.session.commit()

    with Progress(host.db.engine.url.set(drivername=state_of(host.app).store.dialect.drivername)).run(task_id):
        pass

    assert time.monotonic() - began < 1
    found = state_of(host.app).store.task(task_id)
    assert found is not None
    assert found.status == "completed"


def test_what_is_missing_is_named_by_the_call_that_was_made(host: Host) -> None:
    with pytest.raises(TypeError, match=r"^TaskAPI\.create\(\) missing .* 'user_id'$"):
        host.tasks.create(kind="report")  # type: ignore[call-arg]


def test_a_job_that_runs_at_once_may_use_the_session(host: Host) -> None:
    paths: list[str] = []

    def run(_task_id: str) -> None:
        paths.extend(host.db.session.scalars(sa.select(host.Path.title)))
        host.add_path("Go")
        host.db.session.commit()

    host.add_path()
    host.tasks.create(user_id=1, on_commit=run)
    host.db.session.commit()

    assert paths == ["Rust"]
    assert stored(host) == (2, 1)


def test_a_job_that_cannot_be_sent_holds_up_no_other_and_is_told(host: Host, jobs: Jobs) -> None:
    def fail(_task_id: str) -> None:
        raise ConnectionError("no broker")

    host.add_path()
    host.tasks.create(user_id=1, on_commit=fail)
    task_id = create(host, jobs)

    with pytest.raises(ConnectionError, match="no broker"):
        host.db.session.commit()

    assert (stored(host), jobs) == ((1, 2), [task_id])
    host.db.session.rollback()
    host.add_path("Go")
    host.db.session.commit()
    assert (stored(host), jobs) == ((2, 2), [task_id])


def test_any_session_of_the_hosts_will_do(host: Host, jobs: Jobs) -> None:
    with Session(host.db.engine) as session:
        task_id = create(host, jobs, session=session)
        session.commit()
        create(host, jobs, session=session)

    assert (stored(host), jobs) == ((0, 1), [task_id])


def test_a_sessions_jobs_are_its_own(host: Host, jobs: Jobs) -> None:
    with Session(host.db.engine) as one:
        task_id = create(host, jobs, session=one)
        host.db.session.commit()
        assert jobs == []
        one.commit()

    assert jobs == [task_id]


def test_with_real_transactions_a_savepoint_that_begins_one_is_none_of_its_own(tmp_path: Path) -> None:
    """As SQLAlchemy's documentation has it for SQLite: the driver's own transactions off, and a real BEGIN."""
    host = Host(f"sqlite:///{tmp_path}/app.db", TESTING=True)
    with host.app.app_context():
        engine = host.db.engine
        sa.event.listen(engine, "connect", lambda connection, _record: setattr(connection, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with running(host):
        jobs = Jobs(host)
        with host.db.session.begin_nested():
            create(host, jobs)

        host.db.session.rollback()

        assert (stored(host), jobs) == ((0, 0), [])


def test_a_host_on_another_database_is_told_at_the_start() -> None:
    app = Flask("host")
    app.config["SQLALCHEMY_DATABASE_URI"] = "mysql://host/app"

    with pytest.raises(ValueError, match="SQLite and PostgreSQL, and not on mysql"):
        TaskAPI(app, db=SQLAlchemy())


@needs_psycopg2
def test_a_host_whose_driver_is_all_there_is_is_told_at_the_start_which_one_is_missing() -> None:
    start = (
        "import sys; sys.modules['psycopg'] = None; from hosts.paths import Host; Host('postgresql+psycopg2://host/')"
    )

    told = subprocess.run(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ".:tests"},
        capture_output=True,
        text=True,
    )

    last = told.stderr.strip().splitlines()[-1]
    assert last == "taskapi.extras.MissingExtraError: PostgreSQL needs psycopg: pip install 'taskapi[postgresql]'"
    assert "ModuleNotFoundError" not in told.stderr
