"""A database put back to an earlier state under open streams, and revisions that never repeat."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import POSTGRES, open_engine
from harness import (
    Answer,
    Follower,
    Server,
    delete,
    grants,
    insert,
    make_token,
    migrate,
    row,
    update,
    wait_until,
    wait_until_shown,
)
from sqlalchemy.engine import make_url
from test_streams import on

from taskapi.database import schema
from taskapi.database.store import Store
from taskapi.progress import Progress, TaskClosed

Start = Callable[..., Server]
Restore = Callable[[], None]
TakeBackup = Callable[[str, Path], Restore]

# The sweep, by which everything is found that no feed told of, comes every ten seconds.
CONVERGED = 15.0
# What is told of arrives well before the sweep, which would hide that it was not.
SOON = 3.0
LARGEST_SAFE_INTEGER = 2**53
OWNER, STRANGER, ADMINISTRATOR = 1, 2, 9


# The ways to take a backup and, later, to put it back under a running server.


def through_sqlites_backup_api(url: str, folder: Path) -> Restore:
    live, backup = str(make_url(url).database), str(folder / "backup.db")
    _copy(live, backup)
    return lambda: _copy(backup, live)


def _copy(source: str, target: str) -> None:
    with contextlib.closing(sqlite3.connect(source)) as read, contextlib.closing(sqlite3.connect(target)) as written:
        read.backup(written)


def through_sqlites_shell(url: str, folder: Path) -> Restore:
    if not shutil.which("sqlite3"):
        pytest.skip("the shell sqlite3 is not in the PATH")
    live, backup = str(make_url(url).database), folder / "backup.db"
    shell = ["sqlite3", "-bail", "-cmd", ".timeout 5000", live]
    subprocess.run([*shell, f".backup '{backup}'"], check=True)
    return lambda: _run(*shell, f".restore '{backup}'")


def through_pg_restore(url: str, folder: Path, *flags: str) -> Restore:
    if not shutil.which("pg_dump"):
        pytest.skip("pg_dump is not in the PATH")
    backup = str(folder / "backup")
    _, _, schema = str(make_url(url).query["options"]).partition("=")
    _run("pg_dump", "-Fc", "-n", schema, "-f", backup, "-d", url)
    return lambda: _run("pg_restore", "--clean", "--if-exists", *flags, "-d", url, backup)


def through_pg_restore_in_one_transaction(url: str, folder: Path) -> Restore:
    return through_pg_restore(url, folder, "--single-transaction")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def restored(*ways: tuple[str, TakeBackup]) -> pytest.MarkDecorator:
    """Run a test with each of these ways."""
    return pytest.mark.parametrize(
        ("database_url", "take_backup"),
        [pytest.param(*way, id=way[1].__name__) for way in ways],
        indirect=["database_url"],
    )


one_way_on_each = restored(
    ("sqlite", through_sqlites_backup_api),
    ("postgresql", through_pg_restore_in_one_transaction),
)
every_way = restored(
    ("sqlite", through_sqlites_backup_api),
    ("sqlite", through_sqlites_shell),
    ("postgresql", through_pg_restore),
    ("postgresql", through_pg_restore_in_one_transaction),
)


def follow(server: Server, task_id: str, user: int = OWNER, **claims: Any) -> Follower:
    """Follow one task, or with `users/me` all of a user's."""
    authorization = f"Bearer {make_token(user, **claims)}"
    return Follower(server.stream(f"/api/tasks/{task_id}/events", Authorization=authorization))


def follow_as_administrator(server: Server, task_id: str) -> Follower:
    return follow(server, task_id, ADMINISTRATOR, is_admin=True)


def poll(server: Server, task_id: str, **headers: str) -> Answer:
    return server.get(f"/api/tasks/{task_id}/status", OWNER, **headers)


# Streams that are open meanwhile.


