"""The guide "In your application": the application is built out of its blocks, and served."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import documents
import pytest
from browser import Visit
from documents import Block
from harness import KEY, ROOT, Follower, Server, free_port, wait_until

pytest.importorskip("flask_login", reason="the guide's application needs the package flask-login")
pytest.importorskip("flask_wtf", reason="the guide's application needs the package flask-wtf")

GUIDE = ROOT / "taskapi" / "docs" / "in-your-application.md"
# What the machine may need for all of the six steps: the reader reads for minutes.
SECONDS_AT_MOST = 300
# What stands for itself, or changes how the application is served.
OTHERS = ("tokens.py", "keys.py", "mounted.py", "gunicorn.conf.py")


def blocks() -> list[Block]:
    return documents.blocks(GUIDE)


def changed(text: str, difference: str) -> str:
    """A text with the hunks of a diff applied: each is found by what it shows of the old text."""
    for hunk in difference.split("@@\n")[1:]:
        lines = hunk.splitlines()
        before, after = ("\n".join(line[1:] for line in lines if line[:1] != sign) for sign in "+-")
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the application at the end of the six steps; the commands were run where they stand."""
    folder = tmp_path_factory.mktemp("application")
    for block in blocks():
        if block.file not in OTHERS:
            write(folder, block)
        if block.language == "sh" and not {"gunicorn", "--app"} & set(block.text.split()):
            run(folder, block.text)
    return folder


def write(folder: Path, block: Block) -> None:
    if not block.file:
        return
    path = folder / block.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(changed(path.read_text(), block.text) if block.language == "diff" else block.text)


def variables(folder: Path) -> dict[str, str]:
    """The environment that the guide's `export` line makes."""
    exports = next(block.text for block in blocks() if "export " in block.text).splitlines()[0]
    given = dict(re.findall(r'(\w+)="([^"]+)"', exports.replace("$PWD", str(folder))))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PYTHONPATH": str(installed(folder)), "TASKAPI_JWT_SECRET_KEY": KEY}  # none is made in the checkout
    return {**os.environ, **given, "PATH": path, **ours}


def installed(folder: Path) -> Path:
    """Where the package is, and nothing else of the checkout: Flask's command would take its `wsgi.py`."""
    library = folder / ".installed"
    if not library.exists():
        library.mkdir()
        (library / "taskapi").symlink_to(ROOT / "taskapi")
    return library


