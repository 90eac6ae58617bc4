"""The two databases every test runs on, and servers over them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from browser import CHROMIUM, FLAGS, Visit
from clusters import MISSING, PROGRAMS, Cluster
from flask import Flask
from flask.testing import FlaskClient
from harness import KEY, Server
from sqlalchemy.engine import make_url

from taskapi import create_app
from taskapi.database import connections, schema
from taskapi.database.store import Store
from taskapi.progress import Progress, Task
from taskapi.state import state_of

# A shell's background jobs ignore it, and so would every process that is started from one.
signal.signal(signal.SIGINT, signal.default_int_handler)

POSTGRES = os.environ.get("TASKAPI_TEST_POSTGRES", "postgresql://postgres@127.0.0.1/test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the files out: `TASKAPI_TEST_PART=1/2` runs the tests of every other one, so that others run the rest."""
    part, _, parts = os.environ.get("TASKAPI_TEST_PART", "1/1").partition("/")
    mine = set(sorted({item.path for item in items})[int(part) - 1 :: int(parts)])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TASKAPI_"):
            monkeypatch.delenv(name)


@contextlib.contextmanager
def postgres_schema(name: str) -> Iterator[str]:
    """The URL of PostgreSQL in a schema of this run's own."""
    url = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, connect_args={"connect_timeout": 3})
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    except sa.exc.OperationalError:
        pytest.skip("no PostgreSQL answers at TASKAPI_TEST_POSTGRES")
    own = url.update_query_dict({"options": f"-csearch_path={name}"})
    own_engine = connections.open_engine(own)
    schema.upgrade(own_engine)
    own_engine.dispose()
    yield own.render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """PostgreSQL, for the tests that bring what works on it themselves."""
    with postgres_schema(f"taskapi_test_{os.getpid()}") as url:
        yield url


@pytest.fixture(scope="session")
def served_postgres_url() -> Iterator[str]:
    """PostgreSQL under the shared server: its reaper would do other tests' work."""
    with postgres_schema(f"taskapi_test_{os.getpid()}_served") as url:
        yield url


def sqlite_file(folder: Path) -> str:
    url = f"sqlite:///{folder}/taskapi.db"
    engine = connections.open_engine(make_url(url))
    schema.upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite file, for the tests that bring what works on it themselves."""
    return sqlite_file(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def served_sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite file under the shared server."""
    return sqlite_file(tmp_path_factory.mktemp("served"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each database in turn, up to date and without tasks."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(f"served_{name}" if "server" in request.fixturenames else name)
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM user_tasks")
        if request.param == "sqlite":  # a test may have put the clock of revisions forward
            connection.exec_driver_sql("UPDATE user_tasks_revision SET value = 0")
    engine.dispose()
    return url


def open_engine(url: str) -> sa.Engine:
    return connections.open_engine(make_url(url.replace("postgresql://", "postgresql+psycopg://")))


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine of the test's own on the database."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: sa.Engine) -> Iterator[Store]:
    store = Store(engine.url)
    yield store
    store.close()


@pytest.fixture
def progress(database_url: str) -> Progress:
    """The workers' helper."""
    return Progress(database_url)


@pytest.fixture
def task(progress: Progress) -> Iterator[Task]:
    """A running task, on both databases."""
    with progress.task(user_id=1) as task:
        yield task


@contextlib.contextmanager
def fresh_database(drivername: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database, as a host's driver has it; of SQLite not even the file is there."""
    if drivername == "sqlite":
        yield f"sqlite:///{folder}/fresh.db"
        return
    name = f"taskapi_fresh_{os.getpid()}_{secrets.token_hex(4)}"
    engine = open_engine(POSTGRES)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    except sa.exc.OperationalError:
        pytest.skip("no PostgreSQL answers at TASKAPI_TEST_POSTGRES")
    url = make_url(POSTGRES).set(drivername=drivername).update_query_dict({"options": f"-csearch_path={name}"})
    yield url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each database in turn, empty."""
    with fresh_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def app(database_url: str, engine: sa.Engine) -> Iterator[Flask]:
    """The application in this process."""
    app = create_app({"DATABASE_URL": database_url, "JWT_SECRET_KEY": KEY, "TESTING": True})
    yield app
    state_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def start_server(database_url: str, engine: sa.Engine, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start real gunicorn: `start_server("--workers", "2", LEASE_SECONDS=1)`."""
    servers: list[Server] = []

    def start(*arguments: str, **settings: Any) -> Server:
        log = tmp_path / f"server{len(servers)}.log"
        servers.append(Server(database_url, log, *arguments, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start real gunicorn on a database given by its URL."""
    servers: list[Server] = []

    def start(url: str, *arguments: str, **settings: Any) -> Server:
        servers.append(Server(url, tmp_path / f"served{len(servers)}.log", *arguments, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def start_cluster() -> Iterator[Callable[..., Cluster]]:
    """Start a PostgreSQL of the module's own: `start_cluster(fsync="on")`, `start_cluster(copy_of=primary)`."""
    if PROGRAMS is None:
        pytest.skip(MISSING)
    with contextlib.ExitStack() as clusters:
        yield lambda **settings: clusters.enter_context(contextlib.closing(Cluster(**settings)))


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """One server for each database, for the tests that leave it as it was."""
    servers: dict[str, Server] = {}

    def shared(url: str) -> Server:
        if url not in servers:
            servers[url] = Server(url, tmp_path_factory.mktemp("server") / "log")
        return servers[url]

    yield shared
    for server in servers.values():
        server.close()


@pytest.fixture
def server(shared_servers: Callable[[str], Server], database_url: str) -> Iterator[Server]:
    """Real gunicorn with one gevent worker, shared with other tests: to stop it, `start_server` your own."""
    server = shared_servers(database_url)
    yield server
    server.close_streams()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    if CHROMIUM is None:
        pytest.skip("the browser tests need a Chromium in the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[[Server], Visit]]:
    """Open a tab for a server, in a browser profile of its own."""
    visits: list[Visit] = []

    def open_tab(server: Server) -> Visit:
        context = browser.new_context(locale="en-GB")
        visits.append(Visit(context.new_page(), server))
        return visits[-1]

    yield open_tab
    for visit in visits:
        visit.page.context.close()
        assert [url for _, url in visit.requests if not url.startswith((visit.origin, "data:"))] == []


@pytest.fixture
def visit(open_tab: Callable[[Server], Visit], server: Server) -> Visit:
    return open_tab(server)
