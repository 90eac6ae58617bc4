"""Applications of their own under real gunicorn, with real streams, and in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from browser import Visit
from flask import Flask
from harness import Follower, Server, insert, update, wait_until, wait_until_shown

from taskapi.progress import Progress

pytest.importorskip("flask_login", reason="a host of the tests needs the package flask-login")
pytest.importorskip("flask_wtf", reason="a host of the tests needs the package flask-wtf")

from hosts import board, conduit
from hosts.life import alive, forgery_token, with_driver

ADA, BOB, CLEO = 1, 2, 3
SECONDS = 10


class Host(NamedTuple):
    """A server, and the same application in this process to change its people by."""

    server: Server
    app: Flask


Start = Callable[..., Host]


@pytest.fixture
def start(database_url: str, start_server: Callable[..., Server], request: pytest.FixtureRequest) -> Start:
    """Start a host under gunicorn: no configuration of ours is asked of it."""

    def start(module: ModuleType, *arguments: str, **variables: str) -> Host:
        life = alive(module, database_url)
        app = life.__enter__()
        request.addfinalizer(lambda: life.__exit__(None, None, None))
        server = start_server(
            *("-c", "/dev/null", "-k", "gevent", *arguments),
            app=f"tests.{module.__name__}:create_app()",
            wait=False,
            variables={"HOST_DATABASE": with_driver(database_url), **variables},
        )
        wait_until(lambda: server.answers("/login" if module is board else "/"))
        return Host(server, app)

    return start


def post(server: Server, path: str, body: str, **headers: str) -> Any:
    """The response to a POST, read whole."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = (response.status, response.headers, response.read())
    connection.close()
    return found


def token(server: Server, name: str) -> dict[str, Any]:
    _, _, body = post(server, "/users/login", json.dumps({"name": name}), Content_Type="application/json")
    return {"Authorization": f"Token {json.loads(body)['token']}"}


def session(server: Server, user: int) -> dict[str, Any]:
    """Sign in at the board; the cookie."""
    form = server.get("/login")
    cookie = form.headers["Set-Cookie"].split(";")[0]
    body = urlencode({"csrf_token": forgery_token(form.body.decode()), "user": user})
    kind = "application/x-www-form-urlencoded"
    status, headers, _ = post(server, "/login", body, Content_Type=kind, Cookie=cookie)
    assert status == 302
    return {"Cookie": headers["Set-Cookie"].split(";")[0]}


def test_a_stream_by_the_hosts_own_token_moves_and_a_revoked_one_does_not_come_back(
    start: Start, database_url: str
) -> None:
    server, _ = start(conduit)
    ada = token(server, "ada")
    progress = Progress(database_url)
    task_id = progress.create(user_id=ADA, kind="report")
    follower = Follower(server.stream(f"/api/tasks/{task_id}/events", None, **ada))

    with progress.run(task_id) as task:
        task.update(progress=50)
        wait_until_shown([follower], task_id, status="running", progress=50)
        post(server, "/users/logout", "", **ada)
        assert server.stream(f"/api/tasks/{task_id}/events", None, **ada).status == 401
    wait_until(lambda: follower.ended)

    assert follower.names == ["done"]
    assert server.get(f"/api/tasks/{task_id}/status", **ada).status == 401


def test_a_team_member_sees_it_move_until_the_team_is_left_and_the_stream_comes_back(
    start: Start, engine: sa.Engine
) -> None:
    server, app = start(board, TASKAPI_STREAM_MAX_AGE="1.5")
    insert(engine, "a", ADA, status="running")
    ada, bob, cleo = (session(server, user) for user in (ADA, BOB, CLEO))
    assert server.stream("/api/tasks/a/events", None, **cleo).status == 403
    followers = [Follower(server.stream("/api/tasks/a/events", None, **cookie)) for cookie in (ada, bob)]
    update(engine, "a", progress=40)
    wait_until_shown(followers, "a", progress=40)

    with app.app_context():
        board.db.session.get_one(board.User, BOB).team = "blue"
        board.db.session.commit()
    wait_until(lambda: all(follower.ended for follower in followers))

    assert [follower.names for follower in followers] == [["bye"], ["bye"]]
    again = [server.stream("/api/tasks/a/events", None, **cookie).status for cookie in (ada, bob, cleo)]
    assert again == [200, 403, 403]


def test_a_poll_that_is_held_for_a_team_member_shows_nothing_after_the_team_is_left(
    start: Start, engine: sa.Engine
) -> None:
    server, app = start(board)
    insert(engine, "a", ADA, status="running")
    bob = session(server, BOB)
    etag = server.get("/api/tasks/a/status", **bob).headers["ETag"]
    with app.app_context():
        board.db.session.get_one(board.User, BOB).team = "blue"
        board.db.session.commit()

    answer = server.get("/api/tasks/a/status", **bob, If_None_Match=etag, Prefer="wait=5")

    assert answer.status == 403


def test_a_sign_in_is_all_that_a_bar_in_a_page_of_the_host_needs(
    start: Start, engine: sa.Engine, open_tab: Callable[[Server], Visit]
) -> None:
    visit = open_tab(start(board).server)
    insert(engine, "a", ADA, status="running", progress=5)
    sign_in(visit, ADA)
    visit.page.goto(f"{visit.origin}/?task=a")
    wait_for_bar(visit, 5)

    update(engine, "a", progress=60)
    wait_for_bar(visit, 60)

    assert visit.page.get_by_text("Report <a>", exact=True).is_visible()
    assert [len(visit.asked(method, "/api/tasks/a/events")) for method in ("POST", "GET")] == [0, 1]
    assert visit.complaints == []

    visit.page.context.clear_cookies()
    visit.page.evaluate("dispatchEvent(new Event('online'))")
    visit.page.get_by_text("Please sign in.", exact=True).wait_for()


def test_a_wall_that_sends_our_requests_to_its_login_page_reads_as_a_sign_in_that_is_missing(
    start: Start, engine: sa.Engine, open_tab: Callable[[Server], Visit]
) -> None:
    visit = open_tab(start(board, HOST_WALL="1").server)
    insert(engine, "a", ADA, status="running", progress=5)
    sign_in(visit, ADA)
    visit.page.goto(f"{visit.origin}/?task=a")
    wait_for_bar(visit, 5)

    visit.page.context.clear_cookies()
    visit.page.evaluate("dispatchEvent(new Event('online'))")

    visit.page.get_by_text("Please sign in.", exact=True).wait_for()


def sign_in(visit: Visit, user: int) -> None:
    """Sign in by the host's form."""
    visit.page.goto(f"{visit.origin}/login")
    visit.page.get_by_label("User").fill(str(user))
    visit.page.get_by_role("button").click()
    visit.page.get_by_role("heading", name="Board").wait_for()


def wait_for_bar(visit: Visit, value: int) -> None:
    visit.wait_for(f"document.querySelector('task-progress')?.shadowRoot?.querySelector('progress').value === {value}")
