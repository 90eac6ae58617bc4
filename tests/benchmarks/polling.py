"""Polls for each second of the server's CPU, beside a bare Flask view and beside FastAPI doing the same."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import sqlalchemy as sa

from . import programs
from .fanout import uvicorn
from .programs import HERE, Missing, Program
from .table import Row, ratio

SECONDS = 3
AUTHORIZATION = f"Authorization: Bearer {programs.TOKEN}"
STATUS = "/api/tasks/hot/status"


def hello() -> Program:
    """Flask's own first example, on the same server."""
    port = programs.free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--no-control-socket", "-b", f"127.0.0.1:{port}"]
    return Program(port, *command, "hello:app", cwd=HERE / "peers")


def fastapi(url: str) -> Program:
    """The same endpoint with FastAPI and SQLAlchemy's asyncio."""
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[url.partition(":")[0]]
    return uvicorn("fastapi_app:app", DATABASE_URL=url.replace(url.partition(":")[0], driver, 1), JWT_KEY=programs.KEY)


def per_second(program: Program, path: str, *headers: str) -> float:
    """Requests for each second of the program's CPU, by 16 connections that stay open."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Missing("no wrk")
    command = ["taskset", "-c", str(programs.CLIENT_CORE), wrk, "-t1", "-c16", f"-d{SECONDS}s"]
    for header in headers:
        command += ["-H", header]
    before = program.cpu()
    said = subprocess.run([*command, f"http://127.0.0.1:{program.port}{path}"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+) requests in", said)
    refused = "Non-2xx" in said and not any(header.startswith("If-None") for header in headers)
    if found is None or refused:
        raise Missing(f"wrk says: {said[-200:]}")
    return int(found[1]) / (program.cpu() - before)


def polling(number: int) -> Iterator[Row]:
    """All of them in one run."""
    with contextlib.ExitStack() as running:
        contestants: dict[str, Callable[[], float]] = {}

        def take_part(name: str, start: Callable[[], Program], *request: str) -> None:
            try:
                program = running.enter_context(contextlib.closing(start()))
                contestants[name] = lambda: per_second(program, *request)
            except Missing as reason:
                contestants[name] = cannot(reason)

        take_part("hello", hello, "/")
        for kind in ("sqlite", "postgresql"):
            try:
                url = running.enter_context(programs.task_database(kind))
            except Missing as reason:
                contestants[f"ours {kind}"] = contestants[f"fastapi {kind}"] = cannot(reason)
                continue
            server = running.enter_context(contextlib.closing(programs.taskapi(url)))
            take_part(f"fastapi {kind}", partial(fastapi, url), STATUS, AUTHORIZATION)
            contestants[f"ours {kind}"] = partial(per_second, server, STATUS, AUTHORIZATION)
            if kind == "sqlite":
                etag = f"If-None-Match: {_etag(url)}"
                contestants["ours 304"] = partial(per_second, server, STATUS, AUTHORIZATION, etag)
        found = programs.rounds(number, contestants)
    polls = " for each second of CPU"
    for name, what, to_reach in (
        ("ours sqlite", "a poll (200), SQLite", "0.9"),
        ("ours 304", "a poll (304), SQLite", "0.9"),
        ("ours postgresql", "a poll (200), PostgreSQL", "0.6"),
    ):
        yield Row(
            what, 'Flask\'s `return {"hello": "world"}`', ratio(found[name], found["hello"], polls), f"{to_reach} ×"
        )
    for kind, word in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
        value = ratio(found[f"ours {kind}"], found[f"fastapi {kind}"], polls)
        yield Row(f"a poll (200), {word}", "FastAPI, async SQLAlchemy", value, "4.5 ×")


def _etag(url: str) -> str:
    engine = programs.open_engine(url)
    with engine.connect() as connection:
        revision = connection.scalar(sa.text("SELECT revision FROM user_tasks WHERE task_id = 'hot'"))
    engine.dispose()
    return f'W/"{revision}"'


def cannot(reason: Missing) -> Callable[[], float]:
    """A contestant that cannot take part."""

    def measure() -> float:
        raise reason

    return measure
