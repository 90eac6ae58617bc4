"""What is measured, and what measures: programs on a core of their own, databases, the peers' environment."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from taskapi.database import connections, schema
from taskapi.database.failures import DatabaseError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEY = secrets.token_urlsafe(48)
TOKEN = jwt.encode({"sub": "1", "exp": int(time.time()) + 86_400}, KEY, "HS256")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
POSTGRES = os.environ.get("TASKAPI_TEST_POSTGRES", "postgresql://postgres@127.0.0.1/test")
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
# The server has one core for itself; the clients and whoever publishes share the other.
SERVER_CORE, CLIENT_CORE = 0, (os.cpu_count() or 1) - 1
STARTING_SECONDS = 60.0


class Missing(Exception):
    """What this machine lacks; says so in a sentence."""


@cache
def folder() -> Path:
    """Where everything of this run lies, until it ends."""
    made = Path(tempfile.mkdtemp(prefix="taskapi-benchmark-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def compiled(name: str) -> Path:
    """A program of this folder, compiled. Raises `Missing`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("no C compiler")
    binary = folder() / name
    subprocess.run([compiler, "-O2", "-o", binary, HERE / f"{name}.c"], check=True)
    return binary


@cache
def peers_python() -> Path:
    """The Python of the peers' own virtual environment, made once for their pinned list. Raises `Missing`."""
    home = Path(tempfile.gettempdir()) / "taskapi-benchmark-peers"
    python, pins, done = home / "bin" / "python", HERE / "peers.txt", home / "installed.txt"
    if not done.exists() or done.read_text() != pins.read_text():
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        made = subprocess.run([python, "-m", "pip", "install", "-q", "-r", pins], capture_output=True, text=True)
        if made.returncode:
            raise Missing(f"the peers cannot be installed: {made.stderr.strip().splitlines()[-1]}")
        done.write_text(pins.read_text())
    return python


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def cpu_of(pid: int) -> float:
    """The seconds of CPU that a process has used."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Program:
    """A server, with its children, on the servers' core."""

    def __init__(self, port: int, *command: Any, cwd: Path = ROOT, core: int = SERVER_CORE, **variables: str) -> None:
        self.port = port
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKAPI_")}
        self.log = folder() / f"{port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=cwd, env={**kept, **variables}, stdout=log, stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )  # fmt: skip
        try:
            self._wait_for(str(command[0]))
        except BaseException:
            self.close()
            raise

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + STARTING_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"{name} does not start: {self.log.read_text()[-300:]}")
            time.sleep(0.05)
        time.sleep(0.5)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def pids(self) -> list[int]:
        """Its processes."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def cpu(self) -> float:
        """The seconds of CPU that its processes have used."""
        return sum(map(cpu_of, self.pids()))

    def cpu_percent(self, seconds: float) -> float:
        """How much of a core they use, in the next so many seconds."""
        before = self.cpu()
        time.sleep(seconds)
        return 100 * (self.cpu() - before) / seconds

    def memory(self) -> int:
        """The kilobytes of memory that belong to its processes alone."""
        text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids())
        return sum(int(number) for number in re.findall(r"^Private_Dirty:\s+(\d+)", text, re.MULTILINE))

    def close(self) -> None:
        """End it and its children."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Measured(NamedTuple):
    """What the clients of a stream saw: frames, and their age when they came, in seconds."""

    frames: int
    p50: float
    p99: float


