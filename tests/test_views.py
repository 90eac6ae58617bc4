"""What the page at `/` shows, as its address asks for it: filters, one task, languages; and how it bears many tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from browser import USER, Visit
from harness import ROOT, Server, insert, make_token, update

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
expect = sync_api.expect

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HOSTILE = '"><img src=x onerror="window.harmed=1"><b>bold'
STATIC = ROOT / "taskapi" / "static"


@pytest.fixture
def shown(visit: Visit) -> Any:
    """The tasks that are on the page."""
    return visit.page.locator("li.task")


def insert_many(engine: sa.Engine, **statuses: int) -> None:
    """So many tasks of each status, the later ones newer."""
    rows = [(f"{status}-{number}", status) for status, count in statuses.items() for number in range(count)]
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO user_tasks (task_id, user_id, status) VALUES (:id, :user, :status)"),
            [{"id": task_id, "user": USER, "status": status} for task_id, status in rows],
        )


def ago(**duration: float) -> str:
    return (datetime.now(UTC) - timedelta(**duration)).isoformat()


# Filters.


def test_a_filter_finds_what_is_far_down_in_the_list(visit: Visit, engine: sa.Engine, shown: Any) -> None:
    insert_many(engine, failed=3, completed=205)
    visit.open()
    expect(shown).to_have_count(20)

    visit.page.get_by_role("radio", name="Failed").check()

    expect(shown).to_have_count(3)
    expect(visit.page.locator("#older")).to_be_hidden()


def test_filters_stand_in_the_address_and_go_back_and_forward(visit: Visit, engine: sa.Engine, shown: Any) -> None:
    insert(engine, "a", USER, status="failed", kind="deck", learning_path_id=7, result_message="The disk is full.")
    insert(engine, "b", USER, status="failed", kind="deck", learning_path_id=8)
    insert(engine, "c", USER, status="running", kind="export", learning_path_id=7)
    visit.open()
    expect(shown).to_have_count(3)

    visit.page.get_by_role("radio", name="Failed").check()
    expect(shown).to_have_count(2)
    visit.page.get_by_role("searchbox").fill("DISK IS")
    expect(shown).to_have_count(1)
    assert visit.page.url == f"{visit.origin}/#status=failed&q=DISK+IS"
    visit.page.reload()
    expect(shown).to_have_count(1)
    expect(visit.page.get_by_role("searchbox")).to_have_value("DISK IS")
    visit.page.go_back()

    expect(shown).to_have_count(3)
    expect(visit.page.get_by_role("radio", name="All")).to_be_checked()
    visit.page.goto(f"{visit.origin}/#kind=deck&learning_path_id=8")
    expect(visit.page.get_by_label("Learning path")).to_have_value("8")
    expect(visit.card("b")).to_be_visible()
    expect(shown).to_have_count(1)
    assert not [url for _, url in visit.requests if "token" in url.partition("?")[2]]


def test_a_link_with_filters_is_followed_once_its_reader_has_signed_in(
    visit: Visit, engine: sa.Engine, shown: Any
) -> None:
    insert_many(engine, failed=1, completed=1)

    visit.open(fragment=f"token={make_token(USER)}&status=failed")

    expect(shown).to_have_count(1)
    assert visit.page.url == f"{visit.origin}/#status=failed"


def test_what_comes_to_match_a_filter_appears_and_what_no_longer_does_goes(
    visit: Visit, engine: sa.Engine, shown: Any
) -> None:
    insert(engine, "deck", USER, status="running", kind="deck")
    insert(engine, "export", USER, status="running", kind="export", result_message="half")
    visit.open(fragment=f"token={make_token(USER)}&status=active&q=deck")
    expect(visit.card("deck")).to_be_visible()
    expect(shown).to_have_count(1)

    insert(engine, "another", USER, status="queued", kind="deck")
    update(engine, "export", result_message="the deck is next")
    expect(shown).to_have_count(3)
    update(engine, "deck", status="completed")

    expect(shown).to_have_count(2)


def test_where_nothing_matches_the_way_back_is_offered(visit: Visit, engine: sa.Engine, shown: Any) -> None:
    insert(engine, "a", USER)
    visit.open(fragment=f"token={make_token(USER)}&q=nothing like it")
    expect(visit.page.get_by_text("No such tasks.")).to_be_visible()

    visit.page.get_by_role("button", name="Show all").click()

    expect(shown).to_have_count(1)
    assert visit.page.url == f"{visit.origin}/"


def test_a_filter_that_cannot_be_is_said_to_be_none(visit: Visit, engine: sa.Engine) -> None:
    visit.open(fragment=f"token={make_token(USER)}&learning_path_id=x")

    expect(visit.page.get_by_role("alert")).to_contain_text("learning_path_id")


def test_what_cannot_be_loaded_is_said_and_tried_again(visit: Visit, engine: sa.Engine, shown: Any) -> None:
    insert_many(engine, completed=25)
    visit.open()
    expect(shown).to_have_count(20)
    visit.page.route("**/users/me?*skip=*", lambda route: route.abort())

    visit.page.get_by_role("button", name="Show older").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("the server did not answer")
    visit.page.unroute("**/users/me?*skip=*")
    visit.page.get_by_role("button", name="Try again").click()

    expect(shown).to_have_count(25)
    expect(visit.page.get_by_role("alert")).to_be_hidden()


# One task.


def test_a_task_has_a_link_that_can_be_sent(visit: Visit, engine: sa.Engine) -> None:
    task_id = f"{HOSTILE} 50%&token=x"
    insert(engine, task_id, USER, status="running", progress=30)
    visit.open()

    visit.page.get_by_role("link", name="link to this task").click()

    expect(visit.page.locator("#task progress")).to_have_js_property("value", 30)
    expect(visit.page.locator("#task dl")).to_contain_text(task_id)
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_role("link", name="All tasks")).to_be_focused()  # the keyboard goes on from there
    visit.page.reload()
    expect(visit.page.locator("#task progress")).to_have_js_property("value", 30)
    update(engine, task_id, status="completed")
    expect(visit.page.locator("#task progress")).to_have_js_property("value", 100)
    visit.page.get_by_role("link", name="All tasks").click()
    expect(visit.page.locator("#history li")).to_have_count(1)


@pytest.mark.parametrize(("task_id", "answer"), [("theirs", "somebody else’s"), ("none", "no such task")])
def test_who_may_not_see_it_is_told_so(visit: Visit, engine: sa.Engine, task_id: str, answer: str) -> None:
    insert(engine, "theirs", 7)

    visit.open(fragment=f"token={make_token(USER)}&task={task_id}")

    expect(visit.page.get_by_role("alert")).to_contain_text(answer)
    expect(visit.page.locator("#one")).to_be_hidden()


def test_whoever_is_not_signed_in_sees_the_task_afterwards(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=30)
    visit.open(fragment="task=a")

    visit.page.get_by_label("Access token").fill(make_token(USER))
    visit.page.keyboard.press("Enter")

    expect(visit.page.locator("#task progress")).to_have_js_property("value", 30)


def test_an_id_and_a_link_are_copied(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a b", USER, status="running")
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open()
    visit.card("a b").locator(".foot summary").click()

    for name, text in {"Copy id": "a b", "Copy link": f"{visit.origin}/#task=a+b"}.items():
        visit.page.get_by_role("button", name=name).click()
        expect(visit.page.get_by_role("button", name="Copied")).to_be_visible()
        assert visit.page.evaluate("navigator.clipboard.readText()") == text
        expect(visit.page.get_by_role("button", name=name)).to_be_visible()


# A card.


def test_a_card_says_kind_path_and_how_long_ago(visit: Visit, engine: sa.Engine) -> None:
    made = ago(minutes=3.5)
    task_id = "deck_export_123_20261123T081500Z_1"
    times = {"created_at": made, "started_at": "2026-01-01T00:00:00.000Z", "ended_at": "2026-01-01T00:00:00.350Z"}
    insert(engine, task_id, USER, status="completed", learning_path_id=456, **times)
    visit.open()

    card = visit.card(task_id)
    expect(card).to_contain_text("Deck export · path 456")
    expect(card).to_contain_text("350 ms")
    expect(card.locator(".when")).to_have_text("3 minutes ago")
    expect(card.locator(".when time")).to_have_attribute("title", re.compile(str(datetime.now(UTC).year)))
    card.locator(".foot summary").click()

    expect(card.locator("dl")).to_contain_text("350 ms")


def test_a_task_is_cancelled_from_its_card_without_a_stream_of_its_own(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    insert(engine, "b", USER, status="completed")
    visit.open()
    expect(visit.card("b")).to_be_visible()

    visit.card("a").get_by_role("button", name="Cancel").click()
    visit.card("a").get_by_role("button", name="Stop it").click()

    expect(visit.card("a")).to_contain_text("Cancelling…")
    expect(visit.card("b").get_by_role("button", name="Cancel")).to_have_count(0)
    expect(visit.card("a").locator("dl")).to_have_count(0)  # no click on a button opens the details
    assert visit.asked("GET", "/api/tasks/a/events") + visit.asked("GET", "/api/tasks/a/status") == []
    assert visit.complaints == []


def test_a_cookie_signs_in_and_cancels_with_the_word_against_forgery(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="queued")
    cookies = {"access_token_cookie": make_token(USER, csrf="double"), "csrf_access_token": "double"}
    visit.page.context.add_cookies(
        [{"name": name, "value": value, "url": visit.origin} for name, value in cookies.items()]
    )
    visit.page.goto(visit.origin)
    expect(visit.page.locator("#connection")).to_have_text("Live")
    expect(visit.page.get_by_role("button", name="Sign out")).to_be_hidden()

    visit.card("a").get_by_role("button", name="Cancel").click()
    with visit.page.expect_request("**/cancel") as asked:
        visit.card("a").get_by_role("button", name="Stop it").click()

    assert asked.value.headers["x-csrf-token"] == "double"
    expect(visit.page.locator("#history")).to_contain_text("Cancelled")


# The tab.


def test_a_hidden_tab_says_how_far_its_tasks_are(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=20)
    insert(engine, "b", USER, status="running", progress=60)
    visit.open()
    expect(visit.page).to_have_title("(2) Tasks")
    icon = visit.page.get_attribute("link[rel=icon]", "href")

    visit.set_visibility("hidden")
    expect(visit.page).to_have_title("40% · Tasks")
    assert visit.page.get_attribute("link[rel=icon]", "href") != icon
    update(engine, "a", status="completed")
    expect(visit.page).to_have_title("80% · Tasks")
    update(engine, "b", status="failed")
    expect(visit.page).to_have_title("Failed · Tasks")
    visit.set_visibility("visible")

    expect(visit.page).to_have_title("Tasks")
    assert visit.page.get_attribute("link[rel=icon]", "href") == icon
    assert visit.complaints == []


# Languages.


def page_in(open_tab: Callable[[Server], Visit], server: Server, locale: str) -> Visit:
    visit = open_tab(server)
    visit.page.add_init_script(
        f"Object.defineProperty(navigator, 'languages', {{ value: {json.dumps(['xx', locale, 'en'])} }})"
    )
    return visit


@pytest.mark.parametrize(
    ("locale", "direction", "texts"),
    [
        ("de-AT", "ltr", ["Aufgaben", "In Arbeit", "Läuft", "Lernpfad", "Pfad 456"]),
        ("ar", "rtl", ["المهام", "قيد التنفيذ", "المسار"]),
        ("nl", "ltr", ["Tasks", "In progress", "Running", "path 456"]),
    ],
)
def test_the_page_speaks_the_browsers_language(
    open_tab: Callable[[Server], Visit],
    server: Server,
    engine: sa.Engine,
    locale: str,
    direction: str,
    texts: list[str],
) -> None:
    insert(engine, "a", USER, status="running", learning_path_id=456)
    visit = page_in(open_tab, server, locale).open()

    for text in texts:
        expect(visit.page.locator("body")).to_contain_text(text)
    assert visit.page.evaluate("[document.documentElement.dir, document.documentElement.scrollWidth]") == [
        direction,
        visit.page.viewport_size["width"],
    ]


def _with_script(route: Any) -> None:
    response = route.fetch()
    body = response.text().replace("<script", '<script type="module" src="/mine.js"></script><script', 1)
    route.fulfill(response=response, body=body)


def test_a_language_may_be_asked_for_and_any_sentence_replaced(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running")
    # As in a template of the application's own.
    mine = """import { TaskProgress } from "/api/tasks/static/task-progress.js";
        TaskProgress.messages = { tasks: "Mes affaires", live: "En ligne" };"""
    visit.page.route("**/mine.js", lambda route: route.fulfill(body=mine, content_type="text/javascript"))
    visit.page.route(re.compile(r"/\?lang=fr"), _with_script)

    visit.page.goto(f"{visit.origin}/?lang=fr#token={make_token(USER)}")

    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Mes affaires")
    expect(visit.page.locator("#connection")).to_have_text("En ligne")
    expect(visit.card("a")).to_contain_text("En cours")
    expect(visit.page.get_by_role("button", name="Se déconnecter")).to_be_visible()
    assert visit.page.url == f"{visit.origin}/?lang=fr"


def test_every_language_has_every_sentence_of_the_page(visit: Visit) -> None:
    visit.page.goto(visit.origin)

    said = visit.page.evaluate(
        """async modules => {
            await Promise.all(modules.map(name => import(`/static/page/${name}`)));
            const { ENGLISH } = await import("/static/page/texts.js");
            const keys = async path => Object.keys((await import(`/static/${path}.js`)).default);
            const all = { en: Object.keys(ENGLISH), bars: await keys("languages/de") };
            for (const name of ["ar", "de", "es", "fr", "ja"]) all[name] = await keys(`page/languages/${name}`);
            return all;
        }""",
        [path.name for path in (STATIC / "page").glob("*.js")],
    )

    template = (ROOT / "taskapi" / "site" / "templates" / "taskapi" / "index.html").read_text()
    wanted = {*said["en"], *re.findall(r'data-say(?:-\w+)?="(\w+)"', template)}
    for language in ("ar", "de", "es", "fr", "ja"):
        assert wanted - {*said[language], *said["bars"]} == set(), language
        assert set(said[language]) - wanted == set(), language


# Everybody.


def test_hostile_text_stays_text_wherever_it_stands(visit: Visit, engine: sa.Engine) -> None:
    columns = dict.fromkeys(("kind", "stage", "result_message", "error_details"), HOSTILE)
    insert(engine, f"{HOSTILE}_1_20261123T000000Z_1", USER, status="queued", **columns)

    visit.open()
    visit.page.get_by_role("searchbox").fill(HOSTILE)
    expect(visit.page.locator("li.task")).to_have_count(1)
    visit.page.locator(".foot summary").click()
    expect(visit.page.locator("dl")).to_contain_text(HOSTILE)
    visit.page.locator(".when").click()

    expect(visit.page.locator("#task dl")).to_contain_text(HOSTILE)
    expect(visit.page.locator("img, b")).to_have_count(0)
    assert visit.page.evaluate("window.harmed") is None
    assert visit.complaints == []


def test_no_string_becomes_markup(visit: Visit) -> None:
    response = visit.page.goto(visit.origin)
    policy = response.headers["content-security-policy"]

    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    with pytest.raises(sync_api.Error, match="TrustedHTML"):
        visit.page.evaluate("document.body.innerHTML = '<b>bold</b>'")


def test_of_two_thousand_tasks_only_those_near_the_window_have_bars(visit: Visit, engine: sa.Engine) -> None:
    insert_many(engine, running=1000, completed=1000)
    visit.open()
    expect(visit.page.locator("#active li")).to_have_count(1000)
    for count in range(120, 1021, 100):
        visit.page.get_by_role("button", name="Show older").click()
        expect(visit.page.locator("#history li")).to_have_count(min(count, 1000))

    most = visit.page.evaluate(
        """async () => {
            let most = 0;
            for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
                scrollTo(0, y);
                await new Promise(done => setTimeout(requestAnimationFrame, 0, done));
                most = Math.max(most, document.querySelectorAll("task-progress").length);
            }
            return most;
        }"""
    )
    update(engine, "completed-0", result_message="the oldest of all")

    assert 0 < most < 60
    expect(visit.card("completed-0")).to_contain_text("the oldest of all")
    assert visit.page.evaluate("document.querySelectorAll('*').length") < 2000 + 60 * 12 + 100


def test_bars_are_seen_with_forced_colours(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=50)
    visit.page.emulate_media(forced_colors="active")
    visit.open()
    expect(visit.bar("a")).to_have_js_property("value", 50)

    names = ["borderTopWidth", "forcedColorAdjust"]
    style = visit.bar("a").evaluate("(bar, names) => names.map(name => getComputedStyle(bar)[name])", names)

    assert style == ["1px", "none"]  # else the browser paints its colours over the bar's, and nothing is left of it
