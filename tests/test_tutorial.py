"""The tutorial, from its first step to its last, as a newcomer types it; and the tokens that other programs sign."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
        self.ports = {"8000": str(free_port()), "9000": str(free_port())}
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
        output, _ = terminal.communicate(timeout=60)
        assert terminal.returncode == 0, output
        return output

    def serve(self, command: str) -> subprocess.Popen[str]:
        """Start the server, and wait until it is there."""
        terminal = self.open_terminal(f"exec env {command}" if "=" in command.split()[0] else f"exec {command}")
        wait_until(lambda: "Booting worker" in (pipe(terminal.stdout).readline() or pytest.fail("it ended")))
        return terminal

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
    page = browser.new_page()
    page.goto(newcomer.with_ports("http://127.0.0.1:9000/"))
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
