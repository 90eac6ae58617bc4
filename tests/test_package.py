"""What `pip install taskapi` brings: little, and with each extra what it names; it works without the checkout."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, EventStream, environment, free_port, row, wait_until

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]
MEGABYTE = 1_000_000

HOST = """
import os
from flask import Flask
from taskapi import Identity, TaskAPI

app = Flask(__name__)
app.config.update(SECRET_KEY="a host's secret", **{name: True for name in os.environ.get("SWITCHES", "").split()})
tasks = TaskAPI(app)

@tasks.identity
def who() -> Identity | None:
    return Identity(1)
"""
WORK = """
import time
from taskapi.progress import Progress

with Progress().task(user_id=1, task_id="work") as task:
    for _ in task.track(range(20)):
        time.sleep(0.1)
"""
TYPED = """
from flask import Flask
from taskapi import Identity, TaskAPI
from taskapi.progress import Progress, Task

app = Flask(__name__)
tasks = TaskAPI(app, url_prefix="/progress")

@tasks.identity
def who() -> Identity | None:
    return Identity(user_id=1, is_admin=False)

@app.post("/work")
def work() -> dict[str, str]:
    return {"task_id": tasks.create(user_id=1, kind="work", on_commit=run)}

def run(task_id: str) -> None:
    with Progress().run(task_id) as task:
        for number in task.track([1, 2, 3]):
            report(task, number)

def report(task: Task, number: int) -> None:
    task.stage(f"number {number}")
