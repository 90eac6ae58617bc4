"""The tutorials, from their first step to their last, as a newcomer types them; and the tokens that others sign."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import sqlite_file
from documents import DOCS, Block, blocks
from flask import Flask
from flask.testing import FlaskClient
from harness import ROOT, free_port, pipe, wait_until
from test_recipes import is_open

from taskapi import create_app
from taskapi.state import state_of

# What the machine may need for all of it, beside the installation: the reader reads for minutes.
TUTORIAL_SECONDS = 300
ELEMENT = "document.querySelector('task-progress')"


class Newcomer:
    """Somebody with a checkout, some terminals and a browser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {written: str(free_port()) for written in ("8000", "9000", "5173", "4173")}
        self.terminals: list[subprocess.Popen[str]] = []
        shutil.copytree(ROOT / "taskapi", folder / "taskapi", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "wsgi.py", folder)
        (folder / "instance").mkdir()
        (folder / "mypage").mkdir()
        (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)

    def with_ports(self, text: str) -> str:
        for written, free in self.ports.items():
            text = text.replace(written, free)
        return text

    def open_terminal(self, command: str) -> subprocess.Popen[str]:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        variables["GUNICORN_CMD_ARGS"] = f"-b 127.0.0.1:{self.ports['8000']}"
        terminal = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", self.with_ports(command)],
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.terminals.append(terminal)
        return terminal

    def run(self, command: str) -> str:
        terminal = self.open_terminal(command)
        output, _ = terminal.communicate(timeout=120)
        assert terminal.returncode == 0, output
        return output

    def serve(self, command: str) -> subprocess.Popen[str]:
        """Start the server, and wait until it is there."""
        terminal = self.open_terminal(f"exec env {command}" if "=" in command.split()[0] else f"exec {command}")
        wait_until(lambda: "Booting worker" in (pipe(terminal.stdout).readline() or pytest.fail("it ended")))
        return terminal

    def visit(self, browser: Any, port: str) -> Any:
        """Open the page that is served at a port."""
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{self.ports[port]}/")
        return page

    def save(self, file: str, block: Block) -> None:
        (self.folder / file).write_text(self.with_ports(block.text))

    def go(self) -> None:
        for terminal in self.terminals:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(terminal.pid, signal.SIGTERM)
            terminal.communicate(timeout=20)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = Newcomer(tmp_path)
    yield newcomer
    newcomer.go()


@pytest.mark.slow
def test_the_tutorial_leads_from_nothing_to_a_bar_that_moves(newcomer: Newcomer, browser: Any) -> None:
    started = time.monotonic()
    steps = iter(blocks(DOCS / "tutorial.md"))
    assert next(steps).text.strip().endswith("pip install -r requirements.txt")  # `.ci/demo.py` does

    server = newcomer.serve(next(steps).text)
    newcomer.save("work.py", next(steps))
    work = next(steps).text
    newcomer.run(work)
    look = next(steps).text
    shown = newcomer.run(look)
    assert '"status":"completed"' in shown
    [address] = [line for line in shown.splitlines() if line.startswith("http")]

    stream = newcomer.open_terminal(f"{look.splitlines()[0]}\nexec {next(steps).text}")
    page = browser.new_page()
    page.goto(address)
    newcomer.run(work)
    page.locator("#history task-progress").nth(1).wait_for()
    page.close()
    assert any('"status":"running"' in line for line in pipe(stream.stdout) if line.startswith("data:"))

    newcomer.run(next(steps).text)
    newcomer.save("mypage/index.html", next(steps))
    newcomer.open_terminal(next(steps).text)
    wait_until(lambda: is_open(int(newcomer.ports["9000"])))
    server.terminate()
    server.wait(20)
    newcomer.serve(next(steps).text)
    page = newcomer.visit(browser, "9000")
    bar = f"{ELEMENT}?.shadowRoot?.querySelector('progress').value"
    page.wait_for_function(f"{bar} === 40")
    moving = newcomer.open_terminal(next(steps).text)
    page.wait_for_function(f"{bar} === 70")
    page.wait_for_function(f"{ELEMENT}.getAttribute('status') === 'completed'")
    page.close()
    assert moving.wait(10) == 0

    assert next(steps, None) is None
    seconds = time.monotonic() - started
    print(f"from the first command after the installation to the end: {seconds:.1f} s")
    assert seconds < TUTORIAL_SECONDS


