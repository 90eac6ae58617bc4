"""What one bar says and does, in whose language, and what it says when it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from browser import USER, Visit
from harness import Server, insert, make_token, update

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
expect = sync_api.expect

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

STREAMS = re.compile(r"/events\b")
TASK: dict[str, Any] = {
    "task_id": "a",
    "user_id": USER,
    "learning_path_id": None,
    "status": "running",
    "stage": None,
    "progress": 40,
    "total_items": None,
    "completed_items": None,
    "started_at": None,
    "ended_at": None,
    "result_message": None,
    "error_details": None,
    "id": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


def event(data: dict[str, Any], name: str = "") -> str:
    """A frame of a stream; a snapshot unless it has a name."""
    head = f"event: {name}\n" if name else "id: 1\n"
    return f"{head}data: {json.dumps(data)}\n\n"


def snapshot(**columns: Any) -> str:
    return event(TASK | columns)


def moment(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def forecast(position: int | None = None, starts: float | None = None, ends: float | None = None) -> str:
    def spread(seconds: float | None) -> dict[str, str] | None:
        return None if seconds is None else {"p50": moment(seconds), "p90": moment(seconds * 3)}

    told = {"position": position, "starts_at": spread(starts), "ends_at": spread(ends), "sample": 37}
    return event(told, "forecast")


@pytest.fixture
def element(visit: Visit) -> Any:
    return visit.page.locator("task-progress")


@pytest.fixture
def stream(visit: Visit) -> Callable[..., None]:
    """Open an element whose stream brings these frames."""

    def stream(*frames: str, task_ids: tuple[str, ...] = ("a",)) -> None:
        def answer(route: Any) -> None:
            if route.request.method == "POST":
                route.fulfill(status=201, json={"url": route.request.url + "?ticket=x", "expires_at": moment(60)})
            else:
                route.fulfill(body="retry: 3600000\n\n" + "".join(frames), content_type="text/event-stream")

        visit.page.route(STREAMS, answer)
        visit.open_element(*task_ids)

    return stream


@pytest.fixture
def show(visit: Visit) -> Callable[..., None]:
    """Give an element without `src` these states of a task, one after the other."""
    visit.open_element("")
    visit.page.evaluate("document.querySelector('task-progress').removeAttribute('src')")

    def show(*states: dict[str, Any]) -> None:
        tasks = [TASK | state for state in states]
        script = "tasks => tasks.forEach(task => { document.querySelector('task-progress').task = task; })"
        visit.page.evaluate(script, tasks)

    return show


# Cancelled.


def test_a_bar_that_is_being_cancelled_says_so_at_once(stream: Callable[..., None], element: Any) -> None:
    stream(snapshot(stage="some_stage"), event({"requested_at": moment(0)}, "cancelling"))

    expect(element).to_contain_text("Cancelling…")
    expect(element).to_have_attribute("status", "cancelling")
    expect(element).not_to_contain_text("Some stage")


def test_a_cancelled_task_reads_cancelled(stream: Callable[..., None], element: Any) -> None:
    stream(
        snapshot(),
        event({"requested_at": moment(0)}, "cancelling"),
        snapshot(status="failed", result_message="Cancelled."),
    )

    expect(element).to_have_attribute("status", "cancelled")
    expect(element.locator("[part=stage]")).to_have_text("Cancelled")
    expect(element.locator("[part=message]")).to_be_hidden()


def test_among_many_bars_only_the_one_that_is_being_cancelled_says_so(
    stream: Callable[..., None], element: Any
) -> None:
    stream(
        snapshot(),
        snapshot(task_id="b", id=2),
        event({"task_id": "b", "requested_at": moment(0)}, "cancelling"),
        task_ids=("a", "b"),
    )

    expect(element.nth(1)).to_contain_text("Cancelling…")
    expect(element.nth(0)).to_contain_text("Running")


def test_another_attempt_is_not_being_cancelled(stream: Callable[..., None], element: Any) -> None:
    stream(
        snapshot(started_at=moment(-5)),
        event({"requested_at": moment(0)}, "cancelling"),
        snapshot(status="queued", progress=0),
    )

    expect(element).to_contain_text("Queued")


# When.


def test_a_waiting_task_says_how_many_are_before_it_and_counts_down(
    visit: Visit, stream: Callable[..., None], element: Any
) -> None:
    visit.page.clock.install()
    stream(snapshot(status="queued", progress=0), forecast(position=5, starts=170))
    time = element.locator("[part=time]")
    expect(time).to_have_text("5th in line, about 3 min")
    asked = len(visit.requests)

    visit.page.clock.run_for(60_000)
    expect(time).to_have_text("5th in line, about 2 min")
    visit.page.clock.run_for(90_000)
    expect(time).to_have_text("5th in line, about 20 sec")
    visit.page.clock.run_for(60_000)

    expect(time).to_have_text("5th in line")
    assert [url for _, url in visit.requests[asked:] if "forecast" in url] == []


@pytest.mark.parametrize(("position", "text"), {1: "1st", 2: "2nd", 3: "3rd", 11: "11th", 22: "22nd"}.items())
def test_places_in_line_are_ordinals(stream: Callable[..., None], element: Any, position: int, text: str) -> None:
    stream(snapshot(status="pending", progress=0), forecast(position=position))

    expect(element.locator("[part=time]")).to_have_text(f"{text} in line")


def test_a_running_task_says_how_long_it_still_takes(visit: Visit, stream: Callable[..., None], element: Any) -> None:
    stream(snapshot(started_at=moment(-5)), forecast(ends=110))

    expect(element.locator("[part=time]")).to_contain_text("about 2 min left")


def test_where_nothing_is_known_nothing_is_said(stream: Callable[..., None], element: Any) -> None:
    stream(snapshot(status="queued", progress=0, result_message="before"), forecast(), snapshot(status="queued"))

    expect(element).to_contain_text("Queued")
    expect(element.locator("[part=time]")).to_be_hidden()


def test_a_forecast_reaches_the_other_tabs(
    visit: Visit, open_tab: Callable[[Server], Visit], server: Server, engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="queued")
    task = server.get("/api/tasks/a/status", USER).json
    second = Visit(visit.page.context.new_page(), server)

    def answer(route: Any) -> None:
        if route.request.method == "POST":
            route.fallback()
        else:
            body = "retry: 3600000\n\n" + event(task) + forecast(position=2)
            route.fulfill(body=body, content_type="text/event-stream")

    visit.page.route(STREAMS, answer)
    visit.open_element("a")
    expect(visit.page.locator("task-progress")).to_contain_text("2nd in line")

    second.open_element("a")

    expect(second.page.locator("task-progress")).to_contain_text("2nd in line")


# Tried again.


def test_another_attempt_begins_without_running_back_and_says_why(
    visit: Visit, show: Callable[..., None], element: Any
) -> None:
    glides: list[str] = []
    session = visit.page.context.new_cdp_session(visit.page)
    session.on("Animation.animationStarted", lambda event: glides.append(event["animation"]["type"]))
    session.send("Animation.enable")
    show({"progress": 80, "started_at": moment(-60), "total_items": 10, "completed_items": 8})
    visit.page.wait_for_timeout(100)
    before = len(glides)

    reason = "Attempt 1 failed: KeyError: 'title'. It will be tried again."
    show({"status": "queued", "progress": 0, "total_items": 10, "result_message": reason, "error_details": "Traceback"})
    visit.page.wait_for_timeout(100)

    assert len(glides) == before
    expect(visit.bar()).to_have_js_property("value", 0)
    expect(element).to_contain_text(reason)
    expect(element).to_contain_text("Queued")
    expect(element.locator("[part=time]")).to_be_hidden()


# In whose language.

SPOKEN = {
    "en": ("Queued", "23 of 1,500", "46%"),
    "de": ("In der Warteschlange", "23 von 1.500", "46\u00a0%"),
    "fr": ("En file d’attente", "23 sur 1\u202f500", "46\u202f%"),
    "es": ("En cola", "23 de 1500", "46\u00a0%"),
    "ar": ("في قائمة الانتظار", "23 من 1,500", "46\u200e%\u200e"),
    "ja": ("待機中", "1,500件中23件", "46%"),
    "de_AT": ("In der Warteschlange", "23 von 1\u00a0500", "46\u00a0%"),
    "pt": ("Queued", "23 of 1.500", "46%"),
    "no such": ("Queued", "23 of 1,500", "46%"),
}


@pytest.mark.parametrize(("language", "texts"), SPOKEN.items())
def test_a_bar_speaks_the_language_of_its_page(
    visit: Visit, show: Callable[..., None], element: Any, language: str, texts: tuple[str, str, str]
) -> None:
    visit.page.evaluate("language => { document.documentElement.lang = language; }", language)

    show({"status": "queued", "progress": 46.5, "total_items": 1500, "completed_items": 23})

    for part, text in zip(("stage", "count", "percent"), texts, strict=True):
        expect(element.locator(f"[part={part}]")).to_have_text(text, use_inner_text=True)
    assert [complaint for complaint in visit.complaints if "404" not in complaint] == []


def test_every_language_has_every_sentence(visit: Visit) -> None:
    visit.open_element("")

    said = visit.page.evaluate(
        """async () => {
            const load = (name) => import(`/static/${name}.js`);
            const { ENGLISH } = await load("texts");
            await Promise.all(["cancel", "failure", "moving", "notify", "trouble"].map(load));
            const all = { en: Object.keys(ENGLISH) };
            for (const name of ["ar", "de", "es", "fr", "ja"]) {
                all[name] = Object.keys((await load(`languages/${name}`)).default);
            }
            return all;
        }"""
    )

    themselves = {"task", "queued", "starting", "running", "completed", "failed", "cancelled"}  # in English
    for language in ("ar", "de", "es", "fr", "ja"):
        assert sorted(said[language]) == sorted({*said["en"], *themselves}), language


def test_from_right_to_left_numbers_keep_their_order(visit: Visit, show: Callable[..., None], element: Any) -> None:
    visit.page.evaluate("document.documentElement.dir = 'rtl'")
    show({"total_items": 13353, "completed_items": 6000})

    order = element.locator("[part=count]").evaluate(
        """node => {
            const place = (start, end) => {
                const range = new Range();
                range.setStart(node.firstChild, start);
                range.setEnd(node.firstChild, end);
                return range.getBoundingClientRect().left;
            };
            const text = node.textContent;
            return place(0, 5) < place(text.indexOf("of"), text.length);
        }"""
    )

    assert order
    head = element.locator("[part=label]").bounding_box()
    assert head["x"] > element.locator("[part=percent]").bounding_box()["x"]


def test_beside_a_long_label_the_percentage_keeps_its_place(
    visit: Visit, show: Callable[..., None], element: Any
) -> None:
    visit.page.set_viewport_size({"width": 300, "height": 740})
    element.evaluate("element => element.label = 'The longest label that any task of this user may ever have had'")
    show({"progress": 58})

    percent = element.locator("[part=percent]")
    expect(percent).to_have_text("58%")
    assert percent.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_the_hosts_own_sentences_come_first(visit: Visit, show: Callable[..., None], element: Any) -> None:
    visit.page.evaluate(
        """async () => {
            const { TaskProgress } = await import("/static/task-progress.js");
            TaskProgress.messages = { queued: "Gleich geht’s los", count: ({ completed }) => `${completed}!` };
        }"""
    )
    show({"status": "queued", "total_items": 5, "completed_items": 2})
    expect(element).to_contain_text("Gleich geht’s los")
    expect(element).to_contain_text("2!")

    element.evaluate("node => { node.messages = { queued: 'Noch nicht' }; }")

    expect(element).to_contain_text("Noch nicht")


def test_a_screen_reader_hears_of_each_quarter_and_of_the_end(
    visit: Visit, show: Callable[..., None], element: Any
) -> None:
    show({"status": "queued", "progress": 0}, {"progress": 0})
    expect(element.locator("[aria-live]")).to_be_attached()
    element.evaluate(
        """node => {
            window.heard = [];
            const live = node.shadowRoot.querySelector("[aria-live]");
            new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true, subtree: true });
        }"""
    )

    for progress in range(0, 101, 2):
        show({"status": "running", "progress": progress, "stage": f"stage_{progress}"})
    show({"status": "completed", "progress": 100, "result_message": "50 cards created"})
    show({"status": "completed", "progress": 100, "result_message": "50 cards created"})

    visit.wait_for("heard.some(sentence => sentence.includes('Completed'))")
    assert visit.page.evaluate("heard") == [
        "a, Stage 26, 26%",
        "a, Stage 50, 50%",
        "a, Stage 76, 76%",
        "a, Completed, 100%, 50 cards created",
    ]


# What can be done about it.


@pytest.fixture
def cancellable(visit: Visit, engine: sa.Engine, element: Any) -> list[Any]:
    """An element with a button to cancel; what the button has asked the server for."""
    asked: list[Any] = []
    insert(engine, "a", USER, status="running", progress=5)
    visit.open_element("a")
    element.evaluate("node => node.setAttribute('cancel', '')")

    def note(request: Any) -> None:
        if request.url.endswith("/cancel"):
            asked.append(request)

    visit.page.on("request", note)
    return asked


def answer(visit: Visit, status: int, body: dict[str, Any]) -> None:
    visit.page.route("**/api/tasks/a/cancel", lambda route: route.fulfill(status=status, json=body), times=1)


def test_cancelling_asks_before_it_stops(visit: Visit, cancellable: list[Any], element: Any) -> None:
    token = make_token(USER)
    element.evaluate("(node, token) => { node.token = token; }", token)
    answer(visit, 202, TASK)
    element.get_by_role("button", name="Cancel").click()
    expect(element.get_by_role("button", name="Let it go on")).to_be_focused()
    visit.page.keyboard.press("Escape")
    expect(element.get_by_role("button", name="Cancel")).to_be_focused()
    assert cancellable == []

    visit.page.keyboard.press("Enter")
    element.get_by_role("button", name="Stop it").click()

    expect(element).to_contain_text("Cancelling…")
    expect(element.get_by_role("button")).to_have_count(0)
    [request] = cancellable
    assert (request.method, request.headers["authorization"]) == ("POST", f"Bearer {token}")


@pytest.mark.parametrize(
    ("status", "text"),
    [(409, "This task has already ended."), (403, "You may not stop this task."), (503, "Try again later.")],
)
def test_a_refusal_is_said_in_the_bar(
    visit: Visit, cancellable: list[Any], element: Any, status: int, text: str
) -> None:
    answer(visit, status, {"detail": "Try again later."})

    element.get_by_role("button", name="Cancel").click()
    element.get_by_role("button", name="Stop it").click()

    expect(element.get_by_role("alert")).to_contain_text(text)
    expect(element).to_contain_text("Running")
    expect(element.get_by_role("button", name="Cancel")).to_be_visible()


def test_with_a_cookie_the_hosts_word_against_forgery_goes_along(visit: Visit, engine: sa.Engine, element: Any) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    cookies = {"access_token_cookie": make_token(USER), "csrf_access_token": "double"}
    visit.page.context.add_cookies(
        [{"name": name, "value": value, "url": visit.origin} for name, value in cookies.items()]
    )
    visit.open_element("a", tokens=[])
    element.evaluate("node => { node.headers = { 'X-Host': 'mine' }; node.setAttribute('cancel', ''); }")
    answer(visit, 202, TASK)

    element.get_by_role("button", name="Cancel").click()
    with visit.page.expect_request("**/cancel") as asked:
        element.get_by_role("button", name="Stop it").click()

    assert (asked.value.headers["x-csrf-token"], asked.value.headers["x-host"]) == ("double", "mine")
    expect(element).to_contain_text("Cancelling…")


def test_no_other_origin_is_told_the_word_against_forgery(browser: Any, server: Server) -> None:
    context = browser.new_context()
    visit = Visit(context.new_page(), server).open_element("")
    context.add_cookies([{"name": "csrf_access_token", "value": "double", "url": visit.origin}])
    headers = {"Access-Control-Allow-Origin": visit.origin, "Access-Control-Allow-Headers": "Authorization"}
    visit.page.route("http://localhost:*/**", lambda route: route.fulfill(json=TASK, headers=headers))
    element = visit.page.locator("task-progress")
    script = "(node, src) => { node.src = src; node.setAttribute('cancel', ''); }"
    element.evaluate(script, f"http://localhost:{server.port}/api/tasks/a")

    element.get_by_role("button", name="Cancel").click()
    with visit.page.expect_request("**/cancel") as asked:
        element.get_by_role("button", name="Stop it").click()

    assert "x-csrf-token" not in asked.value.headers
    expect(element).to_contain_text("Cancelling…")
    context.close()


def test_what_was_set_before_the_element_was_defined_counts(visit: Visit) -> None:
    visit.page.goto(f"{visit.origin}/healthz")

    kept = visit.page.evaluate(
        """async () => {
            const early = document.createElement("task-progress");
            const set = { headers: { "X-Host": "mine" }, messages: { loading: "Gleich" }, token: "t" };
            document.body.append(Object.assign(early, set));
            await import("/static/task-progress.js");
            return [early.headers["X-Host"], early.token, early.shadowRoot.textContent.includes("Gleich")];
        }"""
    )

    assert kept == ["mine", "t", True]


def test_what_has_ended_cannot_be_cancelled(
    visit: Visit, cancellable: list[Any], element: Any, engine: sa.Engine
) -> None:
    expect(element.get_by_role("button", name="Cancel")).to_be_visible()

    update(engine, "a", status="completed")

    expect(element).to_contain_text("Completed")
    expect(element.get_by_role("button")).to_have_count(0)


def test_a_host_adds_actions_and_an_icon(visit: Visit, show: Callable[..., None], element: Any) -> None:
    element.evaluate("""node => { node.innerHTML = '<b slot="icon">*</b><button slot="actions">Open</button>'; }""")
    show({})

    expect(element.get_by_role("button", name="Open")).to_be_visible()
    icon, label = element.locator("b").bounding_box(), element.locator("[part=label]").bounding_box()
    assert icon["x"] < label["x"]


NOTIFICATIONS = """
    window.notified = [];
    window.Notification = class {
        static permission = "default";
        static async requestPermission() { return (this.permission = "granted"); }
        constructor(title, { body }) { notified.push(`${title}: ${body}`); }
    };
