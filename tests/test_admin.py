"""The administrators' view of the page in Chromium, against real gunicorn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from browser import USER, Visit
from harness import ROOT, Server, insert, make_token, row, update, wait_until
from test_overview import moment

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
expect = sync_api.expect

pytestmark = [
    # One database will do: no page knows which it is.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

ADMINISTRATOR = make_token(USER, is_admin=True)
STATIC = ROOT / "taskapi" / "static"
LATER = "2100-01-01T00:00:00Z"


@pytest.fixture
def visit(visit: Visit) -> Visit:
    """A tab so high that the list is in sight: what is far from it has no bars yet."""
    visit.page.set_viewport_size({"width": 1100, "height": 2400})
    return visit


def look(visit: Visit, wishes: str = "") -> Visit:
    """Open the view, and wait until it shows something."""
    visit.open(fragment=f"token={ADMINISTRATOR}&everyone{wishes}")
    expect(visit.page.locator(".numbers")).to_be_visible()
    return visit


@pytest.fixture
def tasks(engine: sa.Engine) -> None:
    """Two users' tasks: one waits, two run, three failed for two reasons, one was completed."""
    insert(engine, "waits", 7, kind="deck", status="queued", created_at=moment(125))
    for name, user in (("runs", 7), ("mine", USER)):
        insert(engine, name, user, kind="export", status="running", progress=40, lease_expires_at=LATER)
    for number in (1, 2):
        message = f"Card {number} is gone"
        insert(engine, f"gone {number}", 7, kind="deck", status="failed", result_message=message)
    insert(engine, "dead", 8, kind="export", status="timeout", result_message="The worker stopped reporting.")
    insert(engine, "done", 8, kind="deck", status="completed", created_at=moment(90), started_at=moment(70))


def tile(visit: Visit, name: str) -> Any:
    return visit.page.locator(".numbers li").filter(has_text=name)


def box(visit: Visit, task_id: str) -> Any:
    """What a task is chosen by."""
    visit.card(task_id).scroll_into_view_if_needed()
    return visit.card(task_id).get_by_role("checkbox")


# Who sees it.


def test_an_administrator_finds_it_from_their_own_tasks(visit: Visit, tasks: None) -> None:
    visit.open(ADMINISTRATOR)
    expect(visit.card("mine")).to_be_visible()

    visit.page.get_by_role("link", name="All users").click()
    expect(visit.card("runs")).to_contain_text("user 7")
    visit.page.get_by_role("link", name="My tasks").click()

    expect(visit.card("mine")).to_be_visible()
    expect(visit.page.locator(".numbers")).to_be_hidden()
    assert visit.complaints == []


def test_nobody_else_sees_or_loads_anything_of_it(visit: Visit, tasks: None) -> None:
    visit.open()
    expect(visit.card("mine")).to_be_visible()

    expect(visit.page.get_by_role("link", name="All users")).to_be_hidden()
    assert not [url for _, url in visit.requests if "/page/admin/" in url]
    assert not [url for path in ("kinds", "failures", "summary") for url in visit.asked("GET", f"/api/tasks/{path}")]
    assert visit.complaints == []


def test_who_is_no_administrator_and_has_the_link_is_told_so(visit: Visit, tasks: None) -> None:
    visit.open(fragment=f"token={make_token(USER)}&everyone")

    expect(visit.page.get_by_role("alert")).to_have_text("Only administrators see everybody’s tasks.")

    expect(visit.page.locator(".numbers")).to_be_hidden()
    asked = len(visit.requests)
    visit.page.wait_for_timeout(300)
    assert len(visit.requests) == asked


def test_a_refused_token_leads_back_to_the_form(visit: Visit, tasks: None) -> None:
    visit.open(fragment=f"token={make_token(USER, exp=1, is_admin=True)}&everyone")

    expect(visit.page.locator("#refusal")).to_contain_text("not accepted")
    expect(visit.page.get_by_label("Access token")).to_be_focused()


# What it shows.


def test_the_first_look_says_what_goes_on_and_what_is_wrong(visit: Visit, engine: sa.Engine, tasks: None) -> None:
    look(visit)

    expect(tile(visit, "Running")).to_contain_text("2")
    expect(tile(visit, "Waiting").first).to_contain_text("1")
    expect(tile(visit, "Oldest waiting")).to_contain_text(re.compile("^2m [0-9]+s.*deck$"))
    expect(tile(visit, "Stalled")).to_contain_text("0")
    expect(tile(visit, "Failed")).to_contain_text("3")
    reasons = visit.page.locator(".reasons li")
    expect(reasons).to_have_count(2)
    expect(reasons.first).to_contain_text("2Card … is gonedeck")
    expect(reasons.last).to_contain_text("1The worker stopped reporting.export")
    deck = visit.page.get_by_role("row").filter(has=visit.page.get_by_role("rowheader", name="deck"))
    expect(deck.get_by_role("cell")).to_have_text(
        ["0", "1", "67%2 of 3", re.compile("^20s9 in 10: 20s"), re.compile("^1m 10s")]
    )
    expect(visit.page.locator(".everyones li")).to_have_count(7)
    assert visit.complaints == []


