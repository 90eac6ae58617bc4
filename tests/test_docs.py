"""The API reference at `/docs`, in Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from harness import Server

from taskapi.site.page import CONTENT_SECURITY_POLICY

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


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


def test_the_reference_keeps_the_pages_strict_policy(client: FlaskClient) -> None:
    answer = client.get("/docs")

    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert b"<script>" not in answer.data
