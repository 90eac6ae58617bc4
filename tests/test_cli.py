"""The commands, as they are typed."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from harness import KEY, ROOT, Server, environment, free_port, insert, make_token, row, update, wait_until
from sqlalchemy.engine import make_url

FLASK = str(Path(sys.executable).with_name("flask"))

Run = Callable[..., subprocess.CompletedProcess[str]]
Invoke = Callable[..., Result]


def run_with(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLASK, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


class Running:
    """A command that is still running, and the lines it has printed so far."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen([FLASK, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=file)

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait(self) -> int:
        return self.process.wait(20)


@pytest.fixture
def run(database_url: str) -> Run:
    """Run a command to its end, in a process of its own."""
    return lambda *arguments: run_with(environment(database_url), *arguments)


@pytest.fixture
def watch(database_url: str, tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Start `flask tasks watch`, with its output in a file."""
    started: list[Running] = []

    def watch(task_id: str) -> Running:
        arguments = ("tasks", "watch", task_id)
        started.append(Running(arguments, environment(database_url), tmp_path / f"watch{len(started)}"))
        return started[-1]

    yield watch
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def invoke(app: Flask) -> Callable[..., Result]:
    """Run a command to its end, in this process."""
    return lambda *arguments: app.test_cli_runner().invoke(args=arguments)


# flask token


def test_a_printed_token_opens_the_api_and_nothing_else_is_printed(
    run: Run, client: FlaskClient, engine: sa.Engine
) -> None:
    insert(engine, "mine", user=123)

    printed = run("token", "--user", "123")

    assert (printed.returncode, printed.stderr, printed.stdout.count("\n")) == (0, "", 1)
    headers = {"Authorization": f"Bearer {printed.stdout.strip()}"}
    assert client.get("/api/tasks/mine/status", headers=headers).status_code == 200


def test_a_token_opens_other_peoples_tasks_only_with_admin(
    invoke: Invoke, client: FlaskClient, engine: sa.Engine
) -> None:
    insert(engine, "theirs", user=5)

    plain, admin = (invoke("token", "--user", "123", *flags).stdout.strip() for flags in ([], ["--admin"]))

    path = "/api/tasks/theirs/status"
    assert client.get(path, headers={"Authorization": f"Bearer {plain}"}).status_code == 403
    assert client.get(path, headers={"Authorization": f"Bearer {admin}"}).status_code == 200


def test_a_token_expires_when_it_was_asked_to(invoke: Invoke) -> None:
    text = invoke("token", "--user", "123", "--expires", "77").stdout.strip()

    claims = jwt.decode(text, KEY, ["HS256"])
    assert claims["exp"] - claims["iat"] == 77


@pytest.mark.parametrize("user", ["-1", str(2**63), "one"])
def test_a_user_that_cannot_exist_gets_no_token(invoke: Invoke, user: str) -> None:
    refused = invoke("token", "--user", user)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--user" in refused.stderr


def test_no_token_is_made_where_another_service_signs_them(app: Flask, invoke: Invoke) -> None:
    app.config["JWT_ALGORITHM"] = "RS256"

    refused = invoke("token", "--user", "1")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "TASKAPI_JWT_ALGORITHM" in refused.stderr


# flask tasks list


def test_tasks_are_listed_newest_first_a_line_each(run: Run, engine: sa.Engine) -> None:
    insert(engine, "old", user=123, created_at="2026-01-01T00:00:00.000Z")
    insert(engine, "new", user=123, status="running", progress=12.5, completed_items=2, total_items=16, stage="cards")
    insert(engine, "theirs", user=5)

    listed = run("tasks", "list", "--user", "123")

    assert listed.stdout.splitlines() == ["new   12.5 %  running  2/16  cards", "old    0.0 %  pending  0/?"]


def test_a_page_of_tasks_is_listed(invoke: Invoke, engine: sa.Engine) -> None:
    for number in range(4):
        insert(engine, f"task{number}", user=123, created_at=f"2026-01-0{number + 1}T00:00:00.000Z")

    listed = invoke("tasks", "list", "--user", "123", "--skip", "1", "--limit", "2")

    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["task2", "task1"]


def test_text_from_a_task_cannot_steer_the_terminal(invoke: Invoke, engine: sa.Engine) -> None:
    insert(engine, "evil\x1b[2J", user=123, stage="a\nb", result_message="\x1b]0;title\x07 done\r\n")

    listed = invoke("tasks", "list", "--user", "123")

    assert listed.stdout == "evil [2J    0.0 %  pending  0/?  a b   ]0;title  done\n"


# flask tasks watch


@pytest.mark.parametrize(("status", "expected"), [("completed", 0), ("failed", 1), ("timeout", 2)])
def test_watch_prints_a_line_for_each_change_and_leaves_with_how_the_task_ended(
    watch: Callable[[str], Running], engine: sa.Engine, status: str, expected: int
) -> None:
    insert(engine, "t", user=123)

    running = watch("t")
    wait_until(lambda: "pending" in running.text)
    update(engine, "t", status="running", progress=40, stage="cards")
    wait_until(lambda: "40.0 %" in running.text)
    update(engine, "t", status=status, result_message="That is all.")

    assert running.wait() == expected
    first, second, third = running.text.splitlines()
    assert first == "  0.0 %  pending  0/?"
    assert second == " 40.0 %  running  0/?  cards"
    assert third.endswith("That is all.")
    assert status in third


class Terminal:
    """A terminal of a certain width, and what stands on it."""

    def __init__(self, columns: int, *command: Any, **variables: str) -> None:
        pyte = pytest.importorskip("pyte", reason="pyte, the terminal, is not installed: see .ci/requirements.txt")
        self._screen = pyte.Screen(columns, 24)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        self._master, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(self._master, False)
        self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=inside, stdout=inside, stderr=inside)
        os.close(inside)

    def lines(self) -> list[str]:
        """The lines that are not empty."""
        with contextlib.suppress(BlockingIOError, OSError):  # nothing yet; nobody is there any more
            while data := os.read(self._master, 65_536):
                self.written += data
                self._stream.feed(data)
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def wait_for(self, pattern: str) -> list[str]:
        """The lines, once one of them looks like this."""
        wait_until(lambda: any(re.search(pattern, line) for line in self.lines()))
        return self.lines()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def open_terminal(database_url: str) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(columns: int, *command: Any, **variables: str) -> Terminal:
        settings = {**environment(database_url), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **variables}
        terminals.append(Terminal(columns, FLASK, *command, **settings))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def ago(seconds: float) -> str:
    return f"{dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.000Z}"


def test_watch_draws_a_live_bar_in_a_terminal(open_terminal: Callable[..., Terminal], engine: sa.Engine) -> None:
    insert(engine, "t", user=123, status="running", stage="generating_cards", started_at=ago(60), total_items=50)
    update(engine, "t", progress=50, completed_items=25)

    terminal = open_terminal(100, "tasks", "watch", "t")
    [live] = terminal.wait_for("50 %")
    ticking = terminal.wait_for(r"25/50 1:0[3-9] ")
    update(engine, "t", status="completed", progress=100, completed_items=50, result_message="50 cards created")
    ended = terminal.wait_for("completed")

    assert re.fullmatch(r"generating cards +━+[╸╺]?━* +50 % 25/50 1:0\d about 1:0\d left", live)
    assert len(ticking) == 1, "the time goes on in its place"
    assert terminal.process.wait(20) == 0
    assert re.fullmatch(r"generating cards +━+ 100 % 50/50 1:\d\d", ended[0])
    assert ended[1:] == ["completed  50 cards created"]


def test_watch_fits_into_a_narrow_terminal(open_terminal: Callable[..., Terminal], engine: sa.Engine) -> None:
    insert(engine, "t", user=123, status="running", progress=50, stage="many words " * 9, started_at=ago(60))

    terminal = open_terminal(40, "tasks", "watch", "t")
    live = terminal.wait_for("50 %")
    update(engine, "t", status="failed", error_details="Traceback:\n  …\nKeyError: 'card'\n")
    ended = terminal.wait_for("failed")

    assert len(live) == 1
    assert re.fullmatch(r"many words [^…]*… ━+[╸╺]?━* +50 %", live[0])
    assert ended[1:] == ["failed  KeyError: 'card'"]
    assert terminal.process.wait(20) == 1


def test_watch_writes_plain_lines_in_a_dumb_terminal(open_terminal: Callable[..., Terminal], engine: sa.Engine) -> None:
    insert(engine, "t", user=123, status="running", progress=50, stage="cards")

    terminal = open_terminal(80, "tasks", "watch", "t", TERM="dumb")
    terminal.wait_for("50.0 %")
    update(engine, "t", status="timeout")
    terminal.wait_for("timeout")

    assert terminal.process.wait(20) == 2
    assert b"\x1b" not in terminal.written
    assert terminal.lines() == [" 50.0 %  running  0/?  cards", " 50.0 %  timeout  0/?  cards"]


def test_text_from_a_task_is_no_markup_and_no_escape(open_terminal: Callable[..., Terminal], engine: sa.Engine) -> None:
    insert(engine, "t", user=123, status="running", progress=5, stage="[bold]x[/] \x1b[2J\x07")

    terminal = open_terminal(100, "tasks", "watch", "t")
    terminal.wait_for("5 %")
    update(engine, "t", status="completed", result_message="[link=x]\x1b]0;title\x07")
    terminal.wait_for("completed")

    assert terminal.lines()[0].startswith("[bold]x[/]  [2J")
    assert terminal.lines()[1] == "completed  [link=x] ]0;title"
    assert b"\x1b[2J" not in terminal.written
    assert b"title\x07" not in terminal.written


def test_watch_says_in_a_sentence_that_there_is_no_such_task(invoke: Invoke) -> None:
    refused = invoke("tasks", "watch", "nix")

    assert (refused.exit_code, refused.stdout, refused.stderr) == (3, "", "Error: There is no task nix.\n")


def test_watch_ends_when_the_task_is_deleted(watch: Callable[[str], Running], engine: sa.Engine) -> None:
    insert(engine, "t", user=123)

    running = watch("t")
    wait_until(lambda: "pending" in running.text)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM user_tasks")

    assert running.wait() == 3
    assert running.text.endswith("Error: The task t was deleted.\n")


def test_a_wrong_command_line_is_no_answer_about_a_task(invoke: Invoke) -> None:
    assert invoke("tasks", "watch").exit_code == 3
    assert invoke("tasks", "watch", "t", "--nix").exit_code == 3


def test_ctrl_c_ends_watch_quietly(watch: Callable[[str], Running], engine: sa.Engine) -> None:
    insert(engine, "t", user=123)

    running = watch("t")
    wait_until(lambda: "pending" in running.text)
    running.process.send_signal(signal.SIGINT)

    assert running.wait() == 130
    assert running.text == "  0.0 %  pending  0/?\n"


def test_help_tells_what_the_exit_status_means(invoke: Invoke) -> None:
    text = invoke("tasks", "watch", "--help").stdout

    for line in ("0    the task completed", "1    it failed", "2    it timed out", "3    nobody can tell"):
        assert line in text


# flask tasks watch --url


@pytest.fixture
def watch_far_away(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """`watch` on a machine that has only the server's URL and a token."""
    processes: list[Running] = []

    def start(server: Server, task_id: str, token: str | None = None) -> Running:
        settings = environment(f"sqlite:///{tmp_path}/elsewhere.db", TOKEN=token or make_token(123))
        command = ("tasks", "watch", task_id, "--url", f"http://127.0.0.1:{server.port}")
        processes.append(Running(command, settings, tmp_path / f"far{len(processes)}"))
        return processes[-1]

    yield start
    for running in processes:
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize(("status", "expected"), [("completed", 0), ("failed", 1), ("timeout", 2)])
def test_watch_follows_a_servers_stream(
    server: Server, watch_far_away: Callable[..., Running], engine: sa.Engine, status: str, expected: int
) -> None:
    insert(engine, "t", user=123)

    running = watch_far_away(server, "t")
    wait_until(lambda: "pending" in running.text)
    update(engine, "t", status="running", progress=40, stage="cards")
    wait_until(lambda: "40.0 %" in running.text)
    update(engine, "t", status=status, result_message="That is all.")

    assert running.wait() == expected
    first, second, third = running.text.splitlines()
    assert (first, second) == ("  0.0 %  pending  0/?", " 40.0 %  running  0/?  cards")
    assert third.endswith("That is all.")


@pytest.mark.slow
def test_watch_outlives_the_servers_worker(
    start_server: Callable[..., Server], watch_far_away: Callable[..., Running], engine: sa.Engine
) -> None:
    server = start_server()
    insert(engine, "t", user=123, status="running")
    running = watch_far_away(server, "t")
    wait_until(lambda: "running" in running.text)

    os.kill(server.workers()[0], signal.SIGKILL)
    wait_until(lambda: server.answers("/readyz"))
    update(engine, "t", status="completed", progress=100)

    assert running.wait() == 0
    assert running.text.splitlines() == ["  0.0 %  running  0/?", "100.0 %  completed  0/?"]


@pytest.mark.slow
def test_watch_tells_why_a_server_refuses(
    server: Server, watch_far_away: Callable[..., Running], engine: sa.Engine
) -> None:
    insert(engine, "t", user=123)
    refusals = {
        ("nix", make_token(123)): "There is no such task.",
        ("t", make_token(124)): "This task belongs to somebody else.",
        ("t", "junk"): "The token is not valid.",
    }

    for (task_id, token), reason in refusals.items():
        refused = watch_far_away(server, task_id, token)

        assert refused.wait() == 3
        assert refused.text == f"Error: {reason}\n"


def test_watch_tells_that_no_server_answers(invoke: Invoke) -> None:
    port = free_port()

    refused = invoke("tasks", "watch", "t", "--url", f"http://127.0.0.1:{port}", "--token", "x")

    assert refused.exit_code == 3
    assert refused.stderr == f"Error: http://127.0.0.1:{port} cannot be reached: Connection refused.\n"
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--url", "ftp://x", "--token", "x"], "not an http"), (["--url", "http://x"], "needs a token")],
)
def test_watch_asks_for_a_url_and_a_token(invoke: Invoke, arguments: list[str], reason: str) -> None:
    refused = invoke("tasks", "watch", "t", *arguments)

    assert refused.exit_code == 3
    assert reason in refused.stderr