def test_it_keeps_up_with_what_happens(visit: Visit, engine: sa.Engine, tasks: None) -> None:
    look(visit)
    expect(visit.bar("runs")).to_have_js_property("value", 40)

    update(engine, "runs", progress=80)
    update(engine, "waits", status="failed", result_message="Card 3 is gone")
    insert(engine, "new", 9, kind="deck", status="running", lease_expires_at=LATER)

    expect(visit.bar("runs")).to_have_js_property("value", 80, timeout=15_000)
    expect(visit.card("new")).to_be_visible()
    expect(visit.page.locator(".reasons li").first).to_contain_text("3Card … is gone", timeout=15_000)


def test_a_worker_that_is_silent_alarms(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "silent", kind="deck", status="running")
    look(visit)

    def is_alarming() -> bool:
        # Until the server closes it, which it does soon.
        update(engine, "silent", status="running", lease_expires_at="2026-01-01T00:00:00Z")
        visit.page.wait_for_timeout(50)
        return bool(tile(visit, "Stalled").get_attribute("class") == "alarming")

    wait_until(is_alarming)
    expect(tile(visit, "Stalled")).to_contain_text("1StalledStarted, and their worker is silent")


def test_a_hidden_tab_asks_for_nothing(visit: Visit, tasks: None) -> None:
    look(visit)
    visit.page.clock.install()
    visit.set_visibility("hidden")
    asked = len(visit.requests)

    visit.page.clock.run_for(60_000)
    assert len(visit.requests) == asked

    visit.set_visibility("visible")
    visit.page.wait_for_timeout(500)
    assert len(visit.requests) > asked


def test_a_reason_leads_to_its_tasks_and_back(visit: Visit, tasks: None) -> None:
    look(visit)

    visit.page.locator(".reasons a").first.click()
    expect(visit.page.locator(".everyones li")).to_have_count(2)

    assert {name for name in ("gone 1", "gone 2") if visit.card(name).is_visible()} == {"gone 1", "gone 2"}
    expect(visit.page.get_by_role("radio", name="Failed")).to_be_checked()
    assert "everyone&status=failed&kind=deck&q=is+gone" in visit.page.url
    visit.page.go_back()
    expect(visit.page.locator(".everyones li")).to_have_count(7)


def test_the_filters_are_in_the_address(visit: Visit, tasks: None) -> None:
    look(visit)

    visit.page.get_by_role("radio", name="Waiting").check()
    expect(visit.page.locator(".everyones li")).to_have_count(1)
    visit.page.get_by_role("radio", name="All").check()
    visit.page.get_by_role("textbox", name="User").fill("8")
    expect(visit.page.locator(".everyones li")).to_have_count(2)
    visit.page.reload()

    expect(visit.page.locator(".everyones li")).to_have_count(2)
    expect(visit.page.get_by_role("textbox", name="User")).to_have_value("8")
    assert visit.page.url.endswith("#everyone&user_id=8")


def test_a_long_list_comes_by_pages(visit: Visit, engine: sa.Engine) -> None:
    for number in range(55):
        insert(engine, f"t{number}", status="completed")
    look(visit)
    entries = visit.page.locator(".everyones li")
    expect(entries).to_have_count(50)

    visit.page.get_by_role("button", name="Older").click()
    expect(entries).to_have_count(5)
    visit.page.get_by_role("button", name="Newer").click()

    expect(entries).to_have_count(50)
    expect(visit.page.get_by_role("button", name="Newer")).to_be_hidden()


# Stopping many.


def test_those_that_are_chosen_are_stopped_after_a_question(visit: Visit, engine: sa.Engine, tasks: None) -> None:
    look(visit)
    expect(visit.page.get_by_role("button", name="Cancel selected")).to_be_hidden()
    for name in ("waits", "runs"):
        box(visit, name).check()

    visit.page.get_by_role("button", name="Cancel selected (2)").click()
    group = visit.page.get_by_role("group", name="Stop the selected tasks? (2)")
    expect(group.get_by_role("button", name="Let them go on")).to_be_focused()
    visit.page.keyboard.press("Escape")
    expect(group).to_be_hidden()
    assert row(engine, "waits")["status"] == "queued"
    update(engine, "runs", status="completed")
    visit.page.keyboard.press("Enter")
    group.get_by_role("button", name="Stop them").click()

    told = "Stopped, or asked to stop: 1. Had already ended: 1. Not found: 0."
    expect(visit.page.locator(".chosen [role=status]")).to_have_text(told)
    assert (row(engine, "waits")["status"], row(engine, "waits")["result_message"]) == ("failed", "Cancelled.")
    assert row(engine, "mine")["cancel_requested_at"] is None
    expect(visit.card("waits")).to_contain_text("Cancelled")
    assert len(visit.asked("POST", "/api/tasks/cancel")) == 1
    assert visit.complaints == []


