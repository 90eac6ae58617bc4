"""The examples of the documentation that no other test runs: each as it stands, with what it leaves to the reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from browser import USER, Visit
from documents import DOCS, README, blocks
from flask import Flask, render_template_string
from flask_sqlalchemy import SQLAlchemy
from harness import KEY, ROOT, Server, environment, free_port, grants, insert, make_token, row, wait_until

from taskapi.progress import Progress

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def example(page: Path, beginning: str) -> str:
    """The one block of a page that begins so."""
    [text] = [block.text for block in blocks(page) if block.text.startswith(beginning)]
    return text


def sh(command: str, folder: Path, **variables: str) -> str:
    """What a command line prints; it must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The README.


def test_three_lines_and_a_tag_are_all_that_an_application_needs(tmp_path: Path) -> None:
    app, db = Flask("shop"), SQLAlchemy()
    url = f"sqlite:///{tmp_path}/shop.db"
    app.config.update(TESTING=True, SECRET_KEY="of the shop", SQLALCHEMY_DATABASE_URI=url)
    db.init_app(app)
    names: dict[str, Any] = {"app": app, "db": db, "current_user": SimpleNamespace(id=7, is_authenticated=True)}

    exec(example(README, "from taskapi import"), names)
    with app.app_context():
        db.create_all()
        task_id = names["tasks"].create(user_id=7)
        db.session.commit()
    read: list[int] = []
    exec(
        example(README, "from taskapi.progress"),
        {"database_url": url, "task_id": task_id, "pages": range(5), "read": read.append},
    )
    with app.test_request_context():
        tag = render_template_string(example(README, "{{ task_progress"), task_id=task_id)

    task = app.test_client().get(f"/api/tasks/{task_id}/status").get_json()
    assert (task["status"], task["completed_items"], read) == ("completed", 5, [0, 1, 2, 3, 4])
    assert f'src="/api/tasks/{task_id}" label="Yearly report" cancel>' in tag


# Workers.


def test_the_helpers_first_example_runs(progress: Progress, engine: sa.Engine) -> None:
    made: list[int] = []
    program = example(DOCS / "workers.md", "from taskapi.progress import Progress\n\nprogress = Progress()")
    program = program.replace("progress = Progress()", "")  # the test's own

    names: dict[str, Any] = {"progress": progress, "cards": range(50), "make": made.append}
    exec(program, names)

    task = row(engine, names["task_id"])
    assert (task["status"], task["result_message"], task["completed_items"]) == ("completed", "50 cards created", 50)
    assert (task["learning_path_id"], len(made)) == (456, 50)


def test_a_worker_in_another_language_hears_of_a_cancellation_and_says_that_it_stopped(engine: sa.Engine) -> None:
    question, answer = example(DOCS / "cancel-limits-retries.md", "SELECT cancel_requested_at").split(";\n", 1)
    insert(engine, "by_hand", status="running", cancel_requested_at="2026-01-01T00:00:00.000Z")

    with engine.begin() as connection:
        asked = connection.exec_driver_sql(question).scalar()
        connection.exec_driver_sql(answer)

    assert asked
    assert (row(engine, "by_hand")["status"], row(engine, "by_hand")["result_message"]) == ("failed", "Cancelled.")


# Pages of one's own.


@only_sqlite
def test_without_the_element_three_lines_follow_a_task(visit: Visit, server: Server, engine: sa.Engine) -> None:
    insert(engine, "a", USER, status="running", progress=40)
    program = example(DOCS / "front-end.md", "const ticket = await fetch")
    visit.page.goto(f"{visit.origin}/healthz")

    visit.page.evaluate(
        "async ([program, id, token]) => { window.bar = {}; await (0, eval)(`async (id, token, bar) => {${program}}`)"
        "(id, token, window.bar); }",
        [program, "a", make_token(USER)],
    )

    visit.wait_for("window.bar.value === 40")


@only_sqlite
def test_a_page_gets_its_tokens_from_the_applications_view(visit: Visit, engine: sa.Engine) -> None:
    insert(engine, "TASK_ID", USER, status="running", progress=40)
    html = example(DOCS / "tokens.md", '<script type="module">').replace("https://tasks.example.com", visit.origin)
    page = f'<!doctype html><link rel="icon" href="data:,">{html}'
    visit.page.route("**/mine", lambda route: route.fulfill(content_type="text/html", body=page))
    visit.page.route("**/task-token", lambda route: route.fulfill(body=make_token(USER)))

    visit.page.goto(f"{visit.origin}/mine")

    visit.wait_for("document.querySelector('task-progress')?.task?.progress === 40")
    assert visit.complaints == []


# Operation.


def test_the_commands_of_the_terminal_do_what_is_said_beside_them(
    server: Server, engine: sa.Engine, database_url: str
) -> None:
    for task_id in ("waiting", "done"):
        insert(engine, task_id, 123, status="pending" if task_id == "waiting" else "completed")
    variables = {**environment(database_url), "TOKEN": make_token(123)}
    lines = example(DOCS / "operation.md", "flask tasks list").splitlines()
    here = [line.replace("https://tasks.example.com", f"http://127.0.0.1:{server.port}") for line in lines]
    listing, *others = [line.partition("#")[0].replace("TASKAPI_TOKEN=…", "TASKAPI_TOKEN=$TOKEN") for line in here]

    said = [sh(listing, ROOT, **variables)]
    for line in others:
        said.append(sh(line.replace("TASK_ID", "waiting" if "cancel" in line else "done"), ROOT, **variables))

    assert [line.split()[0] for line in said[0].splitlines()] == ["done", "waiting"]
    assert said[1] == "Cancelled.\n"
    assert len(said) == 4
    assert ["completed" in text for text in said[2:]] == [True, True]


@only_sqlite
def test_the_doctors_commands_run_as_they_are_written(server: Server, database_url: str) -> None:
    commands = example(DOCS / "operation.md", "flask taskapi doctor")
    commands = commands.replace("https://tasks.example.com", f"http://127.0.0.1:{server.port}")

    said = sh(commands, ROOT, **environment(database_url))

    assert "wrong" not in {line.split()[0] for line in said.splitlines() if not line.startswith(" ")}


@pytest.mark.slow
@pytest.mark.parametrize("fresh_url", ["postgresql"], indirect=True)
def test_a_deployment_starts_as_it_is_written(fresh_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    port = free_port()
    commands = example(DOCS / "deployment.md", "export TASKAPI_DATABASE_URL")
    commands = commands.replace("postgresql://taskapi@db.example.com/taskapi", f"'{fresh_url}'").replace(
        "=…", f"={KEY}"
    )
    commands = commands.replace(":8000", f":{port}").replace("gunicorn -c", "exec gunicorn -c")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    with (tmp_path / "log").open("wb") as log:
        served = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            stdout=log,
            stderr=log,
        )
    request.addfinalizer(served.wait)
    request.addfinalizer(served.terminate)

    server = Server.__new__(Server)
    server.port, server.streams = port, []
    wait_until(lambda: served.poll() is not None or server.answers("/readyz"), 40)
    assert served.poll() is None, (tmp_path / "log").read_text()


def test_the_grants_that_are_shown_are_those_that_the_tests_give() -> None:
    shown = example(DOCS / "deployment.md", "GRANT").replace(";", "").splitlines()

    assert shown == grants("public", "taskapi")
