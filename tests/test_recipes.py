"""The recipes of `tests/recipes/`, each run as a reader would: its own commands, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness import ROOT, EventStream, Server, environment, free_port, insert, make_token, row, update, wait_until
from sqlalchemy.engine import make_url

pytestmark = pytest.mark.slow  # a minute, with everybody's workers, brokers and builds

RECIPES = ROOT / "tests" / "recipes"
MODULES = sorted(Path(pathlib.__file__).parent.glob("[a-z]*.py"))
USER = 123
SECONDS = 60.0
FINAL = ("completed", "failed", "timeout")

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

Run = Callable[..., "subprocess.Popen[str]"]


def commands(recipe: str) -> list[str]:
    """The commands that a recipe names at its top."""
    opening = (RECIPES / recipe).read_text().split('"""')[1]
    return re.findall(r"^(?:    |\$ )(\S.*)$", opening, re.MULTILINE)


def needs(program: str) -> str:
    """The path of a program, without which there is nothing to test."""
    return shutil.which(program) or pytest.skip(f"{program} is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader has copied the recipes to, one by one."""
    for recipe in RECIPES.iterdir():
        if recipe.is_file():
            shutil.copy(recipe, tmp_path)
    return tmp_path


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """The modules of Python's standard library, to work on."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for module in MODULES:
        shutil.copy(module, folder)
    return folder


@pytest.fixture
def run(folder: Path, database_url: str) -> Iterator[Run]:
    """Start a command line in that folder; ended with the test, with all that it started."""
    started: list[subprocess.Popen[str]] = []

    def run(command: str, **variables: str) -> subprocess.Popen[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {**environment(database_url), "PYTHONPATH": str(ROOT), "PATH": path, **variables}
        with (folder / f"stderr{len(started)}").open("w") as errors:
            started.append(
                subprocess.Popen(
                    ["bash", "-c", command],
                    cwd=folder,
                    env=variables,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
            )
        return started[-1]

    yield run
    for process in started:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a process and whatever it started: kindly, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    process.communicate()


def output_of(process: subprocess.Popen[str]) -> str:
    """What a process printed; it must have succeeded."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    return output.strip()


def watch(stream: EventStream) -> list[dict[str, Any]]:
    """What an open stream of all my tasks shows, until one has ended."""
    deadline = time.monotonic() + SECONDS
    shown: list[dict[str, Any]] = []
    while not shown or shown[-1]["status"] not in FINAL:
        event = stream.next(comments=True)
        assert time.monotonic() < deadline, shown
        if event.name == "message":
            shown.append(event.json)
    return shown


def check_completed(engine: sa.Engine, shown: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """One task from its beginning to its end, with every item counted; its row."""
    task = row(engine, shown[0]["task_id"])
    counts = [snapshot["completed_items"] for snapshot in shown]
    assert {snapshot["task_id"] for snapshot in shown} == {task["task_id"]}
    assert (task["status"], task["error_details"]) == ("completed", None)
    assert (task["total_items"], task["completed_items"], task["progress"]) == (count, count, 100)
    assert (shown[-1]["status"], counts[-1]) == ("completed", count)
    assert counts == sorted(counts)
    assert shown[0]["status"] not in FINAL
    return task


# The queues.


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own: nobody else's jobs, and ours to nobody else."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path_factory.mktemp("redis"))]
    redis = subprocess.Popen([needs("redis-server"), *options], stdout=subprocess.DEVNULL)
    wait_until(lambda: redis.poll() is not None or is_open(port))
    yield f"redis://127.0.0.1:{port}/0"
    redis.terminate()
    redis.wait()


@pytest.fixture(scope="module")
def rabbitmq_url() -> Iterator[str]:
    """A virtual host of our own, of the RabbitMQ on this machine."""
    if not is_open(5672):
        pytest.skip("no RabbitMQ answers on port 5672")
    name = f"taskapi_test_{os.getpid()}"
    for command in (["add_vhost", name], ["set_permissions", "-p", name, "guest", ".*", ".*", ".*"]):
        if subprocess.run([needs("rabbitmqctl"), *command], capture_output=True).returncode:
            pytest.skip("rabbitmqctl may not make a virtual host")
    yield f"amqp://guest:guest@127.0.0.1:5672/{name}"
    subprocess.run([needs("rabbitmqctl"), "delete_vhost", name], check=True, capture_output=True)


@pytest.fixture(params=["rabbitmq", "redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each broker of Celery's in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_celery_counts_every_module_in_front_of_an_open_stream(
    server: Server, engine: sa.Engine, run: Run, modules: Path, broker_url: str
) -> None:
    pytest.importorskip("celery")
    work, start = commands("celery_tasks.py")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, BROKER_URL=broker_url)
    task_id = output_of(run(start.replace("/usr/lib/python3", str(modules)), BROKER_URL=broker_url))
    shown = watch(stream)

    assert (shown[0]["task_id"], shown[0]["status"]) == (task_id, "queued")
    task = check_completed(engine, shown, len(MODULES))
    assert int(task["result_message"].removesuffix(" functions")) > 1000


def test_rq_packs_every_module_in_front_of_an_open_stream(
    server: Server, engine: sa.Engine, run: Run, modules: Path, folder: Path, redis_url: str
) -> None:
    pytest.importorskip("rq")
    work, start = commands("rq_jobs.py")
    archive = folder / "modules.zip"
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, REDIS_URL=redis_url)
    start = start.replace("/tmp/modules.zip", str(archive)).replace("/usr/lib/python3", str(modules))
    task_id = output_of(run(start, REDIS_URL=redis_url))
    shown = watch(stream)

    assert (shown[0]["task_id"], shown[0]["status"]) == (task_id, "queued")
    check_completed(engine, shown, len(MODULES))
    assert zipfile.ZipFile(archive).namelist() == [module.name for module in MODULES]


def test_celery_tries_a_job_that_breaks_again_and_the_last_attempt_decides(
    server: Server, engine: sa.Engine, run: Run, modules: Path, broker_url: str
) -> None:
    pytest.importorskip("celery")
    work, start = commands("celery_tasks.py")
    (modules / "aaa.py").write_text("def broken(:")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, BROKER_URL=broker_url)
    output_of(run(start.replace("/usr/lib/python3", str(modules)), BROKER_URL=broker_url))
    shown = watch(stream)

    queued = {task["result_message"] for task in shown if task["status"] == "queued" and task["result_message"]}
    line = "SyntaxError: invalid syntax"
    assert queued == {f"Attempt {number} failed: {line}. It will be tried again." for number in (1, 2)}
    ended = shown[-1]
    assert (ended["status"], ended["completed_items"], ended["result_message"]) == ("failed", 0, line)
    assert ended["error_details"].splitlines()[-1] == line


