"""The page and the element where the engine is not Chromium's: in Firefox and in WebKit."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from documents import DOCS, blocks
from harness import SECONDS, Server, delete, free_port, insert, make_token, pipe, update, wait_until

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
WEBKIT, XVFB = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
MINI_BROWSER = next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), None)

# How far a folded part's words are from its edge: one arrow's width, unless the engine draws its own beside ours.
INDENT = """(() => {
    const summary = document.querySelector("#filter summary");
    const words = document.createRange();
    words.selectNodeContents(summary);
    return words.getBoundingClientRect().left - summary.getBoundingClientRect().left;
})()"""

# Selenium's own way to begin with WebKit is one that it has deprecated.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning")]


class Tab(NamedTuple):
    """A tab of any browser: how it goes to an address, and how it evaluates an expression."""

    go: Callable[[str], None]
    run: Callable[[str], Any]

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        wait_until(lambda: self.run(condition))


class BiDi:
    """Firefox's own door, by the standard WebDriver BiDi: Debian has no geckodriver."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.ids = itertools.count(1)
        self.send("session.new", capabilities={})
        [self.context] = [tree["context"] for tree in self.send("browsingContext.getTree")["contexts"]]

    def send(self, method: str, **params: Any) -> Any:
        """A command's result; no events were asked for."""
        self.socket.send(json.dumps({"id": next(self.ids), "method": method, "params": params}))
        answer = json.loads(self.socket.recv())
        assert answer["type"] == "success", answer
        return answer["result"]

    def go(self, url: str) -> None:
        self.send("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def run(self, expression: str) -> Any:
        target = {"context": self.context}
        return self.send("script.evaluate", expression=expression, target=target, awaitPromise=False)["result"]["value"]


@contextlib.contextmanager
def firefox(folder: Path) -> Iterator[Tab]:
    websocket = pytest.importorskip("websocket", reason="Firefox needs the package websocket-client")
    if FIREFOX is None:
        pytest.skip("firefox-esr is not installed")
    command = [FIREFOX, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            [url] = next(filter(None, (re.findall(r"BiDi listening on (\S+)", line) for line in pipe(process.stderr))))
            threading.Thread(target=pipe(process.stderr).read, daemon=True).start()  # what else it says
            with contextlib.closing(
                websocket.create_connection(f"{url}/session", SECONDS, suppress_origin=True)
            ) as socket:
                bidi = BiDi(socket)
                yield Tab(bidi.go, bidi.run)
        finally:
            process.terminate()


@contextlib.contextmanager
def webkit(folder: Path) -> Iterator[Tab]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="WebKit needs the package selenium")
    if WEBKIT is None or MINI_BROWSER is None or XVFB is None:
        pytest.skip("webkit2gtk-driver or xvfb is not installed")
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(MINI_BROWSER)
    options.add_argument("--automation")
    with display() as number:
        variables = {**os.environ, "DISPLAY": f":{number}", "HOME": str(folder)}
        service = webdriver.WebKitGTKService(WEBKIT, port=free_port(), env=variables)
        browser = webdriver.WebKitGTK(options=options, service=service)
        try:
            yield Tab(browser.get, lambda expression: browser.execute_script(f"return {expression}"))
        finally:
            browser.quit()


@contextlib.contextmanager
def display() -> Iterator[int]:
    """The number of a screen that nobody sees."""
    command = [str(XVFB), "-displayfd", "1", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield int(pipe(process.stdout).readline())
        finally:
            process.terminate()


@pytest.fixture(params=[firefox, webkit], ids=lambda browser: str(browser.__name__))
def tab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tab]:
    with request.param(tmp_path) as tab:
        yield tab


@contextlib.contextmanager
def page_elsewhere() -> Iterator[tuple[str, Callable[[str], None]]]:
    """The origin of a server with one page, and what sets that page."""
    pages: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(pages[-1].encode())

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", pages.append
        server.shutdown()


def follow_to_its_end(tab: Tab, engine: sa.Engine) -> None:
    """See the one bar of a page move and end."""
    element = "document.querySelector('task-progress')"
    bar = f"{element}?.shadowRoot?.querySelector('progress')"
    tab.wait_for(f"{bar}?.value === 40")
    update(engine, "by_hand", progress=70)
    tab.wait_for(f"{bar}?.value === 70")
    update(engine, "by_hand", status="completed", progress=100)
    tab.wait_for(f"{element}?.getAttribute('status') === 'completed'")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_bar_moves_and_ends_in_firefox_and_in_webkit(
    start_server: Callable[..., Server], engine: sa.Engine, tab: Tab
) -> None:
    [html] = [block.text for block in blocks(DOCS / "tutorial.md") if block.language == "html"]
    with page_elsewhere() as (origin, show):
        server = start_server(CORS_ORIGINS=origin)
        insert(engine, "by_hand", 123, status="running", progress=40)
        show(html.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("THE TOKEN", make_token(123)))
        tab.go(origin)
        follow_to_its_end(tab, engine)

    delete(engine, "by_hand")
    insert(engine, "by_hand", 123, status="running", progress=40)
    tab.go(f"http://127.0.0.1:{server.port}/#token={make_token(123)}")
    follow_to_its_end(tab, engine)
    assert tab.run(INDENT) < 20
    tab.wait_for("document.querySelector('#history task-progress') !== null")
