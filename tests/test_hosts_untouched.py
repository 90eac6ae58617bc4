"""What an application has of its own is the same with us and without."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import Server, wait_until
from sqlalchemy.engine import make_url

pytest.importorskip("flask_login", reason="a host of the tests needs the package flask-login")
pytest.importorskip("flask_wtf", reason="a host of the tests needs the package flask-wtf")

from hosts import board, conduit, diary
from hosts.life import alive, sign_in, with_driver

from taskapi import TaskAPI, config

PATHS = ["/", "/login", "/static/style.css", "/static/nothing.css", "/nothing", "/forbidden", "/broken", "/user"]
PATHS += ["/tasks/1/status", "/events/", "/api/nothing", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"]
Pair = tuple[Flask, Flask]


@contextlib.contextmanager
def diaries(folder: Path) -> Iterator[Pair]:
    """The small application twice."""
    settings = {"TESTING": True, "PROPAGATE_EXCEPTIONS": False, "TASKAPI_DATABASE_URL": f"sqlite:///{folder}/t.db"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOST_INSTANCE", str(folder))
        pair = diary.create_app(settings), diary.create_app(settings, with_tasks=False)
    for app in pair:
        app.test_cli_runner().invoke(args=["init-db"])
    yield pair


@contextlib.contextmanager
def twice(module: ModuleType, url: str) -> Iterator[Pair]:
    with alive(module, url) as one, alive_beside(module, url) as other:
        yield one, other


@contextlib.contextmanager
def alive_beside(module: ModuleType, url: str) -> Iterator[Flask]:
    """The same again, on the same database."""
    settings = {"SQLALCHEMY_DATABASE_URI": with_driver(url), "TESTING": True, "PROPAGATE_EXCEPTIONS": False}
    app: Flask = module.create_app(settings, with_tasks=False)
    yield app
    with app.app_context():
        module.db.engine.dispose()


@pytest.fixture(params=["conduit", "board", "diary"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str) -> Iterator[Pair]:
    """Each host, with us and without."""
    modules = {"conduit": conduit, "board": board}
    hosts = diaries(tmp_path) if request.param == "diary" else twice(modules[request.param], sqlite_url)
    with hosts as apps:
        yield apps


def normal(answer: bytes) -> bytes:
    """Without the one part that differs at every request."""
    before, mark, after = answer.partition(b'name="csrf_token" value="')
    return before + mark + after.partition(b'"')[2]


def answers(client: FlaskClient) -> list[tuple[Any, ...]]:
    """What it says to everything that one may ask, byte for byte, the headers in their order."""
    found = []
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        for path in PATHS:
            with client.open(path, method=method) as answer:
                headers = [(name, value) for name, value in answer.headers if name not in ("Date", "Set-Cookie")]
                found.append((method, path, answer.status, headers, normal(answer.data)))
    return found


def test_every_answer_is_the_same_with_us_and_without(pair: Pair) -> None:
    with_us, without = (answers(app.test_client()) for app in pair)

    assert with_us == without
    assert {status for _, _, status, _, _ in without} >= {"200 OK", "404 NOT FOUND"}


def test_a_session_of_one_is_a_session_of_the_other(sqlite_url: str) -> None:
    with twice(board, sqlite_url) as (with_us, without):
        visitor, other = sign_in(with_us.test_client(), 1), without.test_client()
        cookie = visitor.get_cookie("session")
        assert cookie is not None
        other.set_cookie("session", cookie.value)

        assert answers(visitor) == answers(other)
        assert [other.get("/broken").status_code, other.get("/forbidden").status_code] == [500, 403]


def test_commands_configuration_and_routes_are_the_same_but_for_ours(pair: Pair) -> None:
    with_us, without = pair

    def commands(app: Flask) -> set[str]:
        with app.app_context():
            return set(app.cli.list_commands(click.Context(app.cli)))

    def routes(app: Flask) -> list[tuple[str, str]]:
        return [(each.rule, each.endpoint) for each in app.url_map.iter_rules() if "taskapi" not in each.endpoint]

    assert commands(with_us) - commands(without) == {"taskapi"}
    assert commands(without) <= commands(with_us)
    assert with_us.config == without.config
    assert routes(with_us) == routes(without)
    ours = set(with_us.blueprints) - set(without.blueprints)
    assert {name.split(".")[0] for name in ours} == {"taskapi"}
    assert {name for name in with_us.extensions if name not in without.extensions} == {"taskapi"}
    assert set(with_us.jinja_env.globals) - set(without.jinja_env.globals) == {"task_progress"}


def test_its_engine_has_no_listener_and_no_setting_of_ours(sqlite_url: str) -> None:
    with twice(board, sqlite_url) as pair:
        found = []
        for app in pair:
            app.test_client().get("/api/tasks/users/me")
            with app.app_context(), board.db.engine.connect() as connection:
                pragmas = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "busy_timeout")
                ]
                dispatch = connection.engine.dispatch
                found.append(
                    (pragmas, [len(getattr(dispatch, name)) for name in ("begin", "commit", "before_execute")])
                )

    assert found[0] == found[1]


# Served for real, without the switches of tests.


@pytest.fixture
def served(database_url: str, start_server: Callable[..., Server]) -> Callable[[str], Server]:
    """The board under gunicorn, as its `create_app` is called."""

    def start(app: str, *arguments: str) -> Server:
        variables = {"HOST_DATABASE": with_driver(database_url)}
        server = start_server(*arguments, app=f"tests.hosts.board:{app}", wait=False, variables=variables)
        wait_until(lambda: server.answers("/login"))
        return server

    with alive(board, database_url):
        pass
    return start


def said(server: Server, path: str) -> bytes:
    """The whole answer, as it comes from the socket."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    head = [(name, value) for name, value in response.getheaders() if name not in ("Date", "Set-Cookie")]
    body = response.read()
    connection.close()
    return repr((response.status, response.reason, head)).encode() + body