"""


def outcome(command: list[str], folder: Path, **variables: str) -> tuple[int, str]:
    """A command's exit status and what it wrote."""
    ended = subprocess.run(
        command, cwd=folder, env={**clean(), **variables}, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


def clean() -> dict[str, str]:
    """The environment without the checkout and its settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "PYTHON"))}


def without(packages: str, module: str, *arguments: str) -> list[str]:
    """`python -m module`, in this environment but for some packages."""
    missing = f"import runpy, sys; sys.modules.update(dict.fromkeys({packages.split()}))"
    run = f"sys.argv = {[module, *arguments]}; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"{missing}; {run}"]


# What is asked for.


def test_requirements_are_lower_bounds_alone() -> None:
    bounds = [each.partition(";")[0].strip() for each in REQUIREMENTS if not each.startswith("taskapi[")]

    assert [each for each in bounds if not re.fullmatch(r"[a-z_-]+(\[\w+\])?>=[0-9.]+", each)] == []
    assert {"flask>=3.0", "sqlalchemy>=2.0", "gunicorn[gevent]>=22.0"} <= set(bounds)


def test_all_is_every_extra() -> None:
    assert EXTRAS["all"] == [f"taskapi[{','.join(name for name in EXTRAS if name != 'all')}]"]


@pytest.mark.parametrize("pins", ["requirements.txt", ".ci/lowest.txt"])
def test_whatever_is_asked_for_is_pinned(pins: str) -> None:
    pinned = {names(line) for line in (ROOT / pins).read_text().splitlines() if "==" in line}

    assert {names(each) for each in REQUIREMENTS} - pinned == {"taskapi"}


def names(requirement: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[\[=>]", requirement)[0].lower().replace("_", "-")


def test_the_lowest_versions_that_are_tested_are_the_lower_bounds() -> None:
    lowest = (ROOT / ".ci" / "lowest.txt").read_text().lower()

    for each in REQUIREMENTS:
        package, bound = re.fullmatch(r"([^>\[]+)[^>]*(?:>=([0-9.]+))?.*", each).groups()  # type: ignore[union-attr]
        if bound is not None:
            assert re.search(rf"^{package}(\[\w+\])?=={re.escape(bound)}[.\d]*$", lowest, re.MULTILINE), each


# What is imported.


def imported(statement: str) -> set[str]:
    """The modules that an import brings into a process."""
    code = f"{statement}; import sys; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())


def test_a_worker_that_only_reports_imports_its_database_and_nothing_of_the_web() -> None:
    modules = imported("import taskapi.progress") - imported("pass")

    packages = {name.partition(".")[0] for name in modules}
    assert packages - set(sys.stdlib_module_names) == {"orjson", "taskapi"}
    assert "asyncio" not in packages


WITHOUT_SQLALCHEMY = """
import os
from taskapi.progress import Progress

progress = Progress()
task_id = progress.create(user_id=1, total_items=5)
with progress.run(task_id) as task:
    for number in task.track([1, 2, 3]):
        task.stage(f"number {number}")
    if (child := os.fork()) == 0:
        with progress.attach(task_id) as ours:
            ours.advance(2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print(task_id)
"""


def test_a_worker_works_without_sqlalchemy(database_url: str, engine: sa.Engine, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WITHOUT_SQLALCHEMY)
    command = without("sqlalchemy", "work")

    status, said = outcome(command, ROOT, PYTHONPATH=f"{ROOT}:{tmp_path}", TASKAPI_DATABASE_URL=database_url)

    assert status == 0, said
    found = row(engine, said.strip())
    assert (found["status"], found["completed_items"], found["stage"]) == ("completed", 5, "finished")


def test_a_host_imports_no_server_and_no_extra() -> None:
    modules = imported("from taskapi import TaskAPI, Identity; TaskAPI")

    extras = {"alembic", "flask_jwt_extended", "flask_swagger_ui", "gevent", "gunicorn", "psycopg", "rich"}
    assert {name.partition(".")[0] for name in modules} & extras == set()


# What is missing is said in a sentence.


@pytest.mark.parametrize(
    ("missing", "arguments", "sentence"),
    [
        (
            "flask_cors flask_migrate",
            "token --user 1",
            "Error: The standalone service needs flask_cors, flask_migrate: pip install 'taskapi[server]'\n",
        ),
        (
            "psycopg",
            "tasks list --user 1",
            "Error: PostgreSQL needs psycopg: pip install 'taskapi[postgresql]'\n",
        ),
        ("rich", "tasks watch one", "Error: `tasks watch` needs rich: pip install 'taskapi[cli]'\n"),
    ],
    ids=["server", "postgresql", "cli"],
)
def test_a_command_whose_packages_are_missing_names_the_extra(
    missing: str, arguments: str, sentence: str, tmp_path: Path
) -> None:
    url = "postgresql://nobody/" if missing == "psycopg" else f"sqlite:///{tmp_path}/tasks.db"
    command = without(missing, "taskapi", *arguments.split())

    assert outcome(command, ROOT, TASKAPI_DATABASE_URL=url) == (3, sentence)


@pytest.mark.parametrize(
    ("missing", "switch", "extra"),
    [("prometheus_client", "TASKAPI_METRICS", "metrics"), ("flask_swagger_ui", "TASKAPI_DOCS", "docs")],
)
def test_a_host_that_turns_on_what_is_missing_is_told_the_extra(
    missing: str, switch: str, extra: str, tmp_path: Path
) -> None:
    (tmp_path / "host.py").write_text(HOST)
    command = without(missing, "host")

    status, said = outcome(command, tmp_path, SWITCHES=switch, PYTHONPATH=f"{ROOT}:{tmp_path}")

    assert status == 1
    assert said.endswith(f"MissingExtraError: {switch} needs {missing}: pip install 'taskapi[{extra}]'\n")


def test_the_service_goes_without_reference_and_metrics_where_they_are_not_installed(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text("from taskapi.wsgi import app\nprint(*sorted(str(rule) for rule in app.url_map.iter_rules()))")
    command = without("flask_swagger_ui prometheus_client", "service")

    status, said = outcome(
        command, ROOT, PYTHONPATH=f"{ROOT}:{tmp_path}", TASKAPI_DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db"
    )

    assert status == 0, said
    assert {"/", "/healthz", "/api/tasks/<task_id>/events"} <= set(said.split())
    assert {"/docs", "/metrics"} & set(said.split()) == set()


# The wheel, without the checkout.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves its tools lying about."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "taskapi", source / "taskapi", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--wheel-dir", str(target), str(source))
    [wheel] = target.glob("taskapi-*.whl")
    return wheel


def pip(*arguments: str) -> None:
    """Run pip; what it says is the test's when it fails."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, env=clean())


def install(folder: Path, requirement: str) -> Path:
    """An environment with nothing but that; its `python`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip("--python", str(folder / "bin" / "python"), "install", requirement)
    return folder / "bin" / "python"


@pytest.mark.slow
def test_the_wheel_has_the_documentation_with_its_pictures_and_recipes(wheel: Path) -> None:
    written = {str(path.relative_to(ROOT)) for path in (ROOT / "taskapi" / "docs").rglob("*") if path.is_file()}

    assert written - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip install taskapi`."""
    return install(tmp_path_factory.mktemp("bare"), str(wheel))


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip install taskapi[all]`."""
    return install(tmp_path_factory.mktemp("full"), f"{wheel}[all]")


@contextlib.contextmanager
def running(command: list[str], folder: Path, **variables: str) -> Iterator[Path]:
    """A server that runs meanwhile; its log."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env={**clean(), **variables}, stdout=output, stderr=output)
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def open_stream(port: int, path: str, headers: dict[str, str]) -> EventStream | None:
    """A stream, once the server is there."""
    with contextlib.suppress(ConnectionError):
        return EventStream(port, path, headers)
    return None


def moves(stream: EventStream) -> bool:
    """Whether a bar of a stream moves while one looks."""
    seen: dict[str, set[float]] = {}
    with contextlib.closing(stream):
        while event := stream.next():
            if event.name == "message":
                steps = seen.setdefault(event.json["task_id"], set())
                steps.add(event.json["progress"])
                if len(steps) > 2:
                    return True
    return False


@pytest.mark.slow
def test_an_installed_demo_moves_a_bar(full: Path, tmp_path: Path) -> None:
    port = free_port()

    with running([str(full), "-m", "taskapi", "demo", "--port", str(port), "--folder", "."], tmp_path) as log:
        wait_until(lambda: "curl" in log.read_text())
        name, value = (tmp_path / "demo-header").read_text().strip().split(": ")
        stream = EventStream(port, "/api/tasks/users/me/events", {name: value})
        assert moves(stream)

    assert (full.parent.parent / "var" / "taskapi-instance" / "taskapi.db").exists()


@pytest.mark.slow
def test_an_installed_gunicorn_serves_what_an_installed_worker_reports(
    full: Path, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    variables = {name: value for name, value in environment(database_url).items() if name.startswith("TASKAPI_")}
    gunicorn = [str(full.with_name("gunicorn")), "-c", "python:taskapi.gunicorn_conf", "taskapi.wsgi:app"]
    (tmp_path / "work.py").write_text(WORK)

    with running([*gunicorn, "-b", f"127.0.0.1:{port}"], tmp_path, **variables):
        status, token = outcome([str(full), "-m", "taskapi", "token", "--user", "1"], tmp_path, **variables)
        assert status == 0, token
        headers = {"Authorization": f"Bearer {token.strip()}"}
        stream = wait_until(lambda: open_stream(port, "/api/tasks/users/me/events", headers))
        with running([str(full), "work.py"], tmp_path, **variables):
            assert moves(stream)

    status, said = outcome([str(full), "-m", "taskapi", "--help"], tmp_path, **variables)
    assert [word for word in ("db", "demo", "tasks", "token", "taskapi-instance") if word not in said] == []


@pytest.mark.slow
def test_a_bare_installation_is_small_and_serves_a_host_and_its_worker(bare: Path, tmp_path: Path) -> None:
    [packages] = (bare.parent.parent / "lib").glob("python*/site-packages")
    assert sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) < 40 * MEGABYTE
    port = free_port()
    variables = {"TASKAPI_DATABASE_URL": f"sqlite:///{tmp_path}/host.db"}
    flask = [str(bare), "-m", "flask", "--app", "host"]
    (tmp_path / "host.py").write_text(HOST)
    (tmp_path / "work.py").write_text(WORK)
    status, said = outcome([*flask, "taskapi", "upgrade"], tmp_path, **variables)
    assert status == 0, said

    with running([*flask, "run", "--port", str(port)], tmp_path, **variables):
        stream = wait_until(lambda: open_stream(port, "/api/tasks/users/me/events", {}))
        with running([str(bare), "work.py"], tmp_path, **variables):
            assert moves(stream)


@pytest.mark.slow
def test_a_hosts_lines_are_typed(full: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="this needs the package mypy")
    (tmp_path / "host.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(full), "host.py"]

    assert outcome(command, tmp_path) == (0, "Success: no issues found in 1 source file\n")