# flask tasks cancel, reap, prune


def test_cancel_ends_what_waits_and_asks_what_was_started(invoke: Invoke, engine: sa.Engine) -> None:
    insert(engine, "waiting", status="queued")
    insert(engine, "started", status="running")

    answers = [invoke("tasks", "cancel", name) for name in ("waiting", "started", "started")]

    assert [answer.exit_code for answer in answers] == [0, 0, 0]
    assert [answer.stdout for answer in answers] == ["Cancelled.\n", "Asked to stop.\n", "Asked to stop.\n"]
    assert row(engine, "waiting")["status"] == "failed"
    assert row(engine, "started")["cancel_requested_at"] is not None


def test_cancel_says_what_cannot_be_cancelled(invoke: Invoke, engine: sa.Engine) -> None:
    insert(engine, "ended", status="completed")

    ended, missing = invoke("tasks", "cancel", "ended"), invoke("tasks", "cancel", "missing")

    assert (ended.exit_code, ended.stderr) == (1, "Error: The task has ended: completed.\n")
    assert (missing.exit_code, missing.stderr) == (3, "Error: There is no task missing.\n")


def test_reap_closes_what_was_not_started_in_time(invoke: Invoke, engine: sa.Engine) -> None:
    insert(engine, "of last year", created_at="2020-01-01T00:00:00.000Z")
    insert(engine, "of today")

    assert invoke("tasks", "reap").stdout == "of last year\n"
    assert row(engine, "of last year")["result_message"] == "Not started within 24 hours."


