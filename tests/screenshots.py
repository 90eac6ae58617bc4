"""Make the README's pictures anew: `PYTHONPATH=. .venv/bin/python tests/screenshots.py` (with playwright)."""

from __future__ import annotations

import datetime as dt
import random
import tempfile
from pathlib import Path
from typing import Any, Literal

from harness import Server, insert, make_token, update
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy.engine import Engine, make_url

from taskapi.database import schema
from taskapi.database.connections import open_engine

PICTURES = Path(__file__).parent.parent / "taskapi" / "docs" / "pictures"
# The same element in five states, the last two in another dress; and what it can be asked for.
ELEMENTS = """<!doctype html><meta charset="utf-8"><style>
  body { font: 15px system-ui; margin: 20px; display: grid; gap: 22px; }
  .slim { --task-progress-height: 4px; --task-progress-color: rebeccapurple; }
  .bold { --task-progress-height: 18px; } .bold::part(percent) { font-size: 1.4em; }
</style><script type="module">import "/static/task-progress.js";</script>"""
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TASKS: dict[str, dict[str, object]] = {
    "deck_export_123_20261123T081500Z_1": {
        "status": "completed",
        "stage": "finished",
        "progress": 100,
        "total_items": 214,
        "completed_items": 214,
        "result_message": "214 cards exported",
    },
    "card_update_123_20261123T084000Z_2": {
        "status": "failed",
        "stage": "generating_cards",
        "progress": 38,
        "total_items": 80,
        "completed_items": 30,
        "result_message": "Task failed during execution.",
        "error_details": "ValueError: the source of this card is empty",
    },
    "full_path_gen_123_20261123T090000Z_3": {
        "status": "running",
        "stage": "generating_cards",
        "progress": 46,
        "total_items": 50,
        "completed_items": 23,
        "learning_path_id": 456,
    },
    "deck_import_123_20261123T090100Z_4": {"status": "running", "stage": "planning_path_structure"},
    "deck_export_123_20261123T090200Z_5": {"status": "queued"},
}
# A task's life, a frame for each moment, and how another one ended.
LIFE: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("report_1", "Queued", {"status": "queued"}),
    ("report_1", "20%", {"status": "running", "stage": "reading", "progress": 20, "completed_items": 10}),
    ("report_1", "60%", {"stage": "writing", "progress": 60, "completed_items": 30}),
    ("report_1", "Completed", {"status": "completed", "stage": None, "progress": 100, "completed_items": 50}),
    (
        "report_2",
        "Failed",
        {"status": "failed", "progress": 60, "completed_items": 30, "result_message": "No paper left."},
    ),
)
STRIP = """<style>
  body { grid-template-columns: repeat(5, 1fr); gap: 14px; margin: 14px; font-size: 13px }
  task-progress { border: 1px solid #d0d7de; border-radius: 8px; padding: 10px }
  task-progress::part(time) { display: none }
</style>"""
LABELS = ("Export of all decks", "New cards", "Your learning path", "Import", "Another export")
DRESSES = ("", "", "bold", "slim", "")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/taskapi.db"
        engine = open_engine(make_url(url))
        schema.upgrade(engine)
        for minutes, (task_id, columns) in zip((200, 95, 12, 4, 2), TASKS.items(), strict=True):
            insert(engine, task_id, 123, **columns | times(minutes, columns["status"]))
        server = Server(url, Path(folder) / "log")
        try:
            take(f"http://127.0.0.1:{server.port}/#token={make_token(123)}", engine)
            with engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM user_tasks")
            insert_everybodys(engine)
            take_admin(f"http://127.0.0.1:{server.port}/#token={make_token(123, is_admin=True)}&everyone")
        finally:
            server.close()
            engine.dispose()


def times(minutes: float, status: object) -> dict[str, object]:
    """The moments of a task that was created so many minutes ago, started soon after, and went on for a third of it."""
    created, now = dt.timedelta(minutes=minutes), dt.datetime.now(dt.UTC)
    started = None if status == "queued" else (now - created * 0.95).isoformat()
    ended = (now - created * 0.6).isoformat() if status in ("completed", "failed") else None
    return {"created_at": (now - created).isoformat(), "started_at": started, "ended_at": ended}


# By kind: how many seconds it takes, and how many in a hundred fail.
KINDS = {"full_path_gen": (95, 6), "card_update": (12, 2), "deck_export": (4, 1), "deck_import": (31, 12)}