"""


def test_a_hidden_tab_notifies_of_the_end_once_it_was_allowed_to(visit: Visit, engine: sa.Engine, element: Any) -> None:
    insert(engine, "a", USER, status="running", progress=5)
    visit.page.add_init_script(NOTIFICATIONS)
    visit.page.clock.install()
    visit.open_element("a")
    element.evaluate("node => node.setAttribute('notify', '')")
    element.get_by_role("button", name="Tell me when it ends").click()
    expect(element.get_by_role("button")).to_have_count(0)

    visit.set_visibility("hidden")
    visit.page.clock.fast_forward(60_000)
    update(engine, "a", status="completed", result_message="50 cards created")

    visit.wait_for("notified.length")
    assert visit.page.evaluate("notified") == ["a: Completed\n50 cards created"]


def test_a_failures_reason_comes_first_and_the_end_of_its_traceback_is_in_sight(
    visit: Visit, engine: sa.Engine, element: Any
) -> None:
    traceback = "Traceback (most recent call last):\n" + '  File "x.py"\n' * 80 + "KeyError: 'title'"
    insert(engine, "a", USER, status="failed", progress=40, error_details=traceback)
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open_element("a")
    expect(element.locator("[part=message]")).to_have_text("KeyError: 'title'")

    element.get_by_text("What happened").click()

    shown = element.locator("pre")
    expect(shown).to_have_text(traceback)
    visit.page.wait_for_function(
        """() => {
            const pre = document.querySelector("task-progress").shadowRoot.querySelector("pre");
            return pre.scrollTop > 0 && pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 2;
        }"""
    )
    element.get_by_role("button", name="Copy").click()
    expect(element.get_by_role("button", name="Copied")).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()") == traceback


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of_in_buttons_and_tracebacks(
    visit: Visit, engine: sa.Engine, element: Any, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    visit.page.add_init_script(NOTIFICATIONS)
    insert(engine, "a", USER, status="failed", progress=40, error_details="KeyError: 'title'")
    insert(engine, "b", USER, status="running", progress=40)
    visit.open_element("a", "b")
    style = "color-scheme: light dark; background: light-dark(#fff, #15181c)"
    visit.page.evaluate("style => { document.documentElement.style.cssText = style; }", style)
    for name in ("cancel", "notify"):
        visit.page.evaluate(
            "name => document.querySelectorAll('task-progress').forEach(bar => bar.setAttribute(name, ''))", name
        )
    element.get_by_text("What happened").click()
    element.get_by_role("button", name="Cancel").click()

    found = axe.Axe().run(visit.page, context="task-progress")

    assert [(entry["id"], entry["nodes"]) for entry in found.response["violations"]] == []


# What is wrong.


def test_a_bar_without_src_says_what_it_lacks(visit: Visit, show: Callable[..., None], element: Any) -> None:
    visit.page.evaluate("document.querySelector('main').replaceChildren(document.createElement('task-progress'))")

    expect(element).to_contain_text("its attribute “src” is missing")
    assert any("“src” is missing" in complaint for complaint in visit.complaints)
    show({})
    expect(element).to_contain_text("Running")


@pytest.mark.parametrize(
    ("content_type", "status", "text"),
    [
        ("text/plain", 200, "is not JSON"),
        ("text/html", 401, "Please sign in."),
        ("text/html; charset=utf-8", 401, "sign in"),
    ],
)
def test_an_answer_that_is_no_json_is_an_error_and_the_end(
    visit: Visit, element: Any, content_type: str, status: int, text: str
) -> None:
    visit.page.route("**/api/tasks/a/**", lambda route: route.fulfill(body="<p>Hello", content_type=content_type))

    visit.open_element("a", tokens=[])

    visit.wait_for("events.length")
    assert [error["status"] for error in visit.events("error")] == [status]
    expect(element).to_contain_text(text)
    assert any("task-progress" in complaint and text in complaint for complaint in visit.complaints)


def test_a_bar_says_that_another_origin_does_not_let_its_page_ask(
    browser: Any, start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    insert(engine, "a", USER, status="running")
    host, api = start_server(), start_server()
    context = browser.new_context()
    visit = Visit(context.new_page(), host)
    visit.page.goto(f"{visit.origin}/healthz")  # a page that nobody routes: Chromium asks where it came from

    visit.page.evaluate(
        """async src => {
            await import("/static/task-progress.js");
            document.body.append(Object.assign(document.createElement("task-progress"), { src }));
        }""",
        f"http://127.0.0.1:{api.port}/api/tasks/a",
    )

    expect(visit.page.locator("task-progress")).to_contain_text("(CORS)", timeout=15_000)
    assert any("(CORS)" in complaint and "task-progress" in complaint for complaint in visit.complaints)
    context.close()


# On the real server.


def test_a_cancellation_is_seen_from_the_button_to_the_end(visit: Visit, engine: sa.Engine, element: Any) -> None:
    insert(engine, "a", USER, status="running", progress=5, started_at="2026-01-01 00:00:00")
    watcher = Visit(visit.page.context.browser.new_context().new_page(), visit.server).open_element("a")
    visit.open_element("a")
    element.evaluate("node => node.setAttribute('cancel', '')")

    element.get_by_role("button", name="Cancel").click()
    element.get_by_role("button", name="Stop it").click()

    for page in (visit.page, watcher.page):
        expect(page.locator("task-progress")).to_contain_text("Cancelling…")
    update(engine, "a", status="failed", result_message="Cancelled.")
    for page in (visit.page, watcher.page):
        expect(page.locator("[part=stage]")).to_have_text("Cancelled")
    watcher.page.context.close()


def test_a_waiting_task_is_cancelled_at_once(visit: Visit, engine: sa.Engine, element: Any) -> None:
    insert(engine, "a", USER, status="queued")
    visit.open_element("a")
    element.evaluate("node => node.setAttribute('cancel', '')")

    element.get_by_role("button", name="Cancel").click()
    element.get_by_role("button", name="Stop it").click()

    expect(element.locator("[part=stage]")).to_have_text("Cancelled")
    visit.wait_for("events.some(({ name }) => name === 'done')")


def test_what_somebody_else_has_asked_for_is_seen_by_who_opens_the_page_later(
    visit: Visit, server: Server, engine: sa.Engine, element: Any
) -> None:
    insert(engine, "a", USER, status="running", progress=5, started_at="2026-01-01 00:00:00")
    assert server.request("POST", "/api/tasks/a/cancel", USER).status == 202

    visit.open_element("a")

    expect(element).to_contain_text("Cancelling…")


def test_the_servers_forecast_is_told(visit: Visit, engine: sa.Engine, element: Any) -> None:
    for number in range(40):
        insert(
            engine,
            f"past{number}",
            USER,
            status="completed",
            progress=100,
            kind="deck",
            created_at="2026-01-01 00:00:00",
            started_at="2026-01-01 00:05:00",
            ended_at="2026-01-01 00:15:00",
        )
    insert(engine, "a", USER, status="queued", kind="deck")
    insert(engine, "b", USER, status="queued", kind="deck")

    visit.open_element("b")

    expect(element.locator("[part=time]")).to_contain_text("2nd in line, about")