def test_reap_closes_what_is_abandoned_and_nothing_else(invoke: Invoke, engine: sa.Engine) -> None:
    insert(engine, "abandoned", status="running", lease_expires_at="2026-01-01T00:00:00.000Z")
    insert(engine, "alive", status="running", lease_expires_at="2126-01-01T00:00:00.000Z")

    reaped = invoke("tasks", "reap")

    assert (reaped.exit_code, reaped.stdout) == (0, "abandoned\n")
    assert [row(engine, task_id)["status"] for task_id in ("abandoned", "alive")] == ["timeout", "running"]


def test_prune_removes_what_ended_long_ago_and_nothing_else(invoke: Invoke, engine: sa.Engine) -> None:
    for name, days in (("old", 31), ("recent", 29)):
        ended = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        insert(engine, name, status="completed", ended_at=f"{ended:%Y-%m-%dT%H:%M:%S}.000Z")
    insert(engine, "open", created_at="2020-01-01T00:00:00.000Z")

    pruned = invoke("tasks", "prune", "--days", "30")

    assert (pruned.exit_code, pruned.stdout) == (0, "1 removed.\n")
    with engine.connect() as connection:
        left = connection.scalars(sa.text("SELECT task_id FROM user_tasks ORDER BY task_id"))
        assert list(left) == ["open", "recent"]