def test_served_by_gunicorn_every_answer_is_the_same(served: Callable[[str], Server]) -> None:
    with_us, without = served("create_app()"), served("create_app(with_tasks=False)")

    for path in PATHS:
        assert normal(said(with_us, path)) == normal(said(without, path)), path


# What is ours, and wrong, is said.


def test_a_setting_that_is_misspelt_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("misspelt", instance_path=str(tmp_path))
    app.config["TASKAPI_LEASE_SECOND"] = 5
    config.tell_of_stranger.cache_clear()

    with caplog.at_level(logging.WARNING):
        TaskAPI().init_app(app)

    assert caplog.messages == ["TASKAPI_LEASE_SECOND is not a setting: TASKAPI_LEASE_SECONDS is."]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "soon"),
        ("PAGE", "perhaps"),
        ("URL_PREFIX", "tasks"),
        ("URL_PREFIX", ""),
        ("URL_PREFIX", "/"),
        ("URL_PREFIX", None),
    ],
)
def test_a_setting_that_cannot_be_stops_the_start_by_its_name(tmp_path: Path, name: str, value: Any) -> None:
    app = Flask("odd", instance_path=str(tmp_path))
    app.config[f"TASKAPI_{name}"] = value

    with pytest.raises(config.ConfigError, match=f"TASKAPI_{name} must be"):
        TaskAPI(app)


@pytest.mark.parametrize("prefix", ["tasks", "", "/", "//", "/ta sks", "/<tasks>"])
def test_a_prefix_that_is_no_path_stops_the_start_however_it_is_given(tmp_path: Path, prefix: str) -> None:
    for start in (
        lambda app: TaskAPI(app, url_prefix=prefix),
        lambda app: TaskAPI(url_prefix=prefix).init_app(app),
        lambda app: TaskAPI().init_app(app, url_prefix=prefix),
    ):
        with pytest.raises(config.ConfigError, match="TASKAPI_URL_PREFIX must be a path such as /api/tasks"):
            start(Flask("odd", instance_path=str(tmp_path)))


def test_another_database_than_the_two_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("other", instance_path=str(tmp_path))
    app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=False, SECRET_KEY="x")
    db = SimpleNamespace(metadata=sa.MetaData(), engine=SimpleNamespace(url=make_url("mysql://app:secret@db/app")))
    TaskAPI(app, db=db).identity(diary.who)

    answer = app.test_client().get("/api/tasks/users/me")

    assert answer.status_code == 500
    assert "taskapi works on SQLite and PostgreSQL, and not on mysql" in caplog.text
    assert "secret" not in caplog.text


def test_without_anybody_to_ask_who_is_asking_the_log_says_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("nobody", instance_path=str(tmp_path))
    app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=False, SECRET_KEY="x")
    TaskAPI(app)

    answer = app.test_client().get("/api/tasks/users/me")

    assert answer.status_code == 500
    assert "use @tasks.identity, or Flask-JWT-Extended" in caplog.text
