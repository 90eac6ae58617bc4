"""The documentation at `/docs/` and the API reference at `/docs`, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from browser import Visit
from flask import Flask
from flask.testing import FlaskClient
from harness import ROOT, Server

from taskapi import TaskAPI, extras
from taskapi.extras import MissingExtraError
from taskapi.site.page import CONTENT_SECURITY_POLICY

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PAGES = sorted(path.stem for path in (ROOT / "taskapi" / "docs").glob("*.md"))


@only_sqlite
def test_the_reference_shows_every_operation_and_asks_nobody_else(server: Server, browser: Any) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    page = browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.extend([said.text] * (said.type == "error")))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(f"{origin}/docs")
    page.wait_for_selector(".opblock")
    shown = {block.inner_text() for block in page.query_selector_all(".opblock-summary-path")}
    page.click("text=My tasks, newest first")
    page.wait_for_selector(".responses-table")
    page.close()

    assert {path.replace("\u200b", "") for path in shown} == set(server.get("/openapi.json").json["paths"])
    assert [url for url in asked if not url.startswith((f"{origin}/", "data:"))] == []
    assert complaints == []


@only_sqlite
def test_the_reference_keeps_the_pages_strict_policy(client: FlaskClient) -> None:
    answer = client.get("/docs")

    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert b"<script>" not in answer.data


def dead_links(client: FlaskClient, root: str) -> list[str]:
    """What the documentation's pages link to, show or want of this server, and does not exist."""
    wanted: dict[str, set[str]] = {}
    headings: dict[str, set[str]] = {}
    for page in (f"{root}/docs/", *(f"{root}/docs/{name}" for name in PAGES if name != "index")):
        answer = client.get(page)
        assert (answer.status_code, answer.headers["Content-Security-Policy"]) == (200, CONTENT_SECURITY_POLICY)
        headings[page] = set(re.findall(r'id="([^"]+)"', answer.text))
        for target in re.findall(r'(?:href|src)="((?!https?:|data:)[^"]+)"', answer.text):
            url, _, heading = urljoin(page, target).partition("#")
            wanted.setdefault(url, set()).update(filter(None, [heading]))
    assert len(wanted) > len(PAGES)
    missing = [url for url in wanted if client.get(url, buffered=True).status_code != 200]
    return missing + [f"{url}#{name}" for url, names in wanted.items() for name in names - headings.get(url, set())]


@only_sqlite
def test_every_link_and_picture_of_every_page_is_there(client: FlaskClient) -> None:
    assert dead_links(client, "") == []


def host(**switches: bool) -> Flask:
    app = Flask("host")
    app.config.update(TESTING=True, SECRET_KEY="host", TASKAPI_DATABASE_URL="sqlite:////nowhere/tasks.db", **switches)
    TaskAPI(app, url_prefix="/work").identity(lambda: None)
    return app


def test_in_an_application_the_pages_are_below_its_prefix_once_it_wants_them() -> None:
    assert host().test_client().get("/work/docs/").status_code == 404
    assert dead_links(host(TASKAPI_DOCS=True).test_client(), "/work") == []


def test_without_its_extra_a_sentence_says_what_the_documentation_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda package: None if package == "markdown_it" else package)

    with pytest.raises(MissingExtraError, match=r"TASKAPI_DOCS needs markdown_it: pip install 'taskapi\[docs\]'"):
        host(TASKAPI_DOCS=True)


@only_sqlite
def test_a_page_that_is_not_there_is_a_problem(client: FlaskClient) -> None:
    for name in ("nothing", "index", "tutorial.md", "..%2fsite%2fpage"):
        answer = client.get(f"/docs/{name}")

        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


@only_sqlite
@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_a_page_can_be_read_by_everybody_on_a_phone_too(
    server: Server, open_tab: Callable[[Server], Visit], scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    visit = open_tab(server)
    visit.page.emulate_media(color_scheme=scheme)
    visit.page.set_viewport_size({"width": width, "height": 800})

    for name in ("workers", "front-end", "architecture", "promises"):
        visit.page.goto(f"{visit.origin}/docs/{name}")
        found = axe.Axe().run(visit.page)

        assert found.response["violations"] == [], found.generate_report()
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    assert visit.complaints == []
