"""Applications of their own under real gunicorn, with real streams, and in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from browser import Visit
from flask import Flask
from harness import Follower, Server, insert, update, wait_until, wait_until_shown

from taskapi.progress import Progress

pytest.importorskip("flask_login", reason="a host of the tests needs the package flask-login")
pytest.importorskip("flask_wtf", reason="a host of the tests needs the package flask-wtf")

from hosts import board, conduit
from hosts.life import alive, move, post, session, token, with_driver

ADA, BOB, CLEO = 1, 2, 3
# What a browser shows has nothing to do with the database.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


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

    move(app, board, BOB, "blue")
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
    move(app, board, BOB, "blue")

    answer = server.get("/api/tasks/a/status", **bob, If_None_Match=etag, Prefer="wait=5")

    assert answer.status == 403


@on_sqlite
def test_a_sign_in_is_all_that_a_bar_in_a_page_of_the_host_needs(
    start: Start, engine: sa.Engine, open_tab: Callable[[Server], Visit]
) -> None:
    visit = open_tab(start(board).server)
    see_own_bar(visit, engine)

    update(engine, "a", progress=60)
    wait_for_bar(visit, 60)

    assert visit.page.get_by_text("Report <a>", exact=True).is_visible()
    assert [len(visit.asked(method, "/api/tasks/a/events")) for method in ("POST", "GET")] == [0, 1]
    assert visit.complaints == []

    visit.page.context.clear_cookies()
    visit.page.evaluate("dispatchEvent(new Event('online'))")
    visit.page.get_by_text("Please sign in.", exact=True).wait_for()


@on_sqlite
def test_a_wall_that_sends_our_requests_to_its_login_page_reads_as_a_sign_in_that_is_missing(
    start: Start, engine: sa.Engine, open_tab: Callable[[Server], Visit]
) -> None:
    visit = open_tab(start(board, HOST_WALL="1").server)
    see_own_bar(visit, engine)

    visit.page.context.clear_cookies()
    visit.page.evaluate("dispatchEvent(new Event('online'))")

    visit.page.get_by_text("Please sign in.", exact=True).wait_for()


@on_sqlite
def test_the_page_shows_the_tasks_of_whoever_is_signed_in_already(
    start: Start, engine: sa.Engine, open_tab: Callable[[Server], Visit]
) -> None:
    visit = open_tab(start(board, TASKAPI_PAGE="1").server)
    insert(engine, "a", ADA, status="running", progress=5)
    sign_in(visit, ADA)

    visit.page.goto(f"{visit.origin}/api/tasks/")

    expect = pytest.importorskip("playwright.sync_api").expect
    expect(visit.bar("a")).to_have_js_property("value", 5)
    update(engine, "a", progress=60)
    expect(visit.bar("a")).to_have_js_property("value", 60)
    assert [visit.page.locator(name).is_visible() for name in ("#sign-in", "#sign-out")] == [False, False]
    assert visit.complaints == []


@on_sqlite
def test_the_page_asks_a_stranger_for_a_token(start: Start, open_tab: Callable[[Server], Visit]) -> None:
    visit = open_tab(start(board, TASKAPI_PAGE="1").server)

    visit.page.goto(f"{visit.origin}/api/tasks/")

    visit.page.get_by_label("Access token").wait_for()
    assert visit.complaints == []


TOKEN_PAGE = """<!doctype html><link rel=icon href="data:,"><script type=module>
    import "/api/tasks/static/task-progress.js";
    const element = document.createElement("task-progress");
    element.token = async () => %s;
    element.src = "/api/tasks/a";
    document.body.append(element);
</script>"""


@on_sqlite
def test_an_element_may_name_the_kind_of_its_token(
    start: Start, engine: sa.Engine, open_tab: Callable[[Server], Visit]
) -> None:
    server, _ = start(conduit)
    visit = open_tab(server)
    insert(engine, "a", ADA, status="running", progress=5)
    body = TOKEN_PAGE % json.dumps(token(server, "ada")["Authorization"])
    visit.page.route("**/element", lambda route: route.fulfill(body=body, content_type="text/html"))

    visit.page.goto(f"{visit.origin}/element")

    wait_for_bar(visit, 5)
    update(engine, "a", progress=60)
    wait_for_bar(visit, 60)
    assert visit.complaints == []


def sign_in(visit: Visit, user: int) -> None:
    """Sign in by the host's form."""
    visit.page.goto(f"{visit.origin}/login")
    visit.page.get_by_label("User").fill(str(user))
    visit.page.get_by_role("button").click()
    visit.page.get_by_role("heading", name="Board").wait_for()


def see_own_bar(visit: Visit, engine: sa.Engine) -> None:
    """Sign in as Ada, whose task "a" is at 5 percent, and see its bar."""
    insert(engine, "a", ADA, status="running", progress=5)
    sign_in(visit, ADA)
    visit.page.goto(f"{visit.origin}/?task=a")
    wait_for_bar(visit, 5)


def wait_for_bar(visit: Visit, value: int) -> None:
    visit.wait_for(f"document.querySelector('task-progress')?.shadowRoot?.querySelector('progress').value === {value}")