def check_begun_anew(engine: sa.Engine, shown: list[dict[str, Any]], count: int) -> None:
    """A task whose worker was killed, and that another one ran from its beginning to its end."""
    task, counts = row(engine, shown[0]["task_id"]), [snapshot["completed_items"] for snapshot in shown]
    assert (task["status"], task["error_details"], task["attempt"]) == ("completed", None, 2)
    assert (task["total_items"], task["completed_items"], task["progress"]) == (count, count, 100)
    again = max(number for number, snapshot in enumerate(shown) if snapshot["status"] == "starting")
    assert 0 < max(counts[:again]) < count
    assert (counts[again], shown[again]["progress"]) == (0, 0)
    assert counts[again:] == sorted(counts[again:])


def reach(stream: EventStream, stage: str) -> dict[str, Any]:
    """Wait until an open stream of all my tasks shows one at this stage; its snapshot."""
    snapshot: dict[str, Any] = {}
    while snapshot.get("stage") != stage:
        snapshot = stream.next().json
    return snapshot


def watch_until_it_counts(stream: EventStream) -> list[dict[str, Any]]:
    """What an open stream of all my tasks shows, until one has counted something."""
    shown: list[dict[str, Any]] = []
    while not shown or shown[-1]["completed_items"] == 0:
        event = stream.next()
        shown.append(event.json)
    return shown


def test_celery_hands_the_job_of_a_killed_worker_to_another_one(
    server: Server, engine: sa.Engine, run: Run, modules: Path, rabbitmq_url: str
) -> None:
    pytest.importorskip("celery")
    work, start = commands("celery_tasks.py")
    stream = server.stream("/api/tasks/users/me/events", USER)

    killed = run(work, BROKER_URL=rabbitmq_url)
    output_of(run(start.replace("/usr/lib/python3", str(modules)), BROKER_URL=rabbitmq_url))
    shown = watch_until_it_counts(stream)
    os.killpg(killed.pid, signal.SIGKILL)
    run(work, BROKER_URL=rabbitmq_url)
    shown += watch(stream)

    check_begun_anew(engine, shown, len(MODULES))


