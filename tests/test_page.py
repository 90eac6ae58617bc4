"""The page at `/` and the element `<task-progress>` in Chromium, against real gunicorn."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from browser import USER, Visit
from harness import Server, insert, make_token, update, wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
expect = sync_api.expect

pytestmark = [
    # One database will do: no page knows which it is.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

# The page.


def test_a_bar_moves_when_a_row_is_updated_by_hand(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=10, total_items=50)
    visit.open()
    expect(visit.bar("a")).to_have_js_property("value", 10)

    update(engine, "a", progress=46, completed_items=23, stage="generating_cards")

    expect(visit.bar("a")).to_have_js_property("value", 46)
    expect(visit.card("a")).to_contain_text("Generating cards")
    expect(visit.card("a")).to_contain_text("23 of 50")
    expect(visit.card("a")).to_contain_text("46%")


def test_tasks_share_one_stream_and_a_new_one_appears_by_itself(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running")
    insert(engine, "b", USER, status="running")
    visit.open()
    expect(visit.page.locator("#active li")).to_have_count(2)

    insert(engine, "c", USER, status="queued")
    update(engine, "a", progress=30)
    update(engine, "b", progress=60)

    expect(visit.card("c")).to_contain_text("Queued")
    expect(visit.bar("a")).to_have_js_property("value", 30)
    expect(visit.bar("b")).to_have_js_property("value", 60)
    assert [len(visit.asked(method, "/api/tasks/users/me/events")) for method in ("POST", "GET")] == [1, 1]
    assert visit.complaints == []


def test_a_task_that_ends_moves_to_the_history(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=40)
    insert(engine, "b", USER, status="running", progress=40)
    visit.open()
    expect(visit.page.locator("#active li")).to_have_count(2)

    update(engine, "a", status="completed", result_message="50 cards created")
    update(engine, "b", status="failed", result_message="The disk is full.")

    expect(visit.page.locator("#history li")).to_have_count(2)
    expect(visit.page.locator("#active")).to_be_hidden()
    expect(visit.bar("a")).to_have_js_property("value", 100)
    expect(visit.bar("b")).to_have_js_property("value", 40)
    expect(visit.card("a")).to_contain_text("50 cards created")
    expect(visit.card("b")).to_contain_text("The disk is full.")


def test_the_token_leaves_the_address_bar_and_stays_in_the_tab(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER)
    visit.open()
    expect(visit.card("a")).to_be_visible()
    assert visit.page.url == f"{visit.origin}/"

    visit.page.reload()

    expect(visit.card("a")).to_be_visible()
    assert not [url for _, url in visit.requests if make_token(USER).split(".")[0] in url.split("#")[0]]


def test_text_of_a_task_is_only_text(visit: Visit, engine: sa.Engine) -> None:
    hostile = '<img src=x onerror="window.harmed=1"><b>bold</b>'
    columns = dict.fromkeys(("stage", "result_message", "error_details"), hostile)
    insert(engine, hostile, USER, status="running", **columns)
    insert(engine, "b", USER, status="failed", **columns)
    visit.open()

    visit.page.locator("#active .foot summary").click()
    visit.page.locator("#history .foot summary").click()

    expect(visit.page.locator("#active")).to_contain_text(hostile)
    expect(visit.page.locator("#history dd.code")).to_have_text(hostile)
    expect(visit.page.locator("img, b")).to_have_count(0)
    assert visit.page.evaluate("window.harmed") is None
    assert visit.complaints == []


@pytest.mark.parametrize("token", ["nonsense", make_token(USER, exp=1), make_token(USER, key="x" * 40)])
def test_a_refused_token_is_said_to_be_refused(visit: Visit, engine: sa.Engine, token: str) -> None:
    insert(engine, "a", USER)
    visit.open(token)
    expect(visit.page.get_by_role("alert")).to_contain_text("not accepted")

    visit.page.get_by_label("Access token").fill(make_token(USER))
    visit.page.keyboard.press("Enter")

    expect(visit.card("a")).to_be_visible()
    expect(visit.page.get_by_role("alert")).to_be_hidden()


def test_a_token_that_expires_meanwhile_leads_back_to_the_form(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER)
    visit.open(make_token(USER, exp=int(time.time()) + 3))
    expect(visit.card("a")).to_be_visible()

    expect(visit.page.get_by_role("alert")).to_contain_text("expired")

    expect(visit.page.locator("task-progress")).to_have_count(0)


def test_signing_out_shows_nothing_of_the_tasks_any_more(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER)
    visit.open()
    expect(visit.card("a")).to_be_visible()

    visit.page.get_by_role("button", name="Sign out").click()

    expect(visit.page.get_by_label("Access token")).to_be_focused()
    expect(visit.page.locator("task-progress")).to_have_count(0)
    visit.wait_for("streams.every(stream => stream.readyState === EventSource.CLOSED)")
    assert visit.page.evaluate("sessionStorage.length") == 0


def test_without_tasks_the_page_says_how_to_make_one(visit: Visit, engine: sa.Engine) -> None:
    visit.open()
    expect(visit.page.locator("#empty")).to_contain_text(f"Progress().task(user_id={USER}")

    insert(engine, "a", USER)

    expect(visit.card("a")).to_be_visible()
    expect(visit.page.locator("#empty")).to_be_hidden()


def test_the_history_comes_page_by_page(visit: Visit, engine: sa.Engine) -> None:
    for number in range(45):
        insert(engine, f"t{number}", USER, status="completed")
    visit.open()
    entries = visit.page.locator("#history li")
    expect(entries).to_have_count(20)

    visit.page.get_by_role("button", name="Show older").click()

    expect(entries).to_have_count(45)
    expect(visit.page.get_by_role("button", name="Show older")).to_be_hidden()
    assert [entry.get_attribute("data-task-id") for entry in entries.all()] == [f"t{n}" for n in range(44, -1, -1)]


def test_the_filter_shows_one_kind(visit: Visit, engine: sa.Engine) -> None:
    for status in ("running", "queued", "completed", "failed", "timeout"):
        insert(engine, status, USER, status=status)
    visit.open()

    for name, kept in {"In progress": 2, "Completed": 1, "Failed": 2, "All": 5}.items():
        visit.page.get_by_role("radio", name=name).check()
        expect(visit.page.locator("li.task:visible")).to_have_count(kept)


def test_details_open_by_keyboard_and_by_a_click_anywhere(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="failed", error_details="Traceback: it broke")
    visit.open()
    error = visit.card("a").locator("dd.code")

    visit.card("a").locator(".foot summary").focus()
    visit.page.keyboard.press("Enter")
    expect(error).to_have_text("Traceback: it broke")
    visit.bar("a").click()

    expect(error).to_be_hidden()


def test_an_administrator_looks_up_the_task_of_somebody_else(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "theirs/50%", 7, status="running", progress=70)
    insert(engine, "theirs", 7, status="running", progress=70)
    visit.open(make_token(USER, is_admin=True))
    visit.page.get_by_text("Look up a task").click()

    visit.page.get_by_label("Task id").fill("theirs")
    visit.page.keyboard.press("Enter")

    expect(visit.page.locator("#task progress")).to_have_js_property("value", 70)


def test_nobody_else_looks_it_up(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "theirs", 7, status="running")
    visit.open()
    visit.page.get_by_text("Look up a task").click()

    for task_id, answer in {"theirs": "somebody else’s", "none": "no such task"}.items():
        visit.page.get_by_label("Task id").fill(task_id)
        visit.page.keyboard.press("Enter")
        expect(visit.page.get_by_role("alert")).to_contain_text(answer)
        visit.page.get_by_role("link", name="All tasks").click()


def test_a_narrow_phone_needs_no_sideways_scrolling(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "x" * 255, USER, status="failed", result_message="y" * 500, error_details="z" * 500)
    visit.page.set_viewport_size({"width": 360, "height": 740})
    visit.open()
    visit.page.locator("li.task .foot summary").click()

    expect(visit.page.locator("dd.code")).to_be_visible()
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


# The element.


def test_an_element_streams_until_done_and_then_asks_no_more(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running")
    visit.open_element("a")
    expect(visit.page.get_by_role("progressbar", name="a", exact=True)).not_to_have_attribute("value", re.compile(""))

    update(engine, "a", progress=50)
    expect(visit.bar()).to_have_js_property("value", 50)
    update(engine, "a", status="completed")

    visit.wait_for("events.some(event => event.name === 'done')")
    visit.wait_for("streams.every(stream => stream.readyState === EventSource.CLOSED)")  # it never reconnects
    assert [event["status"] for event in visit.events("progress")] == ["running", "running", "completed"]
    assert len(visit.events("done")) == 1
    assert visit.page.evaluate("document.querySelector('task-progress').task.status") == "completed"
    assert [len(visit.asked(method, "/api/tasks/a/events")) for method in ("POST", "GET")] == [1, 1]
    assert visit.asked("GET", "/api/tasks/a/status") == []
    assert visit.complaints == []


def test_elements_of_one_task_share_one_connection(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.open_element("a", "a", "a")
    expect(visit.bar()).to_have_count(3)

    update(engine, "a", progress=80)

    for number in range(3):
        expect(visit.bar().nth(number)).to_have_js_property("value", 80)
    assert len(visit.asked("GET", "/api/tasks/a/events")) == 1


def test_an_element_that_leaves_the_page_closes_its_stream(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.open_element("a")
    expect(visit.bar()).to_have_js_property("value", 5)

    visit.page.evaluate("document.querySelector('task-progress').remove()")

    visit.wait_for("streams[0].readyState === EventSource.CLOSED")


def test_a_stream_outlives_the_token_that_opened_it(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    dying = make_token(USER, exp=int(time.time()) + 3)
    visit.open_element("a", tokens=[dying, make_token(USER)])
    expect(visit.bar()).to_have_js_property("value", 5)
    visit.wait_for("streams.length === 2")

    update(engine, "a", progress=60)

    expect(visit.bar()).to_have_js_property("value", 60)
    assert "last_event_id=" in visit.asked("GET", "/api/tasks/a/events")[1]
    assert visit.complaints == []


def test_a_refused_token_is_asked_for_once_more(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.open_element("a", tokens=["stale", make_token(USER)])
    expect(visit.bar()).to_have_js_property("value", 5)

    assert visit.events("error") == []


@pytest.mark.parametrize(
    ("task_id", "tokens", "status"),
    [("theirs", None, 403), ("none", None, 404), ("theirs", ["stale"], 401), ("theirs", [], 401)],
)
def test_what_cannot_be_followed_is_an_error_and_the_end(
    visit: Visit, engine: sa.Engine, task_id: str, tokens: list[str] | None, status: int
) -> None:
    insert(engine, "theirs", 7)

    visit.open_element(task_id, tokens=tokens)

    visit.wait_for("events.length === 1")
    (error,) = visit.events("error")
    assert error["status"] == status
    expect(visit.page.locator("task-progress")).to_contain_text(error["message"])
    assert visit.page.evaluate("streams.every(stream => stream.readyState === EventSource.CLOSED)")


def _fail(route: Any) -> None:
    route.fulfill(status=502, body="")


def _abort(route: Any) -> None:
    route.abort()


@pytest.mark.parametrize("break_it", [_fail, _abort])
def test_where_streams_fail_an_element_polls(visit: Visit, engine: sa.Engine, break_it: Callable[[Any], None]) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.page.route(re.compile("/events"), break_it)
    with visit.page.expect_response(lambda response: response.status == 304):
        visit.open_element("a")

    update(engine, "a", progress=60)
    expect(visit.bar()).to_have_js_property("value", 60)
    update(engine, "a", status="failed", result_message="Out of paper.")

    expect(visit.page.locator("task-progress")).to_contain_text("Out of paper.")
    visit.wait_for("events.some(event => event.name === 'done')")


def test_where_a_proxy_holds_streams_back_an_element_polls_and_later_tries_again(
    visit: Visit, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.page.clock.install()
    held = re.compile(r"/events\?")
    visit.page.route(held, lambda route: None)
    visit.open_element("a")
    visit.wait_for("streams.length === 1")

    visit.page.clock.fast_forward(5_000)
    expect(visit.bar()).to_have_js_property("value", 5)
    assert len(visit.asked("GET", "/api/tasks/a/status")) == 1
    visit.page.unroute(held)
    visit.page.clock.fast_forward(61_000)

    visit.wait_for("streams.at(-1).readyState === EventSource.OPEN")
    update(engine, "a", progress=60)
    expect(visit.bar()).to_have_js_property("value", 60)


def test_a_hidden_tab_holds_no_stream(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.page.clock.install()
    visit.open_element("a")
    expect(visit.bar()).to_have_js_property("value", 5)

    visit.set_visibility("hidden")
    visit.page.clock.fast_forward(31_000)
    visit.wait_for("streams[0].readyState === EventSource.CLOSED")
    update(engine, "a", progress=60)
    visit.set_visibility("visible")

    expect(visit.bar()).to_have_js_property("value", 60)
    assert "last_event_id=" in visit.asked("GET", "/api/tasks/a/events")[1]


def test_a_cookie_will_do_where_there_is_no_token(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    cookie = {"name": "access_token_cookie", "value": make_token(USER), "url": visit.origin}
    visit.page.context.add_cookies([cookie])
    visit.open_element("a", tokens=[])
    expect(visit.bar()).to_have_js_property("value", 5)

    update(engine, "a", progress=60)

    expect(visit.bar()).to_have_js_property("value", 60)
    assert [len(visit.asked(method, "/api/tasks/a/events")) for method in ("POST", "GET")] == [0, 1]


def test_where_no_stream_is_to_be_had_an_element_polls(
    open_tab: Callable[[Server], Visit], start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    server = start_server(MAX_STREAMS_PER_USER=1)
    server.stream("/api/tasks/a/events", USER).next()
    visit = open_tab(server).open_element("a")
    expect(visit.bar()).to_have_js_property("value", 5)

    update(engine, "a", progress=60)

    expect(visit.bar()).to_have_js_property("value", 60)
    assert visit.asked("GET", "/api/tasks/a/status")


@pytest.mark.slow
def test_bars_go_on_after_the_server_was_reloaded(
    open_tab: Callable[[Server], Visit], start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    server = start_server()
    visit = open_tab(server).open()
    expect(visit.bar("a")).to_have_js_property("value", 5)

    old = server.workers()
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.workers() and not set(server.workers()) & set(old))
    update(engine, "a", progress=60)

    expect(visit.bar("a")).to_have_js_property("value", 60)
    expect(visit.page.locator("#connection")).to_have_text("Live")
    assert visit.complaints == []