class Streams:
    """So many open streams, held by the C client on the clients' core."""

    def __init__(self, port: int, number: int, path: str, headers: dict[str, str] | None = None, host: int = 1) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.number, self.ended = number, 0
        self._process = subprocess.Popen(
            [compiled("client"), str(port), str(number), path, lines, str(host)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE}),
        )  # fmt: skip
        words = self._line() or ["open", "0", "opened", "0"]
        opened = int(words[3])
        if opened < number:
            self.close()
            raise Missing(f"only {opened} of {number} streams opened")

    def _line(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()

    def measure(self, seconds: float) -> Measured:
        """Count for so long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        frames, p50, p99, self.ended = map(int, self._line()[1::2])
        return Measured(frames, p50 / 1e6, p99 / 1e6)

    def ended_after(self, seconds: float) -> int:
        """How many ended with `done`, at the latest after so long."""
        deadline = time.monotonic() + seconds
        while self.ended < self.number and time.monotonic() < deadline:
            self.measure(1)
        return self.ended

    def close(self) -> None:
        """Close them all."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def task_database(kind: str) -> Iterator[str]:
    """The URL of a database with one running task, "hot"."""
    with _postgresql() if kind == "postgresql" else _sqlite() as url:
        engine = open_engine(url)
        schema.upgrade(engine)
        with engine.begin() as connection:
            insert = "INSERT INTO user_tasks (task_id, user_id, status, stage) VALUES ('hot', 1, 'running', 'at_work')"
            connection.execute(sa.text(insert))
        engine.dispose()
        yield url


@contextlib.contextmanager
def _sqlite() -> Iterator[str]:
    path = folder() / f"{secrets.token_hex(4)}.db"
    try:
        yield f"sqlite:///{path}"
    finally:
        for name in path.parent.glob(f"{path.name}*"):
            name.unlink()


@contextlib.contextmanager
def _postgresql() -> Iterator[str]:
    name = f"taskapi_benchmark_{secrets.token_hex(4)}"
    admin = sa.create_engine(make_url(POSTGRES).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sa.exc.OperationalError:
        raise Missing("no PostgreSQL answers at TASKAPI_TEST_POSTGRES") from None
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


def open_engine(url: str) -> sa.Engine:
    """An engine as taskapi opens it."""
    return connections.open_engine(connections.own_url(make_url(url)))


def insert_tasks(engine: sa.Engine, number: int) -> None:
    """Running tasks: t1, t2 and so on."""
    insert = "INSERT INTO user_tasks (task_id, user_id, status) VALUES (:task_id, 1, 'running')"
    with engine.begin() as connection:
        connection.execute(sa.text(insert), [{"task_id": f"t{i}"} for i in range(1, number + 1)])


def taskapi(url: str, *arguments: str, **settings: Any) -> Program:
    """Our server, started as its users start it."""
    port = free_port()
    names = {"DATABASE_URL": url, "JWT_SECRET_KEY": KEY, "MAX_STREAMS_PER_USER": 10**6, "STREAM_MAX_AGE": 86_000}
    variables: dict[str, Any] = {f"TASKAPI_{name}": str(value) for name, value in {**names, **settings}.items()}
    return Program(
        port, sys.executable, "-m", "gunicorn", "-c", "python:taskapi.gunicorn_conf", "wsgi:app",
        "-b", f"127.0.0.1:{port}", "--backlog", "4096", *arguments, **variables,
    )  # fmt: skip


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]


# What may go wrong with somebody in one round, and is no fault of the others: it is said in the table.
FAILURES = (Missing, OSError, HTTPException, DatabaseError, SQLAlchemyError, sqlite3.Error, subprocess.SubprocessError)


def rounds(number: int, contestants: Mapping[str, Callable[[], float]]) -> dict[str, float | Missing]:
    """The medians of interleaved rounds; for who could take part in none, why."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    missing: dict[str, Missing] = {}
    for turn in range(1, number + 1):
        for name, contestant in contestants.items():
            if name in missing and not seen[name]:
                continue
            said = ""
            try:
                seen[name].append(contestant())
            except FAILURES as error:
                missing[name] = as_missing(error)
                said = f": {missing[name]}"
            tell(f"  round {turn} of {number}, {name}{said}")
    return {name: median(values) if values else missing[name] for name, values in seen.items()}


def as_missing(error: BaseException) -> Missing:
    """What went wrong, in one line of a table."""
    return error if isinstance(error, Missing) else Missing(" ".join(str(error).split())[:200] or repr(error))


def tell(words: str) -> None:
    """Say how far it is, to whoever waits: the table goes elsewhere."""
    print(words, file=sys.stderr, flush=True)