def test_rq_runs_the_job_of_a_killed_process_again(
    server: Server, engine: sa.Engine, run: Run, modules: Path, folder: Path, redis_url: str
) -> None:
    pytest.importorskip("rq")
    work, start = commands("rq_jobs.py")
    for number in range(9):  # enough for some seconds
        shutil.copytree(modules, modules / f"copy {number}", ignore=shutil.ignore_patterns("copy *"))
    stream = server.stream("/api/tasks/users/me/events", USER)

    worker = run(work, REDIS_URL=redis_url)
    start = start.replace("/tmp/modules.zip", f"{folder}/modules.zip").replace("/usr/lib/python3", str(modules))
    output_of(run(start, REDIS_URL=redis_url))
    shown = watch_until_it_counts(stream)
    os.kill(youngest(worker.pid), signal.SIGKILL)
    shown += watch(stream)

    check_begun_anew(engine, shown, 10 * len(MODULES))


def youngest(process: int) -> int:
    """The child's child's child of a process."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return youngest(int(children[-1])) if children else process


def test_rq_stops_a_job_that_is_cancelled_and_does_not_try_it_again(
    server: Server, engine: sa.Engine, run: Run, modules: Path, folder: Path, redis_url: str
) -> None:
    pytest.importorskip("rq")
    work, start = commands("rq_jobs.py")
    for number in range(9):  # enough for some seconds
        shutil.copytree(modules, modules / f"copy {number}", ignore=shutil.ignore_patterns("copy *"))
    start = start.replace("/tmp/modules.zip", f"{folder}/modules.zip").replace("/usr/lib/python3", str(modules))
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, REDIS_URL=redis_url)
    output_of(run(start, REDIS_URL=redis_url))
    shown = watch_until_it_counts(stream)
    assert server.request("POST", f"/api/tasks/{shown[-1]['task_id']}/cancel", USER).status == 202
    shown += watch(stream)
    (folder / "modules.zip").unlink()
    output_of(run(start.replace("modules.zip", "next.zip"), REDIS_URL=redis_url))
    watch(stream)

    cancelled = row(engine, shown[-1]["task_id"])
    assert (cancelled["status"], cancelled["result_message"], cancelled["attempt"]) == ("failed", "Cancelled.", 1)
    assert not (folder / "modules.zip").exists()


def test_rq_tries_a_job_that_breaks_again_and_the_last_attempt_decides(
    server: Server, engine: sa.Engine, run: Run, modules: Path, folder: Path, redis_url: str
) -> None:
    pytest.importorskip("rq")
    work, start = commands("rq_jobs.py")
    (modules / "aaa.py").symlink_to("/nowhere")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, REDIS_URL=redis_url)
    start = start.replace("/tmp/modules.zip", f"{folder}/modules.zip").replace("/usr/lib/python3", str(modules))
    task_id = output_of(run(start, REDIS_URL=redis_url))
    watch(stream)

    task = row(engine, task_id)
    assert (task["status"], task["attempt"]) == ("failed", 3)
    assert task["result_message"].startswith("FileNotFoundError: [Errno 2] No such file or directory")


def test_dramatiq_compiles_every_module_in_front_of_an_open_stream(
    server: Server, engine: sa.Engine, run: Run, modules: Path, rabbitmq_url: str
) -> None:
    pytest.importorskip("dramatiq")
    work, start = commands("dramatiq_jobs.py")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, BROKER_URL=rabbitmq_url)
    task_id = output_of(run(start.replace("/usr/lib/python3", str(modules)), BROKER_URL=rabbitmq_url))
    shown = watch(stream)

    assert (shown[0]["task_id"], shown[0]["status"]) == (task_id, "queued")
    task = check_completed(engine, shown, len(MODULES))
    assert int(task["result_message"].removesuffix(" bytes of code")) > 100_000


def test_huey_reads_every_module_in_front_of_an_open_stream(
    server: Server, engine: sa.Engine, run: Run, modules: Path, redis_url: str
) -> None:
    pytest.importorskip("huey")
    work, start = commands("huey_jobs.py")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, REDIS_URL=redis_url)
    task_id = output_of(run(start.replace("/usr/lib/python3", str(modules)), REDIS_URL=redis_url))
    shown = watch(stream)

    assert (shown[0]["task_id"], shown[0]["status"]) == (task_id, "queued")
    task = check_completed(engine, shown, len(MODULES))
    assert int(task["result_message"].removesuffix(" words")) > 100_000


def broker_of(recipe: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """What tells a recipe where its broker is."""
    if recipe == "dramatiq_jobs":
        return {"BROKER_URL": request.getfixturevalue("rabbitmq_url")}
    return {"REDIS_URL": request.getfixturevalue("redis_url")}


@pytest.mark.parametrize("recipe", ["dramatiq_jobs", "huey_jobs"])
@only_sqlite
def test_dramatiq_and_huey_try_a_job_that_breaks_again_and_the_last_attempt_decides(
    server: Server, engine: sa.Engine, run: Run, modules: Path, recipe: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(recipe.removesuffix("_jobs"))
    url = broker_of(recipe, request)
    work, start = commands(f"{recipe}.py")
    (modules / "aaa.py").symlink_to("/nowhere")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, **url)
    task_id = output_of(run(start.replace("/usr/lib/python3", str(modules)), **url))
    shown = watch(stream)

    queued = {task["result_message"] for task in shown if task["status"] == "queued" and task["result_message"]}
    assert {message.split(":")[0] for message in queued} == {f"Attempt {number} failed" for number in (1, 2)}
    ended = row(engine, task_id)
    assert (ended["status"], ended["attempt"]) == ("failed", 3)
    assert ended["result_message"].startswith("FileNotFoundError")


@pytest.mark.parametrize("recipe", ["dramatiq_jobs", "huey_jobs"])
@only_sqlite
def test_dramatiq_and_huey_stop_a_job_that_is_cancelled_and_do_not_try_it_again(
    server: Server, engine: sa.Engine, run: Run, modules: Path, recipe: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(recipe.removesuffix("_jobs"))
    url = broker_of(recipe, request)
    for number in range(19):  # enough for some seconds
        shutil.copytree(modules, modules / f"copy {number}", ignore=shutil.ignore_patterns("copy *"))
    work, start = commands(f"{recipe}.py")
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(work, **url)
    task_id = output_of(run(start.replace("/usr/lib/python3", str(modules)), **url))
    watch_until_it_counts(stream)
    assert server.request("POST", f"/api/tasks/{task_id}/cancel", USER).status == 202
    watch(stream)
    shutil.rmtree(modules)
    modules.mkdir()
    output_of(run(start.replace("/usr/lib/python3", str(modules)), **url))
    watch(stream)

    cancelled = row(engine, task_id)
    assert (cancelled["status"], cancelled["result_message"], cancelled["attempt"]) == ("failed", "Cancelled.", 1)


def test_dramatiq_hands_the_job_of_a_killed_worker_to_another_one(
    server: Server, engine: sa.Engine, run: Run, modules: Path, rabbitmq_url: str
) -> None:
    pytest.importorskip("dramatiq")
    work, start = commands("dramatiq_jobs.py")
    for number in range(4):  # enough for some seconds
        shutil.copytree(modules, modules / f"copy {number}", ignore=shutil.ignore_patterns("copy *"))
    stream = server.stream("/api/tasks/users/me/events", USER)

    killed = run(work, BROKER_URL=rabbitmq_url)
    output_of(run(start.replace("/usr/lib/python3", str(modules)), BROKER_URL=rabbitmq_url))
    shown = watch_until_it_counts(stream)
    os.killpg(killed.pid, signal.SIGKILL)
    run(work, BROKER_URL=rabbitmq_url)
    shown += watch(stream)

    check_begun_anew(engine, shown, 5 * len(MODULES))


@pytest.mark.parametrize("recipe", ["celery_tasks", "dramatiq_jobs", "huey_jobs", "rq_jobs"])
@only_sqlite
def test_without_a_broker_the_task_fails_and_the_view_is_told(
    server: Server, engine: sa.Engine, run: Run, recipe: str
) -> None:
    pytest.importorskip(recipe.split("_")[0])
    stream = server.stream("/api/tasks/users/me/events", USER)

    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    broker = nowhere.replace("redis:", "amqp:") if recipe == "dramatiq_jobs" else nowhere
    asking = run(commands(f"{recipe}.py")[1], REDIS_URL=nowhere, BROKER_URL=broker)
    shown = watch(stream)

    assert asking.wait(SECONDS) == 1
    assert shown[-1]["status"] == "failed"
    assert "Connection refused" in shown[-1]["error_details"]


# Workers without a queue.


def test_a_view_answers_202_at_once_and_a_thread_does_the_work(
    server: Server, engine: sa.Engine, run: Run, folder: Path
) -> None:
    serve, ask = commands("thread.py")
    port = free_port()
    stream = server.stream("/api/tasks/users/me/events", USER)

    run(f"exec {serve}".replace("8001", str(port)))
    wait_until(lambda: is_open(port), SECONDS)
    refused = output_of(run(ask.replace("8001", str(port)), TOKEN="nonsense"))
    answer = output_of(run(ask.replace("8001", str(port)), TOKEN=make_token(USER)))
    shown = watch(stream)

    head, body = answer.split("\n\n", 1)
    location = re.search(r"^Location: (\S+)$", head, re.MULTILINE)
    assert refused.splitlines()[0].split()[1] in ("401", "422")
    assert head.splitlines()[0].split()[1] == "202"
    assert location is not None
    status = server.get(location[1], USER).json
    assert status["task_id"] == json.loads(body)["task_id"] == shown[0]["task_id"]
    assert status["completed_items"] > 100
    check_completed(engine, shown, status["total_items"])


def test_asyncio_compresses_every_module_in_front_of_an_open_stream(
    server: Server, engine: sa.Engine, run: Run, modules: Path
) -> None:
    [command] = commands("asyncio_worker.py")
    stream = server.stream("/api/tasks/users/me/events", USER)

    output_of(run(command.replace("/usr/lib/python3", str(modules))))
    shown = watch(stream)

    task = check_completed(engine, shown, len(MODULES))
    assert int(task["result_message"].removesuffix(" bytes")) > 100_000


@only_sqlite
def test_an_error_under_asyncio_fails_the_task(server: Server, engine: sa.Engine, run: Run, modules: Path) -> None:
    [command] = commands("asyncio_worker.py")
    (modules / "folder.py").mkdir()
    stream = server.stream("/api/tasks/users/me/events", USER)

    worker = run(command.replace("/usr/lib/python3", str(modules)))
    ended = watch(stream)[-1]

    assert worker.wait(SECONDS) == 1
    assert ended["status"] == "failed"
    assert "IsADirectoryError" in ended["error_details"]


# The shells. Both scripts do the same; what differs is how text becomes SQL.


@pytest.fixture
def script(database_url: str) -> str:
    """The script for this database, with its first two arguments."""
    url = make_url(database_url)
    if url.drivername == "sqlite":
        needs("sqlite3")
        return f"bash shell_sqlite.sh '{url.database}' {USER}"
    needs("psql")
    return f"bash shell_psql.sh '{database_url}' {USER}"


def test_a_shell_script_reports_by_plain_updates_whatever_its_files_are_called(
    server: Server, engine: sa.Engine, run: Run, folder: Path, script: str
) -> None:
    names = ["it's", 'a "file"', "'; DELETE FROM user_tasks; --", "back\\slash", "$(false)", ":count", "über", "last"]
    (folder / "files").mkdir()
    for name in names:
        (folder / "files" / name).write_text(name)
    stream = server.stream("/api/tasks/users/me/events", USER)

    printed = output_of(run(f'cd files && {script.replace("bash ", "bash ../")} "$@"'.replace('"$@"', quoted(names))))
    shown = watch(stream)

    task = check_completed(engine, shown, len(names))
    assert task["result_message"] == "8 files"
    assert len(printed.splitlines()) == len(names)
    assert {snapshot["stage"] for snapshot in shown} <= {None, "finished", *names}


def quoted(words: list[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def test_a_shell_script_that_breaks_off_leaves_its_task_failed(
    server: Server, engine: sa.Engine, run: Run, script: str
) -> None:
    stream = server.stream("/api/tasks/users/me/events", USER)

    worker = run(f'{script} nginx.conf "it isn\'t there" plain.html')
    ended = watch(stream)[-1]

    assert worker.wait(SECONDS) == 1
    assert (ended["status"], ended["completed_items"], ended["total_items"]) == ("failed", 1, 3)
    assert ended["result_message"] == "Stopped at it isn't there"


def test_a_shell_script_that_is_stopped_leaves_its_task_failed(
    server: Server, engine: sa.Engine, run: Run, folder: Path, script: str
) -> None:
    os.mkfifo(folder / "endless")
    stream = server.stream("/api/tasks/users/me/events", USER)

    worker = run(f"exec {script} nginx.conf endless")
    reach(stream, "endless")
    os.killpg(worker.pid, signal.SIGTERM)
    ended = watch(stream)[-1]

    assert (ended["status"], ended["result_message"]) == ("failed", "Stopped at endless")


def test_a_shell_script_leaves_a_task_alone_that_somebody_else_has_ended(
    server: Server, engine: sa.Engine, run: Run, folder: Path, script: str
) -> None:
    os.mkfifo(folder / "slow")
    stream = server.stream("/api/tasks/users/me/events", USER)

    worker = run(f"exec {script} slow")
    snapshot = reach(stream, "slow")
    update(engine, snapshot["task_id"], status="timeout")
    (folder / "slow").write_text("at last")
    output_of(worker)

    task = row(engine, snapshot["task_id"])
    assert (task["status"], task["completed_items"], task["result_message"]) == ("timeout", 0, None)


def test_a_shell_script_stops_when_its_task_is_cancelled(
    server: Server, engine: sa.Engine, run: Run, folder: Path, script: str
) -> None:
    os.mkfifo(folder / "slow")
    stream = server.stream("/api/tasks/users/me/events", USER)

    worker = run(f"exec {script} slow nginx.conf plain.html")
    snapshot = reach(stream, "slow")
    assert server.request("POST", f"/api/tasks/{snapshot['task_id']}/cancel", USER).status == 202
    (folder / "slow").write_text("at last")
    printed = output_of(worker)

    task = row(engine, snapshot["task_id"])
    assert (task["status"], task["result_message"], task["completed_items"]) == ("failed", "Cancelled.", 1)
    assert len(printed.splitlines()) == 1


# The pages.


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab that takes any certificate, and fails the test for what a page complains of."""
    context = browser.new_context(locale="en-GB", ignore_https_errors=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def serve_beside(page: Any, server: Server, path: str, body: str, content_type: str = "text/html") -> str:
    """Let a file be served beside the API, as nginx would; its URL."""
    url = f"http://127.0.0.1:{server.port}{path}"
    page.route(re.compile(re.escape(url)), lambda route: route.fulfill(body=body, content_type=content_type))
    return url


@only_sqlite
def test_a_plain_page_shows_a_live_bar(server: Server, engine: sa.Engine, page: Any) -> None:
    insert(engine, "it's 50%", USER, status="running", progress=10)
    text = (RECIPES / "plain.html").read_text()
    assert len(text.splitlines()) == 10
    url = serve_beside(page, server, "/plain.html", text)
    page.goto(f"{url}?task=it's%2050%25#token={make_token(USER)}")
    page.wait_for_function("document.querySelector('task-progress').task?.progress === 10")

    update(engine, "it's 50%", progress=60)
    page.wait_for_function("document.querySelector('task-progress').task?.progress === 60")
    update(engine, "it's 50%", status="completed")

    page.wait_for_function("document.title === 'My task: completed'")
    assert page.locator("progress").evaluate("bar => bar.value") == 100


REACT_APP = """
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import TaskProgress from "./TaskProgress.jsx";

const token = %s;
window.done = [];

function App() {
  const [taskId, setTaskId] = useState("a b");
  const [renders, render] = useState(0);
  const [isOpen, open] = useState(true);
  Object.assign(window, { setTaskId, open, render, renders });
  return isOpen && (
    <TaskProgress taskId={taskId} label={`Rendered ${renders}`} token={async () => token}
      onDone={(task) => done.push([task.task_id, renders])} />
  );
}

createRoot(document.querySelector("main")).render(<StrictMode><App /></StrictMode>);
"""


@pytest.fixture(scope="module", params=["18.3.1", "19.3.1"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Bundle an application that imports `TaskProgress.jsx`; the packages come once, from the npm registry."""
    folder = tmp_path_factory.mktemp("react")
    (folder / "package.json").write_text('{"private": true}')
    shutil.copy(RECIPES / "TaskProgress.jsx", folder)
    packages = [f"react@{request.param}", f"react-dom@{request.param}", "esbuild@0.28.2"]
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--fetch-retries=0"]
    command = [needs("npm"), "install", *options, *packages]
    npm = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if npm.returncode != 0:
        pytest.skip(f"npm cannot fetch React: {npm.stderr.strip()[:300]}")

    def build(source: str) -> str:
        (folder / "app.jsx").write_text(source)
        bundle = ["node_modules/.bin/esbuild", "app.jsx", "--bundle", "--format=esm", "--jsx=automatic"]
        made = subprocess.run(bundle, cwd=folder, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return made.stdout

    return build


@only_sqlite
def test_a_react_component_shows_a_live_bar(
    server: Server, engine: sa.Engine, page: Any, build: Callable[[str], str]
) -> None:
    insert(engine, "a b", USER, status="running", progress=10)
    insert(engine, "next", USER, status="running", progress=30)
    script = build(REACT_APP % json.dumps(make_token(USER)))
    opened: list[str] = []
    page.on("request", lambda request: opened.extend([request.url] * ("/events?" in request.url)))
    serve_beside(page, server, "/app.js", script, "text/javascript")
    html = "<!doctype html><link rel=icon href=data:,><main></main><script type=module src=/app.js></script>"
    page.goto(serve_beside(page, server, "/app.html", html))
    page.wait_for_function("document.querySelector('task-progress').task?.progress === 10")

    for count in (1, 2, 3):
        page.evaluate("count => render(count)", count)
        page.get_by_role("progressbar", name=f"Rendered {count}").wait_for()
    update(engine, "a b", status="completed")
    page.wait_for_function("done.length === 1")
    page.evaluate("setTaskId('next')")
    page.wait_for_function("document.querySelector('task-progress').task?.progress === 30")
    update(engine, "next", progress=70)
    page.wait_for_function("document.querySelector('task-progress').task?.progress === 70")
    page.evaluate("open(false)")
    page.locator("task-progress").wait_for(state="detached")

    assert page.evaluate("done") == [["a b", 3]]  # the newest function, once
    assert len(opened) == 2  # one stream for each task, however often it was rendered
    wait_until(lambda: open_streams(server) == 0)


def open_streams(server: Server) -> float:
    """How many streams the server holds."""
    found = re.findall(
        r"^taskapi_streams_open(?:\{[^}]*\})? (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE
    )
    assert found
    return sum(map(float, found))


# The proxy.


class Nginx:
    """nginx with the recipe as a distribution includes it; only addresses and paths are the test's own."""

    def __init__(self, program: str, backend: int, folder: Path) -> None:
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.log = folder / "access.log"
        subject = [
            "-subj",
            "/CN=127.0.0.1",
            "-days",
            "1",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]
        pair = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
        subprocess.run([needs("openssl"), "req", "-x509", *subject, *pair], check=True, capture_output=True)
        site = (RECIPES / "nginx.conf").read_text()
        for theirs, ours in {
            "127.0.0.1:8000": f"127.0.0.1:{backend}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "/etc/ssl/certs/taskapi.pem": f"{folder}/cert.pem",
            "/etc/ssl/private/taskapi.key": f"{folder}/key.pem",
            "/var/log/nginx/taskapi.log": str(self.log),
        }.items():
            assert theirs in site
            site = site.replace(theirs, ours)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "site.conf").write_text(site)
        (folder / "main.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ {paths} include {folder}/site.conf; }}"
        )
        command = [program, "-p", str(folder), "-c", f"{folder}/main.conf"]
        with (folder / "nginx.err").open("w") as errors:
            self.process = subprocess.Popen(command, stderr=errors)
        wait_until(lambda: self.process.poll() is not None or is_open(self.port))
        assert self.process.poll() is None, (folder / "nginx.err").read_text()

    def curl(self, path: str, *options: str) -> tuple[str, str, str]:
        """The version of HTTP, the status and headers, and the body of an answer."""
        shown = ["-w", "\n%{http_version}", "-D", "/dev/stderr", "-H", f"Authorization: Bearer {make_token(USER)}"]
        command = ["curl", "--http2", "-ksS", "--max-time", "20", *shown, *options, self.url + path]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        body, version = answer.stdout.rsplit("\n", 1)
        return version, answer.stderr.lower(), body

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def behind_nginx(
    start_server: Callable[..., Server], engine: sa.Engine, tmp_path: Path
) -> Iterator[tuple[Server, Nginx]]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    needs("curl")
    server = start_server()
    nginx = Nginx(NGINX, server.port, tmp_path)
    yield server, nginx
    nginx.close()


@only_sqlite
def test_nginx_speaks_http2_and_lets_frames_through_one_by_one(
    behind_nginx: tuple[Server, Nginx], engine: sa.Engine
) -> None:
    _, nginx = behind_nginx
    insert(engine, "a", USER, status="running", progress=10)

    answered = nginx.curl("/api/tasks/a/status")
    hidden = nginx.curl("/metrics")
    command = ["curl", "--http2", "-ksSN", "--max-time", "20", "-H", f"Authorization: Bearer {make_token(USER)}"]
    with subprocess.Popen([*command, f"{nginx.url}/api/tasks/a/events"], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        frames = [next(line for line in curl.stdout if line.startswith("data:"))]
        update(engine, "a", progress=40)
        frames.append(next(line for line in curl.stdout if line.startswith("data:")))
        update(engine, "a", status="completed")
        rest = curl.stdout.read()

    assert (answered[0], json.loads(answered[2])["progress"]) == ("2", 10)
    assert hidden[1].startswith("http/2 404")
    assert [json.loads(frame.removeprefix("data: "))["progress"] for frame in frames] == [10, 40]
    assert "event: done" in rest
    assert curl.returncode == 0


@only_sqlite
def test_while_the_server_is_away_nginx_tells_everybody_what_they_understand(
    behind_nginx: tuple[Server, Nginx], engine: sa.Engine
) -> None:
    server, nginx = behind_nginx
    insert(engine, "a", USER, status="running")
    server.close()

    _, stream_head, stream = nginx.curl("/api/tasks/a/events")
    problems = [
        nginx.curl("/api/tasks/a/status"),
        nginx.curl("/api/tasks/users/me"),
        nginx.curl("/api/tasks/a/events", "-X", "POST"),  # somebody fetches a ticket, which is JSON
    ]

    assert stream_head.startswith("http/2 200")
    assert "content-type: text/event-stream" in stream_head
    assert stream == "retry: 1500\n\n"
    for _, head, body in problems:
        assert head.startswith("http/2 503")
        assert "content-type: application/problem+json" in head
        assert "retry-after: 2" in head
        assert json.loads(body)["status"] == 503


OPEN_STREAMS = """
    window.progress = {};
    window.everClosed = false;
    window.sources = %s.map((url, number) => {
        const source = new EventSource(url);
        source.onmessage = ({ data }) => progress[number] = JSON.parse(data).progress;
        source.onerror = () => everClosed ||= source.readyState === EventSource.CLOSED;
        return source;
    });
"""


@only_sqlite
def test_behind_nginx_more_than_six_streams_outlive_a_killed_server(
    behind_nginx: tuple[Server, Nginx], start_server: Callable[..., Server], engine: sa.Engine, page: Any
) -> None:
    server, nginx = behind_nginx
    insert(engine, "a", USER, status="running", progress=10)
    _, _, ticket = nginx.curl("/api/tasks/a/events", "-X", "POST")
    urls = [json.loads(ticket)["url"]] * 10
    page.goto(f"{nginx.url}/healthz")
    page.evaluate(OPEN_STREAMS % json.dumps(urls))
    page.wait_for_function("Object.values(progress).filter((value) => value === 10).length === 10")

    with page.expect_response(lambda answer: "/events?" in answer.url and answer.body() == b"retry: 1500\n\n"):
        server.close()
    update(engine, "a", progress=60)
    start_server("-b", f"127.0.0.1:{server.port}")

    page.wait_for_function("Object.values(progress).filter((value) => value === 60).length === 10")
    assert page.evaluate("everClosed") is False
    assert "ticket" not in nginx.log.read_text()
    assert "/api/tasks/a/events" in nginx.log.read_text()


# All of them.


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.iterdir() if path.is_file()))
def test_a_recipe_is_one_short_file_that_says_how_to_run_it(recipe: str) -> None:
    lines = (RECIPES / recipe).read_text().splitlines()

    assert len(lines) < 40
    assert max(map(len, lines)) <= 120
    assert recipe.removesuffix(".py") in "".join(lines[:7]) or recipe == "nginx.conf"


def test_the_documentation_shows_the_nginx_recipe() -> None:
    page = (ROOT / "taskapi" / "docs" / "deployment.md").read_text()

    assert f"```nginx\n{(RECIPES / 'nginx.conf').read_text()}```" in page