def look_at_it_and_cancel(page: Any) -> None:
    """The bar moves, in the page's words and colours, until its button ends the work."""
    colour = f"getComputedStyle({ELEMENT}.shadowRoot.querySelector('[part=percent]')).color"
    page.wait_for_function(f"{ELEMENT}?.shadowRoot?.querySelector('progress').value > 2")
    assert re.fullmatch(r"Seite \d+ von 240", page.locator("[part=count]").inner_text())
    assert page.evaluate(colour) == "rgb(102, 51, 153)"
    assert page.locator("[part=bar]").bounding_box()["height"] == 12
    page.get_by_role("button", name="Abbrechen", exact=True).click()
    page.get_by_role("button", name="Ja, abbrechen").click()
    page.get_by_text("Kein Bericht.").wait_for()
    page.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_ten_minutes_lead_from_npm_to_a_bar_that_is_typed_german_dressed_and_cancelled(
    newcomer: Newcomer, browser: Any
) -> None:
    started = time.monotonic()
    steps = iter(blocks(DOCS / "front-end-in-ten-minutes.md"))
    newcomer.serve(next(steps).text)
    newcomer.run(next(steps).text)
    for block in islice(steps, 4):
        newcomer.save(f"reports/{block.file}", block)
    newcomer.run(next(steps).text)
    newcomer.save("work.py", next(steps))

    working = newcomer.open_terminal(next(steps).text)
    newcomer.open_terminal(f"cd reports\nexec {next(steps).text}")
    wait_until(lambda: is_open(int(newcomer.ports["5173"])))
    look_at_it_and_cancel(newcomer.visit(browser, "5173"))
    print(f"from npm to a bar that has moved and was cancelled: {time.monotonic() - started:.1f} s")
    assert working.wait(10) == 0

    check, build, preview = next(steps).text.splitlines()
    newcomer.run(f"cd reports\n{check}\n{build}")
    newcomer.open_terminal(f"cd reports\nexec {preview}")
    wait_until(lambda: is_open(int(newcomer.ports["4173"])))
    page = newcomer.visit(browser, "4173")
    page.get_by_text("Abgebrochen").wait_for()
    page.get_by_text("Kein Bericht.").wait_for()
    page.close()
    wrong = f"cd reports\nsed -i 's/count:/counts:/' src/main.ts\n{check}"
    assert "'counts' does not exist" in newcomer.open_terminal(wrong).communicate(timeout=60)[0]

    assert next(steps, None) is None
    assert time.monotonic() - started < TUTORIAL_SECONDS


# Tokens that others sign.

SHARED = "a key of at least thirty-two bytes, in both"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Flask]:
    app = create_app({"DATABASE_URL": sqlite_file(tmp_path), "JWT_SECRET_KEY": SHARED, "TESTING": True})
    yield app
    state_of(app).store.close()


def written(folder: Path, file: str) -> Path:
    [text] = [block.text for block in blocks(DOCS / "tokens.md") if block.file == file]
    (folder / file).write_text(text)
    return folder / file


def said(folder: Path, *command: str) -> str:
    variables = {**os.environ, "TASKAPI_JWT_SECRET_KEY": SHARED, "SECRET_KEY": "of the application"}
    return subprocess.check_output(command, cwd=folder, env=variables, text=True).strip()


def by_pyjwt(folder: Path) -> str:
    written(folder, "with_pyjwt.py")
    return said(folder, sys.executable, "-c", "import with_pyjwt; print(with_pyjwt.token_for(123))")


def by_flask(folder: Path) -> str:
    written(folder, "with_flask.py")
    program = """
from with_flask import app
client = app.test_client()
assert client.get("/task-token").status_code == 401
with client.session_transaction() as session:
    session["user_id"] = 123
print(client.get("/task-token").text)
"""
    return said(folder, sys.executable, "-c", program)


def by_node(folder: Path) -> str:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    return said(folder, "node", "-p", f"require({str(written(folder, 'with-node.js'))!r}).tokenFor(123)")


def by_a_shell(folder: Path) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    [program] = [block.text for block in blocks(DOCS / "tokens.md") if block.text.startswith("encoded()")]
    return said(folder, "bash", "-euo", "pipefail", "-c", program)


@pytest.mark.parametrize("sign", [by_pyjwt, by_flask, by_node, by_a_shell], ids=lambda sign: str(sign.__name__))
def test_a_token_that_the_page_tells_how_to_sign_is_believed(
    tmp_path: Path, service: Flask, sign: Callable[[Path], str]
) -> None:
    client: FlaskClient = service.test_client()

    answer = client.get("/api/tasks/users/me", headers={"Authorization": f"Bearer {sign(tmp_path)}"})

    assert (answer.status_code, answer.json) == (200, [])


def test_the_key_that_the_page_makes_is_long_enough() -> None:
    [export] = [block.text for block in blocks(DOCS / "tokens.md") if block.text.startswith("export")]

    made = subprocess.check_output(["bash", "-c", f"{export}\necho -n $TASKAPI_JWT_SECRET_KEY"], text=True)

    assert len(made) == 64
