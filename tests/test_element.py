"""Many bars and many tabs: one connection, whoever has it; and what both cost and look like to everybody."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from browser import USER, Visit
from harness import Server, insert, make_token, update, wait_until
from sqlalchemy.engine import make_url
from test_metrics import metric
from test_nginx import NGINX, Nginx, can_connect

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
expect = sync_api.expect

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OpenTabs = Callable[..., list[Visit]]


@pytest.fixture
def own_server(start_server: Callable[..., Server]) -> Server:
    """A server whose open streams nobody else's are among."""
    return start_server()


@pytest.fixture
def open_tabs(browser: Any, own_server: Server) -> Iterator[OpenTabs]:
    """So many tabs of one browser profile."""
    contexts = []

    def open_tabs(number: int) -> list[Visit]:
        contexts.append(browser.new_context(locale="en-GB"))
        return [Visit(contexts[-1].new_page(), own_server) for _ in range(number)]

    yield open_tabs
    for context in contexts:
        context.close()


def streams_of(server: Server) -> int:
    return int(metric(server, "taskapi_streams_open"))


# Tabs.


def test_eight_tabs_of_a_browser_share_one_stream(open_tabs: OpenTabs, own_server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    token = make_token(USER)
    tabs = [tab.open(token) for tab in open_tabs(8)]
    for tab in tabs:
        expect(tab.bar("a")).to_have_js_property("value", 5)

    update(engine, "a", progress=40)
    insert(engine, "new", USER, status="running")
    for tab in tabs:
        expect(tab.bar("a")).to_have_js_property("value", 40)
        expect(tab.card("new")).to_be_visible()
        expect(tab.page.locator("#connection")).to_have_text("Live")

    assert streams_of(own_server) == 1
    update(engine, "a", status="completed", progress=100)
    for tab in tabs:
        expect(tab.card("a")).to_contain_text("Completed")


def test_when_the_tab_that_streams_is_closed_another_one_goes_on(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    tabs = [tab.open() for tab in open_tabs(3)]
    for tab in tabs:
        expect(tab.bar("a")).to_have_js_property("value", 5)

    while tabs:
        [streaming] = [tab for tab in tabs if tab.page.evaluate("streams.some(stream => stream.readyState < 2)")]
        tabs.remove(streaming)
        streaming.page.close()
        update(engine, "a", progress=90 - len(tabs))
        for tab in tabs:
            expect(tab.bar("a")).to_have_js_property("value", 90 - len(tabs))

    wait_until(lambda: streams_of(own_server) == 0)


def test_a_hidden_tab_whose_title_shows_progress_still_shares_its_stream(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    first, second = open_tabs(2)
    first.open()
    expect(first.bar("a")).to_have_js_property("value", 5)
    second.open()
    expect(second.bar("a")).to_have_js_property("value", 5)
    assert second.page.evaluate("streams.length") == 0

    first.set_visibility("hidden")
    update(engine, "a", progress=60)

    for tab in (first, second):
        expect(tab.bar("a")).to_have_js_property("value", 60)
    assert streams_of(own_server) == 1


def test_tabs_of_two_users_share_nothing(open_tabs: OpenTabs, own_server: Server, engine: sa.Engine) -> None:
    insert(engine, "mine", USER, status="running")
    insert(engine, "theirs", 7, status="running")
    first, second = open_tabs(2)
    first.open(make_token(USER))
    second.open(make_token(7))
    expect(first.card("mine")).to_be_visible()
    expect(second.card("theirs")).to_be_visible()

    update(engine, "mine", progress=50)
    update(engine, "theirs", progress=60)

    expect(first.bar("mine")).to_have_js_property("value", 50)
    expect(second.bar("theirs")).to_have_js_property("value", 60)
    assert first.card("theirs").count() == second.card("mine").count() == 0
    assert streams_of(own_server) == 2


def test_a_tab_whose_token_is_refused_hears_nothing_from_the_others(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running")
    first, second = open_tabs(2)
    first.open()
    expect(first.card("a")).to_be_visible()

    second.open(make_token(USER, key="x" * 40))

    expect(second.page.get_by_role("alert")).to_contain_text("not accepted")
    assert second.card("a").count() == 0


def test_eight_tabs_with_a_task_each_leave_connections_free(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    tabs = open_tabs(8)
    for number, tab in enumerate(tabs):
        insert(engine, f"t{number}", USER, status="running", progress=5)
        tab.open_element(f"t{number}")
        expect(tab.bar()).to_have_js_property("value", 5)

    for number, tab in enumerate(tabs):
        update(engine, f"t{number}", progress=50 + number)
        expect(tab.bar()).to_have_js_property("value", 50 + number)

    assert streams_of(own_server) <= 4


# Bars.


def test_two_hundred_bars_of_a_page_share_one_stream(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    names = [f"t{number}" for number in range(200)]
    for name in names:
        insert(engine, name, USER, status="running", progress=5)
    [tab] = open_tabs(1)
    tab.open_element(*names)
    tab.wait_for("[...document.querySelectorAll('task-progress')].every(({ task }) => task?.progress === 5)")

    assert streams_of(own_server) == 1
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET progress = 100, status = 'completed'"))

    tab.wait_for("events.filter(({ name }) => name === 'done').length === 200")
    wait_until(lambda: streams_of(own_server) == 0)
    assert len(tab.asked("GET", "/api/tasks/users/me/events")) == 1


def test_among_many_bars_those_that_have_ended_or_are_somebody_elses_are_true_as_well(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "mine", USER, status="running", progress=5)
    insert(engine, "ended", USER, status="failed", progress=30)
    insert(engine, "theirs", 7, status="running", progress=70)
    [tab] = open_tabs(1)
    tab.open_element("mine", "ended", "theirs", "nix", tokens=[make_token(USER, is_admin=True)])
    tab.wait_for(
        "[...document.querySelectorAll('task-progress')].map(({ task }) => task?.progress).join() === '5,30,70,'"
    )

    update(engine, "theirs", progress=80)
    update(engine, "mine", progress=60)

    tab.wait_for(
        "[...document.querySelectorAll('task-progress')].map(({ task }) => task?.progress).join() === '60,30,80,'"
    )
    assert [error["status"] for error in tab.events("error")] == [404]


# What goes back: a database that was restored, answers that took their time.


class Backup:
    """A copy of an SQLite database, made and put back as an operator does it, under a running server."""

    def __init__(self, database_url: str, copy: Path) -> None:
        self._file, self._copy = str(make_url(database_url).database), str(copy)
        self._run(self._file, self._copy)

    def restore(self) -> None:
        """Put the copy back."""
        self._run(self._copy, self._file)

    @staticmethod
    def _run(source: str, target: str) -> None:
        with (
            contextlib.closing(sqlite3.connect(source)) as reader,
            contextlib.closing(sqlite3.connect(target)) as writer,
        ):
            reader.backup(writer)


@pytest.fixture
def back_up(database_url: str, tmp_path: Path) -> Callable[[], Backup]:
    return lambda: Backup(database_url, tmp_path / "copy.db")


STREAMS = re.compile(r"/events\b")


def _unavailable(route: Any) -> None:
    route.fulfill(status=502, body="")


def frame(revision: int, task: dict[str, Any]) -> str:
    return f"id: {revision}\ndata: {json.dumps(task)}\n\n"


def streaming(*frames: str) -> Callable[[Any], None]:
    """Answer tickets as the server does, and each stream with these frames."""

    def answer(route: Any) -> None:
        if route.request.method == "POST":
            route.fallback()
        else:
            route.fulfill(body="retry: 3600000\n\n" + "".join(frames), content_type="text/event-stream")

    return answer


def test_a_restored_database_takes_polled_bars_back(
    open_tabs: OpenTabs, back_up: Callable[[], Backup], engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    backup = back_up()
    [tab] = open_tabs(1)
    tab.page.route(STREAMS, _unavailable)
    tab.open_element("a")
    update(engine, "a", progress=60)
    expect(tab.bar()).to_have_js_property("value", 60)

    backup.restore()

    expect(tab.bar()).to_have_js_property("value", 5)


def test_what_was_polled_before_a_stream_is_no_answer_after_it(
    open_tabs: OpenTabs, back_up: Callable[[], Backup], engine: sa.Engine
) -> None:
    """The same ETag again, for what the bar shows no longer: without an answer it would stay where it is."""
    insert(engine, "a", USER, status="running", progress=5)
    backup = back_up()
    [tab] = open_tabs(1)
    tab.page.route(STREAMS, _unavailable, times=1)
    tab.open_element("a")
    tab.wait_for("streams.at(-1)?.readyState === EventSource.OPEN")
    update(engine, "a", progress=60)
    expect(tab.bar()).to_have_js_property("value", 60)

    tab.page.route(STREAMS, _unavailable)
    backup.restore()
    tab.page.evaluate("dispatchEvent(new Event('online'))")

    expect(tab.bar()).to_have_js_property("value", 5)


def test_a_bar_follows_its_stream_to_a_smaller_revision(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running")
    task = own_server.get("/api/tasks/a/status", USER).json
    [tab] = open_tabs(1)
    tab.page.route(STREAMS, streaming(frame(177, task | {"progress": 60}), frame(45, task | {"progress": 20})))

    tab.open_element("a")

    expect(tab.bar()).to_have_js_property("value", 20)
    assert [event["progress"] for event in tab.events("progress")] == [60, 20]


def test_another_task_on_a_tasks_stream_is_not_shown(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running")
    task = own_server.get("/api/tasks/a/status", USER).json
    frames = [
        frame(1, task | {"progress": 20}),
        frame(2, task | {"task_id": "lost", "progress": 90, "status": "completed"}),
        frame(3, task | {"progress": 30}),
    ]
    [tab] = open_tabs(1)
    tab.page.route(STREAMS, streaming(*frames))

    tab.open_element("a")

    expect(tab.bar()).to_have_js_property("value", 30)
    assert [event["task_id"] for event in tab.events("progress")] == ["a", "a"]


def test_a_restored_database_takes_the_pages_bars_back(
    open_tabs: OpenTabs, back_up: Callable[[], Backup], own_server: Server, engine: sa.Engine
) -> None:
    def come_back_alone(route: Any) -> None:
        wait_until(lambda: streams_of(own_server) == 0)
        route.fallback()

    insert(engine, "a", USER, status="running", progress=5)
    insert(engine, "b", USER, status="running", progress=5)
    backup = back_up()
    [tab] = open_tabs(1)
    tab.open()
    update(engine, "a", progress=60)
    update(engine, "b", status="completed")
    expect(tab.bar("a")).to_have_js_property("value", 60)
    expect(tab.page.locator("#history li")).to_have_count(1)

    backup.restore()
    tab.page.route(STREAMS, come_back_alone)
    tab.page.evaluate("dispatchEvent(new Event('online'))")

    expect(tab.bar("a")).to_have_js_property("value", 5)
    expect(tab.page.locator("#active li")).to_have_count(2)


def test_a_list_that_was_asked_for_before_a_frame_came_takes_nothing_back(
    open_tabs: OpenTabs, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    held: list[Callable[[], None]] = []
    [tab] = open_tabs(1)
    tab.page.route("**/api/tasks/users/me?*", lambda route: held.append(_answer_of_now(route)))
    tab.open()
    expect(tab.bar("a")).to_have_js_property("value", 5)
    wait_until(lambda: tab.page.evaluate("true") and len(held) == 2)  # what goes on, and what has ended
    update(engine, "a", progress=60)
    expect(tab.bar("a")).to_have_js_property("value", 60)

    for answer in held:
        answer()

    expect(tab.page.locator("#tasks")).not_to_have_attribute("aria-busy", "true")  # the list is there
    expect(tab.bar("a")).to_have_js_property("value", 60)


def test_a_poll_that_was_asked_for_before_another_tab_told_of_news_takes_nothing_back(
    open_tabs: OpenTabs, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    held: list[Callable[[], None]] = []
    first, second = open_tabs(2)
    first.open_element("a")
    expect(first.bar()).to_have_js_property("value", 5)
    second.page.route("**/status", lambda route: held.append(_answer_of_now(route)))
    second.open_element("a")
    wait_until(lambda: second.page.evaluate("true") and held)
    update(engine, "a", progress=60)
    expect(second.bar()).to_have_js_property("value", 60)

    with second.page.expect_response("**/status"):
        held[0]()
    update(engine, "a", progress=70)

    expect(second.bar()).to_have_js_property("value", 70)
    assert 5 not in [event["progress"] for event in second.events("progress")]


def _answer_of_now(route: Any) -> Callable[[], None]:
    """Ask the server now; what gives its answer to the page."""
    response = route.fetch()
    return lambda: route.fulfill(response=response)


# How a bar moves.


@pytest.fixture
def bar(open_tabs: OpenTabs) -> Visit:
    """A tab with one element that follows nothing: it shows what it is given by `show`."""
    [tab] = open_tabs(1)
    tab.open_element("")
    tab.page.evaluate(
        """() => {
            const element = document.querySelector("task-progress");
            element.removeAttribute("src");
            window.show = (progress, started_at = null) => {
                element.task = { task_id: "a", status: "running", progress, started_at, total_items: 100 };
            };
        }"""
    )
    return tab


def test_a_bar_glides_forward_and_jumps_back(bar: Visit) -> None:
    glides: list[str] = []
    session = bar.page.context.new_cdp_session(bar.page)
    session.on("Animation.animationStarted", lambda event: glides.append(event["animation"]["type"]))
    session.send("Animation.enable")

    def glides_of(*steps: int) -> int:
        bar.page.evaluate("steps => steps.forEach(step => show(step))", steps)
        bar.page.evaluate("() => new Promise(done => setTimeout(done, 100))")
        return len(glides)

    assert glides_of(60) == 1
    assert glides_of(20) == 1
    assert glides_of(30) == 2
    assert glides_of(5) == 2
    assert glides_of(50, 5) == 2
    assert glides_of(50, 2, 10) == 3


def test_the_time_left_is_reckoned_anew_where_a_task_begins_anew(bar: Visit) -> None:
    bar.page.clock.install()
    element = bar.page.locator("task-progress")

    def run(*steps: int, started_at: str) -> None:
        for step in steps:
            bar.page.evaluate("([step, from]) => show(step, from)", [step, started_at])
            bar.page.clock.run_for(4_000)

    bar.page.evaluate("import('/static/moving.js')")  # else fetched when the bar moves, in the time of the machine
    run(5, 10, 20, 30, 40, started_at="2026-01-01T00:00:00Z")
    expect(element).to_contain_text("left")
    run(5, started_at="2026-01-01T00:00:00Z")
    expect(element).not_to_contain_text("left")
    run(10, 15, 20, started_at="2026-01-01T00:00:00Z")
    expect(element).to_contain_text("left")

    run(25, started_at="2026-01-01T00:00:30Z")

    expect(element).not_to_contain_text("left")


# Cookies: a host with a login page.


def sign_in(tab: Visit, user: int) -> None:
    """Let the browser have a user's cookie."""
    tab.page.context.add_cookies([{"name": "access_token_cookie", "value": make_token(user), "url": tab.origin}])


@pytest.fixture(params=["of its own", "elsewhere"])
def host(
    request: pytest.FixtureRequest, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Server:
    """An application behind a login page, with the API in it."""
    if request.param == "elsewhere":  # another origin, whose answers no page of the host may read
        monkeypatch.setenv("LOGIN_HOST", "localhost")
    return start_server(app="tests.hosts.login_wall:app")


@pytest.fixture
def guest(browser: Any, host: Server) -> Iterator[Visit]:
    """A tab of a browser that has no cookie of the host's."""
    context = browser.new_context(locale="en-GB")
    yield Visit(context.new_page(), host)
    context.close()


@pytest.mark.parametrize("tokens", [[], ["any"]], ids=["cookies", "token"])
def test_a_login_page_in_place_of_an_answer_is_said_to_want_a_sign_in(
    guest: Visit, engine: sa.Engine, tokens: list[str]
) -> None:
    insert(engine, "a", USER)

    guest.open_element("a", tokens=tokens)

    guest.wait_for("events.length === 1")
    assert guest.events("error") == [{"name": "error", "status": 401, "message": "Please sign in."}]
    expect(guest.page.locator("task-progress")).to_contain_text("Please sign in.")


def test_a_bar_streams_for_a_cookie_and_says_when_the_session_is_over(guest: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    sign_in(guest, USER)
    guest.open_element("a", tokens=[])
    expect(guest.bar()).to_have_js_property("value", 5)
    update(engine, "a", progress=60)
    expect(guest.bar()).to_have_js_property("value", 60)
    assert [len(guest.asked(method, "/api/tasks/a/events")) for method in ("POST", "GET")] == [0, 1]

    guest.page.context.clear_cookies()
    guest.page.evaluate("dispatchEvent(new Event('online'))")

    expect(guest.page.locator("task-progress")).to_contain_text("Please sign in.")
    assert [error["status"] for error in guest.events("error")] == [401]


FOLLOW_ALL = """async () => {
    window.seen = new Set();
    const { follow } = await import("/static/task-progress.js");
    follow("/api/tasks/users/me", {
        onsnapshot: ({ task_id, progress }) => seen.add(`${task_id} ${progress}`),
        onerror: ({ status }) => seen.add(status),
    });
}"""


def test_of_tabs_with_cookies_those_of_one_user_share_a_stream(
    open_tabs: OpenTabs, own_server: Server, engine: sa.Engine
) -> None:
    insert(engine, "mine", USER, status="running", progress=5)
    insert(engine, "theirs", 7, status="running", progress=6)
    first, second, stranger = open_tabs(3)
    for tab, user in ((first, USER), (second, USER), (stranger, 7)):
        sign_in(tab, user)
        tab.open_element()
        tab.page.evaluate(FOLLOW_ALL)
        tab.wait_for("seen.size")
        first.wait_for("streams[0]?.readyState === EventSource.OPEN")

    update(engine, "mine", progress=50)
    update(engine, "theirs", progress=60)
    for tab, task in ((first, "mine 50"), (second, "mine 50"), (stranger, "theirs 60")):
        tab.wait_for(f"seen.has('{task}')")

    assert [tab.page.evaluate("[...seen].sort()") for tab in (first, second, stranger)] == [
        ["mine 5", "mine 50"],
        ["mine 5", "mine 50"],
        ["theirs 6", "theirs 60"],
    ]
    assert streams_of(own_server) == 2


def test_whose_cookie_becomes_another_users_sees_none_of_that_users_tasks(
    open_tabs: OpenTabs, engine: sa.Engine
) -> None:
    insert(engine, "mine", USER, status="running", progress=5)
    insert(engine, "theirs", 7, status="running", progress=6)
    [tab] = open_tabs(1)
    sign_in(tab, USER)
    tab.open_element()
    tab.page.evaluate(FOLLOW_ALL)
    tab.wait_for("streams[0]?.readyState === EventSource.OPEN")

    sign_in(tab, 7)
    tab.page.evaluate("dispatchEvent(new Event('online'))")

    tab.wait_for("seen.size > 1")
    assert tab.page.evaluate("[...seen]") == ["mine 5", 401]


# A server that is away.


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_behind_nginx_a_bar_outlives_ten_seconds_without_a_server(
    browser: Any, start_server: Callable[..., Server], engine: sa.Engine, tmp_path: Path
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    first = start_server()
    nginx = Nginx(f"127.0.0.1:{first.port}", tmp_path)
    context = browser.new_context()
    tab = Visit(context.new_page(), first)
    tab.origin = f"http://127.0.0.1:{nginx.port}"
    try:
        wait_until(lambda: can_connect(nginx))
        tab.open()
        expect(tab.bar("a")).to_have_js_property("value", 5)

        first.close()
        away = time.monotonic()
        connection = tab.page.locator("#connection")
        expect(connection).to_have_text("No connection. Trying again…", timeout=8_000)
        while time.monotonic() < away + 10:  # nginx lets streams open, and ends them at once
            assert connection.text_content() == "No connection. Trying again…"
            tab.page.wait_for_timeout(100)
        start_server("-b", f"127.0.0.1:{first.port}")
        update(engine, "a", progress=50)

        expect(tab.bar("a")).to_have_js_property("value", 50, timeout=40_000)
        expect(connection).to_have_text("Live", timeout=90_000)
        update(engine, "a", status="completed", progress=100)
        expect(tab.card("a")).to_contain_text("Completed", timeout=20_000)
    finally:
        context.close()
        nginx.process.terminate()
        nginx.process.wait()


# Everybody.


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["signed out", "empty", "tasks", "details", "one task", "nobody's task"])
def test_axe_finds_nothing_to_complain_of(visit: Visit, engine: sa.Engine, scheme: str, state: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    if state in ("tasks", "details", "one task"):
        for status in ("pending", "running", "completed", "failed", "timeout"):
            insert(engine, status, USER, status=status, progress=40, stage="some_stage", error_details="Traceback: x")
    if state == "signed out":
        visit.page.goto(visit.origin)
        expect(visit.page.get_by_label("Access token")).to_be_visible()
    elif state.endswith("task"):
        visit.open(fragment=f"token={make_token(USER)}&task={'failed' if state == 'one task' else 'none'}")
        expect(visit.page.locator("#task dl, #task-problem:not(:empty)")).to_be_visible()
    else:
        visit.open()
        expect(visit.page.locator("#connection")).to_have_text("Live")
    if state == "details":
        visit.page.get_by_text("More filters").click()
        for summary in visit.page.locator("li.task .foot summary").all():
            summary.click()

    found = axe.Axe().run(visit.page)

    assert found.response["violations"] == [], found.generate_report()


# Those that the element is made of.
NAMES = ("task-progress", "channel", "element", "follow", "requests", "style", "tabs", "texts", "transport")
MODULES = {f"{name}.js" for name in NAMES}
# And the page, before it shows the first of them: details, one task's view, languages and the tab's title come later.
PAGE_NAMES = ("address", "cards", "dom", "filters", "history", "list", "session", "tasks", "texts", "times")
PAGE = {f"page/{name}.js" for name in PAGE_NAMES}


def test_every_module_is_asked_for_at_once(visit: Visit) -> None:
    visit.page.goto(visit.origin)

    links = visit.page.locator("link[rel=modulepreload]").all()

    assert {str(link.get_attribute("href")).split("/static/")[-1] for link in links} == MODULES | PAGE


def test_the_first_bar_waits_for_less_than_80_kilobytes_and_asks_nobody_else(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)

    visit.open()
    expect(visit.bar("a")).to_have_js_property("value", 5)

    weights = visit.page.evaluate(
        """() => Object.fromEntries(
            [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
                .filter(({ name }) => !name.includes("/api/") || name.includes("/static/"))
                .map(({ name, encodedBodySize }) => [name.split("#")[0].split("/static/").at(-1), encodedBodySize]),
        )"""
    )
    later = {"page/tab.js", "extras.js", "cancel.js"}  # once the bar is there
    assert weights.keys() - later == {f"{visit.origin}/", "page.css", "page.js", *MODULES, *PAGE}
    assert sum(weights[name] for name in weights.keys() - later) < 80_000, weights
    assert sum(weights[name] for name in MODULES) < 30_000, weights
    assert [url for _, url in visit.requests if not url.startswith((visit.origin, "data:"))] == []


def test_the_first_bar_is_there_soon(visit: Visit, engine: sa.Engine, record_property: Any) -> None:
    """Half a second is what is meant; what is asserted leaves room for a busy machine."""
    insert(engine, "a", USER, status="running", progress=5)
    visit.open()
    expect(visit.bar("a")).to_have_js_property("value", 5)

    milliseconds = visit.page.evaluate(
        """() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/api/"))
            .reduce((latest, { responseStart }) => Math.max(latest, responseStart), 0)"""
    )

    record_property("first_bar_ms", json.dumps(milliseconds))
    assert 0 < milliseconds < 5_000