def insert_everybodys(engine: Engine) -> None:
    """What many users have asked for within a day, of which an import fails again and again since an hour ago."""
    chance, now = random.Random(4), dt.datetime.now(dt.UTC)

    def make(kind: str, seconds_ago: float, took: float, **columns: Any) -> None:
        user = chance.randrange(100, 400)
        moments = [now - dt.timedelta(seconds=seconds_ago - later) for later in (0, 2, 2 + took)]
        names = ("created_at", "started_at", "ended_at")[: {"queued": 1, "running": 2}.get(columns["status"], 3)]
        told = {name: moment.isoformat() for name, moment in zip(names, moments, strict=False)}
        task_id = f"{kind}_{user}_{moments[0]:%Y%m%dT%H%M%SZ}_{chance.randrange(1 << 30)}"
        insert(engine, task_id, user, kind=kind, **told, **columns)

    for kind, (seconds, failing) in KINDS.items():
        for _ in range(60):
            took, ago = seconds * chance.lognormvariate(0, 0.5), chance.uniform(4_000, 80_000)
            if chance.randrange(100) < failing:
                make(kind, ago, took, status="failed", result_message="KeyError: 'title'")
            else:
                make(kind, ago, took, status="completed", result_message="50 cards")
    for minute in range(38):
        message = f"HTTP 503 from https://cards.example.com/decks/{chance.randrange(9_000)}"
        make("deck_import", 100 + 90 * minute, 30, status="failed", progress=12, result_message=message)
    for number in range(9):
        make("full_path_gen", 60 + 80 * number, 0, status="queued", learning_path_id=400 + number)
    for number in range(3):
        make("full_path_gen", 50 + number, 0, status="running", stage="generating_cards", progress=70 - 20 * number)


def take_admin(url: str) -> None:
    """What an administrator sees first."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 1150}, device_scale_factor=1.5)
        page.goto(url)
        page.locator(".reasons li").first.wait_for()
        page.locator(".everyones progress").first.wait_for()
        page.screenshot(path=PICTURES / "admin.png")
        browser.close()


SIZES: tuple[tuple[str, Literal["light", "dark"], int], ...] = (
    ("page", "light", 860),
    ("page-dark", "dark", 860),
    ("phone", "light", 360),
)


def take(url: str, engine: Engine) -> None:
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        take_element(browser, url)
        take_questions(browser, url)
        for name, scheme, width in SIZES:
            context = browser.new_context(
                viewport={"width": width, "height": 640}, color_scheme=scheme, device_scale_factor=1.5
            )
            page = context.new_page()
            page.goto(url)
            page.get_by_text("23 of 50").wait_for()
            page.get_by_text("214 cards exported").wait_for()
            page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
            context.close()
        take_life(browser, url, engine)
        browser.close()


def take_questions(browser: Browser, url: str) -> None:
    """A button that asks and a traceback; and the same from right to left, in the dark."""
    tags = "".join(f'<task-progress cancel src="/api/tasks/{task_id}"></task-progress>' for task_id in list(TASKS)[1:3])
    for name, attributes in (("cancel", "lang=en"), ("arabic", "lang=ar dir=rtl")):
        page = browser.new_page(viewport={"width": 640, "height": 100}, device_scale_factor=1.5)
        page.emulate_media(color_scheme="dark" if name == "arabic" else "light")
        html = f"<html {attributes}><style>html {{ color-scheme: light dark }}"
        open_page(page, url, ELEMENTS.replace("<style>", html) + tags)
        page.locator("summary").click()
        page.locator("[part=cancel]:visible").click()
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True, animations="disabled")
        page.close()


def open_page(page: Page, url: str, body: str) -> None:
    """Show some elements, and give them the token."""
    origin, _, token = url.partition("/#token=")
    page.route("**/elements.html", lambda route: route.fulfill(body=body, content_type="text/html"))
    page.goto(f"{origin}/elements.html")
    page.evaluate("token => document.querySelectorAll('task-progress').forEach(bar => { bar.token = token; })", token)


def take_life(browser: Browser, url: str, engine: Engine) -> None:
    """One task's bar again and again, each stopped at its moment."""
    for task_id in ("report_1", "report_2"):
        insert(engine, task_id, 123, total_items=50)
    page = browser.new_page(viewport={"width": 1000, "height": 60}, device_scale_factor=1.5)
    tags = "".join(f'<task-progress label="Report" src="/api/tasks/{task_id}"></task-progress>' for task_id, *_ in LIFE)
    open_page(page, url, ELEMENTS + STRIP + tags)
    for place, (task_id, seen, columns) in enumerate(LIFE):
        update(engine, task_id, **columns)
        frame = page.locator("task-progress").nth(place)
        frame.get_by_text(seen).wait_for()
        frame.evaluate("bar => bar.close()")
    page.screenshot(path=PICTURES / "life.png", full_page=True, animations="disabled")
    page.close()


def take_element(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 640, "height": 100}, device_scale_factor=1.5)
    tags = "".join(
        f'<task-progress class="{dress}" label="{label}" src="/api/tasks/{task_id}"></task-progress>'
        for task_id, label, dress in zip(TASKS, LABELS, DRESSES, strict=True)
    )
    open_page(page, url, ELEMENTS + tags)
    page.get_by_text("23 of 50").wait_for()
    page.get_by_text("214 cards exported").wait_for()
    page.screenshot(path=PICTURES / "element.png", full_page=True, animations="disabled")
    page.close()


if __name__ == "__main__":
    main()