@pytest.mark.slow
@every_way
def test_open_bars_show_what_was_restored_and_move_on_from_there(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    for number, task_id in enumerate(["bar", "ended later", "deleted later"]):
        insert(engine, task_id, OWNER, status="running", progress=number)
    restore = take_backup(database_url, tmp_path)
    before = {task["task_id"]: task for task in server.get("/api/tasks/users/me", OWNER).json}
    bars, mine = [follow(server, "bar") for _ in range(3)], follow(server, "users/me")
    for progress in range(10, 60):
        update(engine, "bar", progress=progress)
    update(engine, "ended later", status="completed")
    delete(engine, "deleted later")
    wait_until_shown([*bars, mine], "bar", progress=59)
    wait_until_shown([mine], "ended later", status="completed")

    restore()
    wait_until_shown([*bars, mine], "bar", CONVERGED, **before["bar"])
    wait_until_shown([mine], "ended later", CONVERGED, **before["ended later"])
    wait_until_shown([mine], "deleted later", CONVERGED, **before["deleted later"])
    update(engine, "bar", progress=60)
    wait_until_shown([*bars, mine], "bar", SOON, progress=60)
    update(engine, "bar", progress=61)
    wait_until_shown([*bars, mine], "bar", SOON, progress=61)
    update(engine, "bar", status="completed")

    wait_until(lambda: all(bar.ended for bar in bars), SOON)
    wait_until_shown([mine], "bar", SOON, status="completed")
    assert [bar.names for bar in bars] == [["done"]] * 3
    assert poll(server, "bar").json == bars[0].newest["bar"]
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@one_way_on_each
def test_an_id_that_is_used_again_shows_nobody_anothers_task(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    insert(engine, "first", OWNER, status="running")
    restore = take_backup(database_url, tmp_path)
    lost = insert(engine, "lost", OWNER, status="running"), insert(engine, "lost_too", OWNER, status="running")
    followers = [follow(server, "lost"), follow_as_administrator(server, "lost"), follow(server, "lost_too")]
    mine, theirs = follow(server, "users/me"), follow(server, "users/me", STRANGER)
    wait_until(lambda: all(follower.newest for follower in followers) and "lost_too" in mine.newest)

    restore()
    again = insert(engine, "theirs", STRANGER, status="running"), insert(engine, "another", OWNER, status="running")
    for number in range(20):  # more changes than were lost: a counter that went back would overtake itself
        for task_id in ("theirs", "another"):
            update(engine, task_id, stage=f"secret {number}")
    wait_until(lambda: all(follower.ended for follower in followers), CONVERGED)
    for task_id in ("theirs", "another"):
        update(engine, task_id, status="completed")
    wait_until_shown([theirs], "theirs", SOON, status="completed", stage="secret 19")
    wait_until_shown([mine], "another", SOON, status="completed")

    assert again == lost
    for follower in followers:
        assert len(follower.newest) == 1
        assert "done" not in follower.names
        assert not any("secret" in event.data for event in follower.events)
    assert "theirs" not in mine.newest
    assert set(theirs.newest) == {"theirs"}
    assert server.stream("/api/tasks/lost/events").status == 404


@one_way_on_each
def test_a_worker_of_a_task_that_was_lost_writes_into_none_that_got_its_id(
    database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    progress = Progress(database_url)
    restore = take_backup(database_url, tmp_path)
    lost = progress.task(user_id=OWNER, task_id="lost")
    worker = lost.__enter__()
    number = row(engine, "lost")["id"]

    restore()
    with progress.task(user_id=STRANGER, task_id="theirs"):
        with contextlib.suppress(TaskClosed):  # its renewal may have met the restore before
            worker.update(stage="secret", progress=50)
        with pytest.raises(TaskClosed) as raised:
            lost.__exit__(None, None, None)
        theirs = row(engine, "theirs")

    assert theirs["id"] == number
    assert (theirs["ended_at"], theirs["stage"], theirs["progress"]) == (None, None, 0)
    assert raised.value.status is None


# Whoever comes after it.


@one_way_on_each
def test_a_fresh_stream_and_a_poll_show_what_was_restored_though_an_open_stream_has_more(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    insert(engine, "bar", OWNER, status="running", progress=5)
    restore = take_backup(database_url, tmp_path)
    before = poll(server, "bar").json
    bar, mine = follow(server, "bar"), follow(server, "users/me")
    for progress in range(10, 60):
        update(engine, "bar", progress=progress)
    wait_until_shown([bar, mine], "bar", progress=59)

    restore()

    assert poll(server, "bar").json == before
    for path in ("bar", "users/me"):
        assert server.stream(f"/api/tasks/{path}/events").next().json == before


@one_way_on_each
def test_an_etag_of_what_was_lost_matches_nothing(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    insert(engine, "bar", OWNER, status="running", progress=5)
    restore = take_backup(database_url, tmp_path)
    update(engine, "bar", progress=50)
    lost = poll(server, "bar").headers["ETag"]

    restore()
    then = poll(server, "bar", If_None_Match=lost)
    held = poll(server, "bar", If_None_Match=lost, Prefer="wait=30")
    update(engine, "bar", progress=6)  # as many changes as were lost: a counter that went back is where it was
    now = poll(server, "bar", If_None_Match=lost)

    assert [answer.status for answer in (then, held, now)] == [200, 200, 200]
    assert [answer.json["progress"] for answer in (then, held, now)] == [5, 5, 6]
    assert len({lost, then.headers["ETag"], now.headers["ETag"]}) == 3
    assert poll(server, "bar", If_None_Match=now.headers["ETag"]).status == 304


@one_way_on_each
def test_a_cursor_counts_only_if_it_is_what_the_row_has(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    for task_id, status in (("bar", "running"), ("ended", "completed"), ("foreign", "running")):
        insert(engine, task_id, OWNER, status=status)
    older = {task_id: row(engine, task_id)["revision"] for task_id in ("bar", "ended")}
    for task_id in older:
        update(engine, task_id, stage="kept")
    restore = take_backup(database_url, tmp_path)
    exact = {task_id: row(engine, task_id)["revision"] for task_id in older}
    for task_id in older:
        update(engine, task_id, stage="lost")
    newer = {task_id: row(engine, task_id)["revision"] for task_id in older}
    foreign = row(engine, "foreign")["revision"]

    restore()

    for task_id, ending in (("bar", None), ("ended", "done")):
        for cursor in (older[task_id], newer[task_id], foreign, 1, exact[task_id] + 1, 2**53 - 1, 2**62):
            stream = server.stream(f"/api/tasks/{task_id}/events", Last_Event_ID=str(cursor))
            assert stream.status == 200, (task_id, cursor)
            snapshot = stream.next()
            assert (snapshot.json["stage"], int(snapshot.id)) == ("kept", exact[task_id]), (task_id, cursor)
            assert ending is None or [event.name for event in stream.rest()] == [ending]
    assert server.stream("/api/tasks/ended/events", Last_Event_ID=str(exact["ended"])).status == 204
    seen = server.stream("/api/tasks/bar/events", Last_Event_ID=str(exact["bar"]))
    update(engine, "bar", stage="new")
    assert seen.next().json["stage"] == "new"


@one_way_on_each
def test_a_lost_cursor_on_the_stream_of_all_my_tasks_hides_none_that_is_not_final(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    insert(engine, "bar", OWNER, status="running", progress=5)
    restore = take_backup(database_url, tmp_path)
    for progress in range(10, 60):
        update(engine, "bar", progress=progress)
    lost = row(engine, "bar")["revision"]

    restore()

    for cursor in (lost, 1, 2**53 - 1, 2**62):
        stream = server.stream("/api/tasks/users/me/events", Last_Event_ID=str(cursor))
        assert stream.next().json["progress"] == 5


@one_way_on_each
def test_a_bar_whose_end_was_lost_comes_back_to_life_and_ends_once_more(
    start_server: Start, database_url: str, engine: sa.Engine, tmp_path: Path, take_backup: TakeBackup
) -> None:
    server = start_server()
    insert(engine, "bar", OWNER, status="running", progress=5)
    restore = take_backup(database_url, tmp_path)
    first = follow(server, "bar")
    update(engine, "bar", status="failed")
    wait_until(lambda: first.ended)
    lost = next(event.id for event in reversed(first.events) if event.id)

    restore()
    second = Follower(server.stream("/api/tasks/bar/events", Last_Event_ID=lost))
    wait_until_shown([second], "bar", SOON, status="running", progress=5)
    update(engine, "bar", status="completed")
    wait_until(lambda: second.ended, SOON)
    third = server.stream("/api/tasks/bar/events", Last_Event_ID=lost)

    assert (first.names, second.names) == (["done"], ["done"])
    assert [event.name for event in third.rest()] == ["message", "done"]
    last = str(row(engine, "bar")["revision"])
    assert server.stream("/api/tasks/bar/events", Last_Event_ID=last).status == 204


# A row that becomes another's.


def test_a_new_owner_ends_the_previous_ones_streams_and_no_administrators(server: Server, engine: sa.Engine) -> None:
    insert(engine, "bar", OWNER, status="running")
    previous, administrator = follow(server, "bar"), follow_as_administrator(server, "bar")
    mine, theirs = follow(server, "users/me"), follow(server, "users/me", STRANGER)
    wait_until(lambda: all(follower.newest for follower in (previous, administrator, mine)))

    update(engine, "bar", user_id=STRANGER, stage="secret")
    wait_until(lambda: previous.ended, SOON)
    wait_until_shown([administrator, theirs], "bar", SOON, user_id=STRANGER, stage="secret")
    update(engine, "bar", progress=50)
    wait_until_shown([administrator, theirs], "bar", SOON, progress=50)
    update(engine, "bar", status="completed")
    wait_until(lambda: administrator.ended, SOON)
    wait_until_shown([theirs], "bar", SOON, status="completed")

    for follower in (previous, mine):
        assert "done" not in follower.names
        assert not any("secret" in event.data for event in follower.events)
    assert administrator.names == ["done"]
    assert server.stream("/api/tasks/bar/events").status == 403


def test_a_poll_that_is_held_shows_a_previous_owner_nothing(server: Server, engine: sa.Engine) -> None:
    insert(engine, "bar", OWNER, status="running")
    tag = poll(server, "bar").headers["ETag"]
    answers: list[Answer] = []
    held = threading.Thread(
        target=lambda: answers.append(poll(server, "bar", If_None_Match=tag, Prefer="wait=30")), daemon=True
    )
    held.start()
    held.join(0.5)
    assert held.is_alive()

    update(engine, "bar", user_id=STRANGER, stage="secret")
    held.join(SOON)

    assert [answer.status for answer in answers] == [403]
    assert b"secret" not in answers[0].body


# Revisions.


def is_now(revision: int) -> bool:
    """Whether this is about the microseconds since 1970."""
    return abs(revision / 1_000_000 - time.time()) < 5


def force_revision(engine: sa.Engine, task_id: str, revision: int) -> None:
    """Give a row a revision in spite of the triggers, as a backup from a machine with another clock does."""
    with engine.begin() as connection, untriggered(connection):
        statement = sa.text("UPDATE user_tasks SET revision = :revision WHERE task_id = :task_id")
        connection.execute(statement, {"revision": revision, "task_id": task_id})


@contextlib.contextmanager
def untriggered(connection: sa.Connection) -> Iterator[None]:
    """No triggers for the rest of a transaction."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        yield
        return
    triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
    for name, _ in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    yield
    for _, creation in triggers:
        connection.exec_driver_sql(creation)


def test_a_revision_is_the_databases_clock_in_microseconds(engine: sa.Engine) -> None:
    insert(engine, "a")
    created = row(engine, "a")["revision"]
    update(engine, "a", progress=1)

    changed = row(engine, "a")["revision"]

    assert is_now(created)
    assert is_now(changed)
    assert created < changed < LARGEST_SAFE_INTEGER


def test_a_revision_grows_with_every_change_however_fast(engine: sa.Engine) -> None:
    insert(engine, "a")

    seen = []
    with engine.begin() as connection:
        for number in range(500):
            connection.execute(sa.text("UPDATE user_tasks SET completed_items = :number"), {"number": number})
            seen.append(connection.scalar(sa.text("SELECT revision FROM user_tasks")))

    assert seen == sorted(set(seen))
    assert is_now(seen[-1])


def test_a_revision_grows_by_one_where_the_clock_is_behind(engine: sa.Engine) -> None:
    insert(engine, "a")
    ahead = int((time.time() + 3600) * 1_000_000)
    force_revision(engine, "a", ahead)

    for progress in (1, 2):
        update(engine, "a", progress=progress)

    assert row(engine, "a")["revision"] == ahead + 2


@pytest.mark.parametrize("value", ["0", "-5", "revision", "revision + 1", str(2**53), str(2**63 - 1)])
@pytest.mark.parametrize("change", ["revision = {}", "revision = {}, progress = 5"])
def test_no_writer_sets_a_revision(engine: sa.Engine, change: str, value: str) -> None:
    insert(engine, "a")
    before = row(engine, "a")["revision"]

    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE user_tasks SET {change.format(value)}")

    after = row(engine, "a")["revision"]
    assert after > before
    assert is_now(after)


@pytest.mark.parametrize("value", [1, 2**53, 2**63 - 1])
def test_no_writer_brings_a_revision(engine: sa.Engine, value: int) -> None:
    insert(engine, "a", revision=value)

    assert is_now(row(engine, "a")["revision"])


@on("postgresql")
def test_a_writer_needs_to_be_granted_nothing_but_the_table(engine: sa.Engine) -> None:
    insert(engine, "a")
    before = row(engine, "a")["revision"]
    role = f"taskapi_writer_{os.getpid()}"
    with engine.connect() as connection:  # a role that is never committed
        schema = connection.scalar(sa.text("SELECT current_schema()"))
        for statement in (
            f"CREATE ROLE {role}",
            *grants(schema, role),
            f"SET LOCAL ROLE {role}",
            "INSERT INTO user_tasks (task_id, user_id) VALUES ('b', 1)",
            "UPDATE user_tasks SET progress = 5",
            "DELETE FROM user_tasks WHERE task_id = 'b'",
            "SET CONSTRAINTS ALL IMMEDIATE",
        ):
            connection.exec_driver_sql(statement)
        after = connection.scalar(sa.text("SELECT revision FROM user_tasks"))

    assert after > before


@on("sqlite")  # whose clock has milliseconds only
def test_of_many_tasks_that_change_within_a_millisecond_each_is_shown(server: Server, engine: sa.Engine) -> None:
    tasks = [f"task{number}" for number in range(900)]
    with engine.begin() as connection:
        for task_id in tasks:
            connection.execute(sa.text("INSERT INTO user_tasks (task_id, user_id) VALUES (:id, 1)"), {"id": task_id})
    mine = follow(server, "users/me")
    wait_until(lambda: len(mine.newest) == len(tasks))

    with contextlib.closing(sqlite3.connect(str(engine.url.database), isolation_level=None)) as writer:
        writer.execute("PRAGMA synchronous = NORMAL")
        for progress in (20, 40, 60, 80, 100):
            for task_id in tasks:  # each change is a transaction of its own
                writer.execute("UPDATE user_tasks SET progress = ? WHERE task_id = ?", (progress, task_id))
            for task_id in tasks:
                wait_until_shown([mine], task_id, SOON, progress=progress)


@pytest.mark.slow
def test_a_row_ahead_of_the_clock_hides_no_other_rows_changes(start_server: Start, engine: sa.Engine) -> None:
    """A clock that was set back, or a backup from a machine whose clock goes ahead."""
    for task_id in ("ahead", "a"):
        insert(engine, task_id, OWNER, status="running")
    ahead = int((time.time() + 3600) * 1_000_000)
    force_revision(engine, "ahead", ahead)
    server = start_server()
    bar, mine = follow(server, "ahead"), follow(server, "users/me")
    other = follow(server, "a")
    wait_until(lambda: bar.newest and other.newest and set(mine.newest) == {"ahead", "a"})

    update(engine, "a", progress=50)
    insert(engine, "short", OWNER, status="running")
    update(engine, "short", status="completed")
    update(engine, "ahead", progress=60)

    wait_until_shown([bar, mine], "ahead", CONVERGED, progress=60)
    wait_until_shown([other, mine], "a", CONVERGED, progress=50)
    wait_until_shown([mine], "short", CONVERGED, status="completed")
    assert int(bar.events[-1].id) == ahead + 1


# A database of an older version; that of version 1 drew its revisions from a counter.

VERSIONS = Path(__file__).with_name("versions")
# By revision; two of them changed within one millisecond.
ORDER = ["waiting", "failed", "lively", "done"]


def sqlite_of_version(number: int, folder: Path) -> str:
    with contextlib.closing(sqlite3.connect(folder / "taskapi.db")) as connection:
        connection.executescript((VERSIONS / f"{number}.sqlite.sql").read_text())
    return f"sqlite:///{folder}/taskapi.db"


@contextlib.contextmanager
def postgresql_of_version(number: int) -> Iterator[str]:
    name = f"taskapi_test_{os.getpid()}_version_{number}"
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL answers at TASKAPI_TEST_POSTGRES")
    with contextlib.closing(connection):
        connection.execute(f"CREATE SCHEMA {name}".encode())
        connection.execute(f"SET search_path = {name}".encode())
        connection.execute((VERSIONS / f"{number}.postgresql.sql").read_bytes())
        url = make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={name}"})
        yield url.render_as_string(hide_password=False)
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


@pytest.fixture(params=[(name, number) for name in ("sqlite", "postgresql") for number in range(1, schema.VERSION)])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database as an older version left it, with rows."""
    name, number = request.param
    if name == "sqlite":
        yield sqlite_of_version(number, tmp_path)
        return
    with postgresql_of_version(number) as url:
        yield url


@pytest.fixture
def old(old_url: str) -> Iterator[sa.Engine]:
    engine = open_engine(old_url)
    yield engine
    engine.dispose()


def by_revision(engine: sa.Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [
            dict(task) for task in connection.exec_driver_sql("SELECT * FROM user_tasks ORDER BY revision").mappings()
        ]


def test_an_upgrade_keeps_every_row_and_their_order_by_revision(old_url: str, old: sa.Engine) -> None:
    before = by_revision(old)
    assert [task["task_id"] for task in before] == ORDER
    old.dispose()

    migrate(old_url)

    after = by_revision(old)
    assert [task["task_id"] for task in after] == ORDER
    assert len({task["revision"] for task in after}) == len(after)
    for one, other in zip(before, after, strict=True):
        assert {**one, "revision": None} == {name: other[name] for name in one} | {"revision": None}


def test_a_backup_from_before_an_upgrade_is_found_out_and_upgraded_again(
    old_url: str, old: sa.Engine, tmp_path: Path
) -> None:
    """`pg_restore` puts back what was there, and leaves what has come since."""
    if old.dialect.name == "sqlite":
        restore = through_sqlites_backup_api(old_url, tmp_path)
    else:
        _, _, name = str(old.url.query["options"]).partition("=")
        restore = through_pg_restore(old_url, tmp_path, "--single-transaction", "-n", name)
    old.dispose()
    migrate(old_url)
    insert(old, "lost", status="running", attempt=1)
    old.dispose()

    restore()
    store = Store(make_url(old_url))
    trouble = schema.trouble(store)
    migrate(old_url)

    assert trouble is not None
    assert trouble.public == schema.OUTDATED
    assert schema.trouble(store) is None
    assert [task["task_id"] for task in by_revision(old)] == ORDER
    assert store.claim("waiting", 60) is not None
    store.close()


def test_after_an_upgrade_every_change_is_newer_than_all_that_was(old_url: str, old: sa.Engine) -> None:
    newest = by_revision(old)[-1]["revision"]
    old.dispose()
    migrate(old_url)

    update(old, "waiting", progress=1)
    insert(old, "new")

    for task_id in ("waiting", "new"):
        assert is_now(row(old, task_id)["revision"])
    assert max(newest, *(task["revision"] for task in by_revision(old)[:-2])) < row(old, "waiting")["revision"]


@pytest.mark.parametrize("old_url", [("postgresql", 1)], indirect=True)
def test_after_an_upgrade_no_sequence_is_left(old_url: str, old: sa.Engine) -> None:
    sequence = sa.text("SELECT count(*) FROM pg_class WHERE oid = to_regclass('user_tasks_revision_seq')")
    with old.connect() as connection:
        assert connection.scalar(sequence) == 1
    old.dispose()

    migrate(old_url)

    with old.connect() as connection:
        assert connection.scalar(sequence) == 0


def test_a_server_on_an_upgraded_database_goes_on_where_the_older_version_stopped(
    old_url: str, old: sa.Engine, serve: Start
) -> None:
    cursor = str(next(task["revision"] for task in by_revision(old) if task["task_id"] == "done"))
    old.dispose()
    if old.dialect.name == "postgresql":  # an embedded file is brought up to date by the server itself
        migrate(old_url)
    server = serve(old_url)
    lively, mine = follow(server, "lively", 2), follow(server, "users/me", 2)
    wait_until_shown([lively, mine], "lively", progress=12.5)

    update(old, "lively", status="completed")

    wait_until(lambda: lively.ended, SOON)
    assert lively.names[-1] == "done"
    wait_until_shown([mine], "lively", SOON, status="completed")
    seen = server.stream("/api/tasks/done/events", Last_Event_ID=cursor)
    assert seen.status in (200, 204)
    assert seen.status == 204 or [event.name for event in seen.rest()] == ["message", "done"]