def test_all_that_go_on_can_be_chosen_by_keyboard(visit: Visit, tasks: None) -> None:
    look(visit)
    visit.page.get_by_label("Select all").focus()

    visit.page.keyboard.press("Space")
    expect(visit.page.get_by_role("button", name="Cancel selected (3)")).to_be_visible()
    visit.page.keyboard.press("Tab")

    expect(visit.page.get_by_role("button", name="Cancel selected (3)")).to_be_focused()
    expect(visit.page.locator(".everyones input:checked:visible")).to_have_count(3)


def test_while_some_are_chosen_none_comes_under_the_hand(visit: Visit, engine: sa.Engine, tasks: None) -> None:
    look(visit)
    box(visit, "waits").check()

    insert(engine, "new", 9, kind="deck", status="running", lease_expires_at=LATER)
    expect(tile(visit, "Running")).to_contain_text("3", timeout=15_000)
    expect(visit.card("new")).to_have_count(0)
    box(visit, "waits").uncheck()

    expect(visit.card("new")).to_be_visible(timeout=15_000)


# What it asks of the server.


def test_two_administrators_cost_the_database_one_question(
    start_server: Callable[..., Server], open_tab: Callable[[Server], Visit], engine: sa.Engine
) -> None:
    server = start_server()
    first = look(open_tab(server))
    insert(engine, "a", kind="deck", status="failed", result_message="It broke.")

    second = look(open_tab(server))

    # What was asked for the first is what the second is shown: whoever had asked again would see the failure.
    expect(tile(second, "Failed")).to_contain_text("0")
    assert len(second.asked("GET", "/api/tasks/failures")) == 1
    expect(tile(first, "Failed")).to_contain_text("1", timeout=20_000)
    expect(tile(second, "Failed")).to_contain_text("1", timeout=20_000)


# Everybody.


def test_text_of_a_task_is_only_text(visit: Visit, engine: sa.Engine) -> None:
    hostile = '<img src=x onerror="window.harmed=1"><b>bold</b>'
    for name, status in (("a", "failed"), ("b", "running")):
        insert(engine, f"{name}{hostile}", 7, kind=hostile, stage=hostile, status=status, result_message=hostile)

    look(visit)

    expect(visit.page.locator(".reasons")).to_contain_text(hostile)
    expect(visit.page.get_by_role("rowheader")).to_have_text(hostile)
    expect(visit.page.locator("img, b")).to_have_count(0)
    assert visit.page.evaluate("window.harmed") is None
    visit.page.locator(".reasons a").click()
    expect(visit.page.locator(".everyones li")).to_have_count(1)
    assert visit.complaints == []


def test_a_narrow_phone_needs_no_sideways_scrolling(visit: Visit, engine: sa.Engine, tasks: None) -> None:
    insert(engine, "x" * 255, 2**62, kind="y" * 200, status="failed", result_message="z" * 500)
    insert(engine, "long", kind="y" * 200, status="queued", created_at="2026-01-01T00:00:00Z")
    visit.page.set_viewport_size({"width": 360, "height": 740})

    look(visit)

    visit.page.get_by_label("Select all").check()
    expect(visit.page.get_by_role("button", name="Cancel selected")).to_be_visible()
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_axe_finds_nothing_to_complain_of(
    visit: Visit, engine: sa.Engine, tasks: None, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    insert(engine, "stalled", kind="export", status="running", lease_expires_at="2026-01-01T00:00:00Z")
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    look(visit)
    visit.page.get_by_label("Select all").check()
    visit.page.get_by_role("button", name="Cancel selected").click()
    expect(visit.page.locator("[aria-busy]")).to_have_count(0)  # a list that is asked for anew is dimmed

    found = axe.Axe().run(visit.page)

    assert found.response["violations"] == [], found.generate_report()


def sentences(path: str) -> set[str]:
    return set(re.findall(r'^  (\w+): "', (STATIC / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("language", ["ar", "de", "es", "fr", "ja"])
def test_it_speaks_the_readers_language(visit: Visit, tasks: None, language: str) -> None:
    visit.page.goto(f"{visit.origin}/?lang={language}#token={ADMINISTRATOR}&everyone")
    expect(visit.page.locator(".numbers")).to_be_visible()

    said = visit.page.locator("#everyone").inner_text()

    english = re.findall(r'^  \w+: "([^"{]+)"', (STATIC / "page/admin/texts.js").read_text(), re.MULTILINE)
    assert [sentence for sentence in english if len(sentence) > 12 and sentence in said] == []
    ours = sentences(f"page/admin/languages/{language}.js")
    assert sentences("page/admin/texts.js") - sentences(f"page/languages/{language}.js") <= ours
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_any_sentence_can_be_another_one(visit: Visit, tasks: None) -> None:
    override = json.dumps({"stalled": "Silent", "kinds": "Durations"})
    visit.page.route(
        "**/static/page/admin/view.js",
        lambda route: route.fulfill(
            body=f"""import {{ TaskProgress }} from "../../task-progress.js";
            TaskProgress.messages = {override};
            {(STATIC / "page/admin/view.js").read_text()}""",
            content_type="text/javascript",
        ),
    )

    look(visit)

    expect(tile(visit, "Silent")).to_be_visible()
    expect(visit.page.get_by_role("heading", name="Durations")).to_be_visible()
