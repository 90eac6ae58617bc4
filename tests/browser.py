"""A browser's tab in the tests: what it asked for, what it shows, and what it complained of."""

from __future__ import annotations

import json
import shutil
from typing import Any

from harness import Server, make_token

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
USER = 123

# Whether a stream is open, connecting (the browser will come back) or closed for good is known to its object alone.
RECORD_STREAMS = """
    window.streams = [];
    window.EventSource = class extends EventSource {
        constructor(...all) { super(...all); streams.push(this); }
    };
"""
# A page with nothing but elements; `tokens` are given one after the other, the last one again and again.
ELEMENT_PAGE = """<!doctype html><link rel=icon href="data:,"><main></main><script type=module>
    import "/static/task-progress.js";
    const tokens = %s;
    window.events = [];
    for (const src of %s) {
        const element = document.createElement("task-progress");
        element.src = src;
        if (tokens.length) element.token = async () => tokens.length > 1 ? tokens.shift() : tokens[0];
        for (const name of ["progress", "done", "error"]) {
            element.addEventListener(name, ({ detail }) => events.push({ name, ...detail }));
        }
        document.querySelector("main").append(element);
    }
</script>"""


class Visit:
    """A tab, what it asked for, and what it complained of."""

    def __init__(self, page: Any, server: Server) -> None:
        self.page = page
        self.server = server
        self.origin = f"http://127.0.0.1:{server.port}"
        self.requests: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        page.add_init_script(RECORD_STREAMS)
        page.on("request", lambda request: self.requests.append((request.method, request.url)))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.extend([said.text] if said.type == "error" else []))

    def open(self, token: str = "", fragment: str = "") -> Visit:
        """Go to the page, with a token in the fragment."""
        self.page.goto(f"{self.origin}/#{fragment or 'token=' + (token or make_token(USER))}")
        return self

    def open_element(self, *task_ids: str, tokens: list[str] | None = None) -> Visit:
        """Go to a page that has only these elements."""
        sources = json.dumps([f"/api/tasks/{task_id}" for task_id in task_ids])
        body = ELEMENT_PAGE % (json.dumps([make_token(USER)] if tokens is None else tokens), sources)
        self.page.route("**/element", lambda route: route.fulfill(body=body, content_type="text/html"))
        self.page.goto(f"{self.origin}/element")
        return self

    def asked(self, method: str, path: str) -> list[str]:
        """The requests whose path, without the query, is this one."""
        return [url for how, url in self.requests if how == method and url.split("?")[0] == self.origin + path]

    def card(self, task_id: str) -> Any:
        """The list entry of a task."""
        return self.page.locator(f'li[data-task-id="{task_id}"]')

    def bar(self, task_id: str = "") -> Any:
        """A task's native progress bar."""
        return (self.card(task_id) if task_id else self.page).locator("progress")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the elements of the page have dispatched."""
        return [event for event in self.page.evaluate("events") if event["name"] == name]

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        self.page.wait_for_function(condition)

    def set_visibility(self, state: str) -> None:
        """Hide the tab or show it."""
        self.page.evaluate(
            """state => {
                Object.defineProperty(document, "hidden", { value: state === "hidden", configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            state,
        )