# flask db upgrade, and databases that are not there


@pytest.fixture
def empty_schema(postgres_url: str) -> Iterator[str]:
    """PostgreSQL, in a schema without tables."""
    engine = sa.create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"))
    name = f"taskapi_empty_{os.getpid()}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    url = make_url(postgres_url).update_query_dict({"options": f"-csearch_path={name}"})
    yield url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


def test_a_fresh_postgresql_is_ready_after_db_upgrade(empty_schema: str) -> None:
    settings = environment(empty_schema)

    before = run_with(settings, "tasks", "list", "--user", "1")
    upgraded = run_with(settings, "db", "upgrade")
    after = run_with(settings, "tasks", "list", "--user", "1")

    assert before.returncode == 3
    assert before.stderr == "Error: The database's schema is not up to date: run `flask db upgrade`.\n"
    assert (upgraded.returncode, after.returncode) == (0, 0)
    assert (after.stdout, after.stderr) == ("", "No tasks of user 1.\n")


@pytest.mark.parametrize("arguments", [("watch", "t"), ("prune", "--days", "1")], ids=" ".join)
def test_a_database_that_does_not_answer_is_a_sentence(arguments: tuple[str, ...]) -> None:
    port = free_port()
    settings = environment(f"postgresql://me:hidden@127.0.0.1:{port}/nix")

    refused = run_with(settings, "tasks", *arguments)

    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr == f'Error: PostgreSQL at 127.0.0.1:{port}, database "nix": Connection refused.\n'


# settings


@pytest.mark.parametrize(("name", "value"), [("DATABASE_URL", "mysql://host/hidden"), ("LEASE_SECONDS", "hidden")])
def test_a_bad_setting_stops_the_start_with_a_sentence_that_names_it(sqlite_url: str, name: str, value: str) -> None:
    refused = run_with({**environment(sqlite_url), f"TASKAPI_{name}": value}, "token", "--user", "1")

    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert f"TASKAPI_{name} must be" in refused.stderr.splitlines()[-1]
    assert "hidden" not in refused.stderr
    assert "Traceback" not in refused.stderr
