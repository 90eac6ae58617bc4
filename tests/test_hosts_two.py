"""Two applications in one process, each with a database, tokens and people of its own, never meet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from harness import Follower, Server, insert, update, wait_until, wait_until_shown
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

pytest.importorskip("flask_login", reason="a host of the tests needs the package flask-login")
pytest.importorskip("flask_wtf", reason="a host of the tests needs the package flask-wtf")

from conftest import open_engine, sqlite_file
from hosts import board, conduit
from hosts.life import alive, session, sign_in, state_of_host, with_driver
from hosts.life import token as served_token

from taskapi.state import state_of

ADA = 1
Pair = tuple[Flask, Flask]


@pytest.fixture
def second_engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(sqlite_file(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def pair(database_url: str, engine: sa.Engine, second_engine: sa.Engine) -> Iterator[Pair]:
    """Conduit and the board; in both, user 1 has a task of the same name."""
    second_url = second_engine.url.render_as_string(hide_password=False)
    with alive(conduit, database_url) as one, alive(board, second_url, TASKAPI_MAX_STREAMS_PER_USER=1) as other:
        insert(engine, "a", ADA, status="running", stage="in_conduit", learning_path_id=456)
        insert(second_engine, "a", ADA, status="running", stage="on_the_board", learning_path_id=456)
        yield one, other


def token(app: Flask) -> dict[str, str]:
    answer: Any = app.test_client().post("/users/login", json={"name": "ada"}).get_json()
    return {"Authorization": f"Token {answer['token']}"}


@pytest.mark.parametrize("path", ["/api/tasks/a/status", "/api/tasks/learning-paths/456", "/api/tasks/users/me"])
def test_each_tells_of_its_own_database(pair: Pair, path: str) -> None:
    one, other = pair

    answers: list[Any] = [
        one.test_client().get(path, headers=token(one)).get_json(),
        sign_in(other.test_client(), ADA).get(path).get_json(),
    ]

    found = [answer[0] if isinstance(answer, list) else answer for answer in answers]
    assert [task["stage"] for task in found] == ["in_conduit", "on_the_board"]


def test_what_opens_one_does_not_open_the_other(pair: Pair) -> None:
    one, other = pair
    tickets: list[Any] = [
        one.test_client().post("/api/tasks/a/events", headers=token(one)).get_json(),
        sign_in(other.test_client(), ADA).post("/api/tasks/a/events").get_json(),
    ]
    session = sign_in(other.test_client(), ADA).get_cookie("session")
    assert session is not None
    visitor = one.test_client()
    visitor.set_cookie("session", session.value)

    refused = [
        other.test_client().get("/api/tasks/a/status", headers=token(one)),
        visitor.get("/api/tasks/a/status"),
        other.test_client().get(tickets[0]["url"]),
        one.test_client().get(tickets[1]["url"]),
    ]

    assert [answer.status_code for answer in refused] == [401] * 4


def test_a_change_of_one_moves_only_the_bars_of_that_one(
    pair: Pair, engine: sa.Engine, second_engine: sa.Engine
) -> None:
    one, other = pair
    streams = [
        one.test_client().get("/api/tasks/a/events", headers=token(one), buffered=False),
        sign_in(other.test_client(), ADA).get("/api/tasks/a/events", buffered=False),
    ]
    chunks: list[Any] = [iter(stream.response) for stream in streams]
    assert [b"in_conduit" in next(chunks[0]), b"on_the_board" in next(chunks[1])] == [True, True]

    update(engine, "a", status="completed")
    assert b'"status":"completed"' in b"".join(chunks[0])
    update(second_engine, "a", status="failed")
    last = b"".join(chunks[1])

    assert (b'"status":"completed"' in last, b'"status":"failed"' in last) == (False, True)
    for stream in streams:
        stream.close()


def test_a_full_house_of_one_is_no_full_house_of_the_other(pair: Pair) -> None:
    one, other = pair
    guests = [sign_in(other.test_client(), ADA) for _ in range(2)]
    with contextlib.ExitStack() as open_streams:
        first, second = (
            open_streams.enter_context(guest.get("/api/tasks/a/events", buffered=False)) for guest in guests
        )
        third = open_streams.enter_context(one.test_client().get("/api/tasks/a/events", headers=token(one)))

        heads: list[Any] = [next(iter(answer.response)) for answer in (first, second, third)]

    assert [b"busy" in head for head in heads] == [False, True, False]


def test_the_parts_of_one_may_be_made_while_the_other_is_at_work(
    database_url: str, engine: sa.Engine, second_engine: sa.Engine
) -> None:
    second_url = second_engine.url.render_as_string(hide_password=False)
    with alive(board, database_url) as one, alive(board, second_url) as other:
        insert(second_engine, "theirs", ADA)

        with one.app_context():
            store = state_of(other).store

        assert store.task("theirs") is not None


def test_they_share_no_part(pair: Pair) -> None:
    one, other = map(state_of_host, pair)

    assert one.store is not other.store
    assert one.broadcaster is not other.broadcaster
    assert one.background is not other.background
    assert one.ticket_key != other.ticket_key
    assert one.rules is not other.rules


def test_under_gunicorn_the_bars_of_both_move_and_both_say_bye(
    pair: Pair,
    start_server: Callable[..., Server],
    database_url: str,
    engine: sa.Engine,
    second_engine: sa.Engine,
) -> None:
    second = second_engine.url.render_as_string(hide_password=False)
    server = start_server(
        *("-c", "/dev/null", "-k", "gevent"),
        app="tests.hosts.both:create_app()",
        wait=False,
        variables={"HOST_DATABASE": with_driver(database_url), "HOST_SECOND_DATABASE": second},
    )
    wait_until(lambda: server.answers("/board/login"))
    followers = [
        Follower(server.stream("/api/tasks/a/events", None, **served_token(server, "ada"))),
        Follower(server.stream("/board/api/tasks/a/events", None, **session(server, ADA, "/board"))),
    ]

    update(engine, "a", progress=40)
    wait_until_shown(followers[:1], "a", progress=40)
    update(second_engine, "a", progress=60)
    wait_until_shown(followers[1:], "a", progress=60)
    server.stop()
    wait_until(lambda: all(follower.ended for follower in followers))

    assert [follower.names for follower in followers] == [["bye"], ["bye"]]
    shown = [{event.json["stage"] for event in follower.events if event.name == "message"} for follower in followers]
    assert shown == [{"in_conduit"}, {"on_the_board"}]


def test_mounted_in_one_server_each_hands_out_its_own_addresses(pair: Pair) -> None:
    one, other = pair
    server = Client(DispatcherMiddleware(one, {"/board": other}))

    mine: Any = server.post("/api/tasks/a/events", headers=token(one)).get_json()
    nobody = server.post("/board/api/tasks/a/events", headers=token(one))

    assert mine["url"].startswith("/api/tasks/a/events?ticket=")
    assert nobody.status_code == 401
    assert server.head(mine["url"]).status_code == 200
    assert server.head(f"/board{mine['url']}").status_code == 401
