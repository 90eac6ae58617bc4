"""What a process follows, and what PostgreSQL's writers make of it: nothing else is announced, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import fresh_database, open_engine, postgres_schema
from flask import Flask
from harness import ROOT, Follower, Server, environment, insert, row, update, wait_until, wait_until_shown
from test_faults import new_stream, read
from test_host_schema import install_version, role_without_tables
from test_schema import Announcements

from taskapi.database import schema
from taskapi.database.store import Store
from taskapi.state import state_of
from taskapi.stream import broadcaster as broadcasters
from taskapi.stream.broadcaster import Broadcaster
from taskapi.stream.feed import Following, following
from taskapi.stream.feed.following import EVERYTHING, KEYS_AT_MOST, keys_of
from taskapi.stream.streams import Stream, Terms

Serve = Callable[..., Server]
SOON = 5.0  # seconds; the sweep, which would hide what was lost, comes after ten

HELD = """
    SELECT objid::bigint::bit(32)::integer AS key, count(*) AS number FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = hashtext(current_schema())::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY 1"""


def held(engine: sa.Engine) -> dict[int, int]:
    """What is followed, by how many processes."""
    with engine.connect() as connection:
        return {found.key: found.number for found in connection.execute(sa.text(HELD))}


@pytest.fixture
def database_url() -> Iterator[str]:
    """A schema of the test's own: what other tests' applications still follow is followed elsewhere."""
    with postgres_schema(f"taskapi_test_{os.getpid()}_{secrets.token_hex(4)}") as url:
        yield url


@pytest.fixture
def broadcaster(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broadcaster]:
    """One that has no net under it."""
    monkeypatch.setattr(broadcasters, "SWEEP_SECONDS", 1e9)
    found: Broadcaster = state_of(app).broadcaster
    found.start()
    wait_until(lambda: found.is_connected)
    yield found
    found.close()


@pytest.mark.parametrize("of_user", [False, True], ids=["a task", "a user"])
def test_whoever_follows_while_a_change_is_committed_sees_it(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine, of_user: bool
) -> None:
    """Many rounds: before, within and after each step of either."""
    chance = random.Random(7)

    def change(task_id: str, pause: float) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE user_tasks SET progress = 50 WHERE task_id = :id"), {"id": task_id})
            time.sleep(pause)

    for _ in range(60):
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM user_tasks"))
        insert(engine, "a", 1, status="running")
        stream, reader = new_stream(broadcaster)
        writer = threading.Thread(target=change, args=("a", chance.uniform(0, 0.02)))
        writer.start()
        time.sleep(chance.uniform(0, 0.02))
        if of_user:
            broadcaster.follow_user(stream, 1, None)
        else:
            broadcaster.follow_task(stream, read(store))
        writer.join()

        wait_until(lambda: reader.newest() == {"a": 50}, SOON)  # noqa: B023
        stream.drop()
        broadcaster.leave(stream)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_change_that_is_committed_long_after_it_was_written_reaches_who_came_in_between(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine, isolation: Any
) -> None:
    insert(engine, "a", status="running")
    stream, reader = new_stream(broadcaster)
    with engine.connect().execution_options(isolation_level=isolation) as connection, connection.begin():
        connection.execute(sa.text("UPDATE user_tasks SET progress = 50"))
        broadcaster.follow_task(stream, read(store))
        wait_until(lambda: reader.newest() == {"a": 0})
        time.sleep(2.5)  # nobody reads it again any more, because somebody came

    wait_until(lambda: reader.newest() == {"a": 50}, SOON)


def test_a_change_on_its_slow_way_to_the_disk_reaches_who_comes_meanwhile(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine, database_url: str
) -> None:
    insert(engine, "a", status="running")
    stream, reader = new_stream(broadcaster)
    with psycopg.connect(database_url) as slow:
        for setting in ("commit_delay = 100000", "commit_siblings = 0"):
            slow.execute(f"SET {setting}".encode())
        slow.commit()
        slow.execute("UPDATE user_tasks SET progress = 50")
        commit = threading.Thread(target=slow.commit)
        commit.start()
        time.sleep(0.03)  # it has looked who follows, and sleeps
        broadcaster.follow_task(stream, read(store))
        commit.join()

        wait_until(lambda: reader.newest() == {"a": 50}, SOON)


def test_many_that_are_followed_are_one_lock_and_few_are_one_each(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LET_GO_SECONDS", 0.0)
    tasks = [insert(engine, f"t{number}", number, status="running") for number in range(KEYS_AT_MOST + 1)]
    streams = []
    for number in range(len(tasks)):
        stream = broadcaster.open_stream({}, Terms(number, False, None, broadcaster.deadline(600), "max_age"))
        task = store.task(f"t{number}")
        assert isinstance(stream, Stream)
        assert task is not None
        broadcaster.follow_task(stream, task)
        streams.append(stream)

    wait_until(lambda: held(engine) == {EVERYTHING: 1})
    for stream in streams[2:]:
        broadcaster.leave(stream)
    update(engine, "t0", progress=1)  # which the process is told of, and looks

    wait_until(lambda: held(engine) == dict.fromkeys(tasks[:2], 1))


def test_a_listener_that_loses_its_connection_says_anew_what_it_follows(
    broadcaster: Broadcaster, store: Store, engine: sa.Engine
) -> None:
    number = insert(engine, "a", status="running")
    stream, reader = new_stream(broadcaster)
    broadcaster.follow_task(stream, read(store))
    wait_until(lambda: held(engine) == {number: 1})

    with engine.begin() as connection:
        connection.exec_driver_sql("""
            SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = hashtext(current_schema())::oid""")
    update(engine, "a", progress=50)

    wait_until(lambda: reader.newest() == {"a": 50}, SOON)
    wait_until(lambda: held(engine) == {number: 1})


def test_a_server_that_is_killed_follows_nothing_any_more(
    start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    number = insert(engine, "a", status="running")
    servers = [start_server(), start_server()]
    for server in servers:
        server.stream("/api/tasks/a/events").next()
        server.stream("/api/tasks/users/me/events").next()
    followed = keys_of(Following({number: 1}, [1]))
    wait_until(lambda: held(engine) == dict.fromkeys(followed, 2))

    servers[0].close()

    wait_until(lambda: held(engine) == dict.fromkeys(followed, 1))


def test_a_writer_needs_no_grant_but_for_what_it_writes(engine: sa.Engine, database_url: str) -> None:
    number = insert(engine, "a", status="running")
    announcements = Announcements(engine)
    with engine.connect() as connection:
        name = connection.scalar(sa.text("SELECT current_schema()"))
    statements = [
        f"GRANT USAGE ON SCHEMA {name} TO {{role}}",
        "GRANT SELECT (task_id), UPDATE (status) ON user_tasks TO {role}",
    ]

    with role_without_tables(engine, database_url, statements) as url, psycopg.connect(url, autocommit=True) as writer:
        writer.execute("SET search_path = ''")
        writer.execute(f"UPDATE {name}.user_tasks SET status = 'completed' WHERE task_id = 'a'".encode())

    assert announcements.heard()[-1:] == [f"{number}:1"]
    announcements.close()


# Versions that meet.


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[str]:
    with fresh_database("postgresql", tmp_path) as url:
        yield url


@pytest.fixture
def fresh_engine(fresh: str) -> Iterator[sa.Engine]:
    engine = open_engine(fresh)
    yield engine
    engine.dispose()


def flask_db(url: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "flask", "db", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment(url), check=True, capture_output=True)


# What the trigger was made with.
UNTIL = r"""
    SELECT substring(pg_get_triggerdef(oid) FROM $$'([0-9]+)'\)$$) FROM pg_trigger
    WHERE tgrelid = 'user_tasks'::regclass AND tgname = 'user_tasks_announce'"""


def test_for_a_day_a_server_of_version_2_hears_of_everything(fresh: str, fresh_engine: sa.Engine) -> None:
    install_version(2, fresh_engine, fresh)

    flask_db(fresh, "upgrade")
    with contextlib.closing(Announcements(fresh_engine)) as announcements:
        announcements.follow()
        update(fresh_engine, "lively", status="completed")

        assert announcements.heard() == [f"{row(fresh_engine, 'lively')['id']}:2"]
    with fresh_engine.connect() as connection:
        until = int(connection.scalar(sa.text(UNTIL)) or 0)
    assert until == pytest.approx(time.time() + 86_400, abs=60)


def test_streams_go_on_over_the_way_back_to_version_2_and_the_upgrade_after_it(
    fresh: str, fresh_engine: sa.Engine, serve: Serve
) -> None:
    schema.upgrade(fresh_engine)
    insert(fresh_engine, "a", status="running")
    server = serve(fresh)
    follower = Follower(server.stream("/api/tasks/a/events"))
    wait_until_shown([follower], "a", progress=0)

    flask_db(fresh, "downgrade", "0002")
    update(fresh_engine, "a", progress=20)
    wait_until_shown([follower], "a", SOON, progress=20)
    flask_db(fresh, "upgrade")
    update(fresh_engine, "a", progress=30)

    wait_until_shown([follower], "a", SOON, progress=30)