def run(folder: Path, command: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=variables(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class Site(Server):
    """The guide's application, served as it says there, but on a port of the test's."""

    def __init__(self, folder: Path) -> None:
        self.port, self.streams = free_port(), []
        self.log = folder / "server.log"
        command = next(block.text for block in blocks() if block.text.startswith("gunicorn"))
        command = f"exec {command.strip()}".replace(":8000", f":{self.port}")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", command], cwd=folder, env=variables(folder), stdout=output, stderr=output
            )
        wait_until(lambda: self.process.poll() is not None or self.answers("/login"))
        assert self.process.poll() is None, self.log.read_text()


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    site = Site(folder)
    yield site
    site.close()


def form(site: Server, path: str, cookie: str, **fields: str) -> Any:
    """Send a form that stands at some path; the response's headers."""
    page, target = path.split(" ")
    token = re.search(r'name="csrf_token" value="([^"]+)"', (shown := site.get(page, Cookie=cookie)).body.decode())
    assert token
    cookie = (shown.headers.get("Set-Cookie") or cookie).split(";")[0]
    connection = HTTPConnection("127.0.0.1", site.port, timeout=10)
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    connection.request("POST", target, urlencode({"csrf_token": token[1], **fields}), kind)
    response = connection.getresponse()
    assert (response.status, response.read()) > (302, b"")
    connection.close()
    return response.headers


@pytest.mark.slow
def test_from_an_application_to_a_stream_that_moves(site: Site) -> None:
    headers = form(site, "/login /login", "", name="ada")
    cookie = headers["Set-Cookie"].split(";")[0]

    form(site, "/ /reports", cookie, title="Sales")

    follower = Follower(site.stream("/api/tasks/report-1/events", None, Cookie=cookie))
    wait_until(lambda: follower.ended)
    seen = [event.json["progress"] for event in follower.events if event.name == "message"]
    assert len(set(seen)) > 3
    assert follower.names == ["done"]
    task = site.get("/api/tasks/users/me", Cookie=cookie).json[0]
    assert (task["status"], task["result_message"], task["completed_items"]) == ("completed", "100 pages read", 100)
    assert site.get("/api/tasks/users/me").status == 401


@pytest.mark.slow
def test_from_an_application_to_a_bar_that_moves(site: Site, folder: Path, open_tab: Callable[[Server], Visit]) -> None:
    visit = open_tab(site)
    page = visit.page
    page.goto(f"{visit.origin}/login")
    page.get_by_label("Name").fill("bob")
    page.get_by_role("button").click()

    page.get_by_label("Title").fill("Sales")
    page.get_by_role("button").click()

    bar = "document.querySelector('task-progress')?.shadowRoot?.querySelector('progress').value"
    visit.wait_for(f"0 < {bar} && {bar} < 50")
    visit.wait_for(f"50 < {bar} && {bar} < 100")
    page.get_by_text("100 pages read", exact=True).wait_for()
    assert page.get_by_text("Sales", exact=True).is_visible()
    seconds = time.time() - (folder / ".installed").stat().st_mtime
    print(f"from the guide's first command to the end of the bar: {seconds:.0f} s")
    assert seconds < SECONDS_AT_MOST


@pytest.mark.slow
def test_the_button_cancels_though_the_application_guards_against_forgery(
    site: Site, folder: Path, open_tab: Callable[[Server], Visit]
) -> None:
    visit = open_tab(site)
    page = visit.page
    page.goto(f"{visit.origin}/login")
    page.get_by_label("Name").fill("cleo")
    page.get_by_role("button").click()
    with contextlib.closing(sqlite3.connect(folder / "reports.db")) as database, database:
        [[user]] = database.execute("SELECT id FROM user WHERE name = 'cleo'")
        [[report]] = database.execute("INSERT INTO report (user_id, title) VALUES (?, 'Costs') RETURNING id", [user])
        database.execute("INSERT INTO user_tasks (task_id, user_id) VALUES (?, ?)", [f"report-{report}", user])

    page.reload()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop it").click()

    visit.wait_for("document.querySelector('task-progress').getAttribute('status') === 'cancelled'")


@pytest.mark.slow
def test_the_configuration_of_gunicorn_serves_the_application(folder: Path) -> None:
    write(folder, next(block for block in blocks() if block.file == "gunicorn.conf.py"))
    site = Site(folder)

    headers = form(site, "/login /login", "", name="ada")
    cookie = headers["Set-Cookie"].split(";")[0]
    assert site.get("/api/tasks/users/me?ticket=secret", Cookie=cookie).status == 200
    wait_until(lambda: "GET /api/tasks/users/me HTTP/1.1" in site.log.read_text())  # written behind the answer
    site.close()

    assert "secret" not in site.log.read_text()


def ask(folder: Path, program: str) -> Any:
    """What a program in the folder prints, as JSON."""
    return json.loads(run(folder, f"{sys.executable} - <<'END'\n{textwrap.dedent(program)}\nEND").splitlines()[-1])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The blocks that stand for themselves."""
    for block in blocks():
        if block.file in OTHERS:
            write(tmp_path, block)
    return tmp_path


def test_an_application_with_tokens_of_its_own_needs_two_lines(files: Path) -> None:
    run(files, "flask --app tokens taskapi upgrade")

    found = ask(
        files,
        """
        import json
        from tokens import app, revoked
        from flask_jwt_extended import decode_token
        client = app.test_client()
        token = client.post("/login/1").get_json()["token"]
        header = {"Authorization": f"Token {token}"}
        statuses = [client.get("/api/tasks/users/me", headers=header).status_code]
        with app.app_context():
            revoked.add(decode_token(token)["jti"])
        statuses += [client.get("/api/tasks/users/me", headers=header).status_code]
        print(json.dumps(statuses))
        """,
    )

    assert found == [200, 401]


def test_a_function_says_who_is_asking_and_another_who_else_may_see_it(files: Path) -> None:
    run(files, next(block.text for block in blocks() if "--app keys" in block.text))

    found = ask(
        files,
        """
        import json
        from mounted import app
        from keys import tasks
        client = app.test_client()
        with app.app_context():
            tasks.create(user_id=1, task_id="mine")
            tasks.create(user_id=4, task_id="theirs")
        def ask(key, task_id):
            return client.get(f"/api/tasks/{task_id}/status", headers={"X-Api-Key": key}).status_code
        keys = ("key-of-ada", "key-of-bob", "key-of-root", "forged")
        ticket = client.post(
            "/api/tasks/mine/events", headers={"X-Api-Key": keys[0], "X-Forwarded-Prefix": "/shop"}
        ).get_json()["url"]
        print(json.dumps([[ask(key, task_id) for key in keys] for task_id in ("mine", "theirs")] + [ticket[:27]]))
        """,
    )

    assert found == [[200, 200, 200, 401], [403, 403, 200, 401], "/shop/api/tasks/mine/events"]


@pytest.mark.slow
def test_the_tests_of_the_application_pass(folder: Path) -> None:
    said = run(folder, f"{sys.executable} -m pytest -q -p no:cacheprovider test_reports.py")

    assert "1 passed" in said


def test_every_block_is_a_file_a_change_or_a_command() -> None:
    assert [block.text for block in blocks() if not block.file and block.language != "sh"] == []
    assert len(blocks()) > 12
