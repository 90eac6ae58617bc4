"""The table itself: what its triggers do for every writer, what its constraints refuse, and how it came to be."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from harness import KEY, insert, make_token, row, update
from sqlalchemy.engine import make_url

from taskapi import create_app
from taskapi.database import schema
from taskapi.database.connections import dialect_of, open_engine
from taskapi.database.models import TaskStatus
from taskapi.database.postgresql import FOLLOW, UNFOLLOW
from taskapi.database.sqlite import CHANGED_SINCE
from taskapi.state import state_of
from taskapi.stream.feed import Following
from taskapi.stream.feed.following import EVERYTHING, keys_of


def on(database_name: str) -> pytest.MarkDecorator:
    """Mark a test of what only one of the databases has."""
    return pytest.mark.parametrize("database_url", [database_name], indirect=True)


def run(engine: sa.Engine, statement: str, **parameters: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), parameters)


def moment(value: Any) -> dt.datetime:
    """What either database stores for a moment."""
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value


def is_now(value: Any) -> bool:
    return abs(moment(value) - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=5)


def is_moment_now(revision: int) -> bool:
    """Whether a revision is about the microseconds since 1970."""
    return abs(revision / 1_000_000 - time.time()) < 5


# What the triggers do.


def test_a_plain_insert_needs_only_task_id_and_user_id(engine: sa.Engine) -> None:
    run(engine, "INSERT INTO user_tasks (task_id, user_id) VALUES ('a', 1)")

    task = row(engine, "a")
    assert is_now(task["created_at"])
    assert is_now(task["updated_at"])
    assert task["revision"] > 0
    assert (task["status"], task["progress"], task["completed_items"]) == ("pending", 0, 0)
    nullable = ("learning_path_id", "stage", "total_items", "result_message", "error_details", "started_at", "ended_at")
    assert {task[name] for name in nullable} == {None}


@pytest.mark.parametrize(
    "change",
    [
        "task_id = 'a'",
        "user_id = 2",
        "learning_path_id = 3",
        "status = 'running'",
        "stage = 'x'",
        "progress = 40",
        "total_items = 5",
        "completed_items = 5",
        "result_message = 'x'",
        "error_details = 'x'",
        "started_at = '2026-01-01 00:00:00'",
        "ended_at = '2026-01-01 00:00:00'",
        "created_at = '2026-01-01 00:00:00'",
        "updated_at = '2001-01-01 00:00:00'",
        "progress = progress",
        "progress = 1, lease_expires_at = '2026-01-01 00:00:00'",
    ],
)
def test_every_change_by_hand_moves_revision_and_updated_at(engine: sa.Engine, change: str) -> None:
    insert(engine, "a")
    before = row(engine, "a")

    run(engine, f"UPDATE user_tasks SET {change}")

    after = row(engine, "a")
    assert after["revision"] > before["revision"]
    assert moment(after["updated_at"]) >= moment(before["updated_at"])
    assert is_now(after["updated_at"])


@pytest.mark.parametrize("hidden", ["lease_expires_at", "traceparent"])
def test_what_nobody_is_shown_moves_nothing(engine: sa.Engine, hidden: str) -> None:
    insert(engine, "a", status="running")
    before = row(engine, "a")

    run(engine, f"UPDATE user_tasks SET {hidden} = '2030-01-01 00:00:00'")

    after = row(engine, "a")
    assert after[hidden]
    assert {**after, hidden: None} == before


def test_changes_in_one_transaction_each_have_a_revision(engine: sa.Engine) -> None:
    insert(engine, "a")

    seen = []
    with engine.begin() as connection:
        for progress in (1, 2, 3):
            connection.execute(sa.text("UPDATE user_tasks SET progress = :p"), {"p": progress})
            seen.append(connection.scalar(sa.text("SELECT revision FROM user_tasks")))

    assert seen == sorted(set(seen))
    assert row(engine, "a")["revision"] == seen[-1]


def test_a_rolled_back_change_leaves_the_row_as_it_was(engine: sa.Engine) -> None:
    insert(engine, "a")
    before = row(engine, "a")

    with engine.connect() as connection:
        connection.execute(sa.text("UPDATE user_tasks SET progress = 66"))
        connection.rollback()

    assert row(engine, "a") == before


@on("sqlite")
def test_every_row_of_one_statement_has_a_revision_of_its_own(engine: sa.Engine) -> None:
    for name in "abc":
        insert(engine, name)

    run(engine, "UPDATE user_tasks SET progress = 5")

    assert len({row(engine, name)["revision"] for name in "abc"}) == 3


def test_revisions_are_not_drawn_again_after_the_newest_row_is_deleted(engine: sa.Engine) -> None:
    insert(engine, "a")
    before = row(engine, "a")["revision"]

    run(engine, "DELETE FROM user_tasks")
    insert(engine, "b")

    assert row(engine, "b")["revision"] > before


@pytest.mark.parametrize("value", [0, 1, -5, 10**12, 2**63 - 1])
@pytest.mark.parametrize("change", ["revision = {}", "revision = {}, progress = 5"])
def test_a_revision_that_a_writer_sets_is_replaced(engine: sa.Engine, change: str, value: int) -> None:
    insert(engine, "other")
    insert(engine, "a")
    before = row(engine, "a")["revision"]

    run(engine, f"UPDATE user_tasks SET {change.format(value)} WHERE task_id = 'a'")
    written = row(engine, "a")["revision"]
    update(engine, "a", progress=6)
    update(engine, "other", progress=7)

    assert before < written < row(engine, "a")["revision"]
    assert is_moment_now(row(engine, "a")["revision"])
    assert is_moment_now(row(engine, "other")["revision"])


def test_a_revision_that_comes_with_an_insert_is_replaced(engine: sa.Engine) -> None:
    insert(engine, "a")

    insert(engine, "b", revision=10**12)

    assert row(engine, "b")["revision"] > row(engine, "a")["revision"]
    assert is_moment_now(row(engine, "b")["revision"])


@pytest.mark.parametrize(
    ("status", "started", "ended"),
    [
        ("pending", False, False),
        ("queued", False, False),
        ("starting", True, False),
        ("running", True, False),
        ("completed", False, True),
        ("failed", False, True),
        ("timeout", False, True),
    ],
)
def test_the_status_fills_in_when_a_task_started_and_ended(
    engine: sa.Engine, status: str, started: bool, ended: bool
) -> None:
    insert(engine, "inserted", status=status)
    insert(engine, "updated")
    update(engine, "updated", status=status)

    for name in ("inserted", "updated"):
        task = row(engine, name)
        assert (task["started_at"] is not None and is_now(task["started_at"])) is started
        assert (task["ended_at"] is not None and is_now(task["ended_at"])) is ended


def test_moments_that_a_writer_gives_are_kept(engine: sa.Engine) -> None:
    insert(engine, "a", status="running", started_at="2026-01-01T10:00:00+02:00", created_at="2025-12-31 23:00:00")
    update(engine, "a", status="completed", ended_at="2026-01-01T09:00:00.250Z")
    update(engine, "a", stage="finished")

    task = row(engine, "a")
    assert moment(task["created_at"]) == dt.datetime(2025, 12, 31, 23, tzinfo=dt.UTC)
    assert moment(task["started_at"]) == dt.datetime(2026, 1, 1, 8, tzinfo=dt.UTC)
    assert moment(task["ended_at"]) == dt.datetime(2026, 1, 1, 9, 0, 0, 250_000, tzinfo=dt.UTC)


def test_an_upsert_is_seen_like_any_other_write(engine: sa.Engine) -> None:
    statement = """INSERT INTO user_tasks (task_id, user_id, progress) VALUES ('a', 1, {0})
        ON CONFLICT (task_id) DO UPDATE SET progress = excluded.progress"""

    run(engine, statement.format(10))
    first = row(engine, "a")
    run(engine, statement.format(20))
    second = row(engine, "a")

    assert (second["id"], second["progress"]) == (first["id"], 20)
    assert second["revision"] > first["revision"]


# What PostgreSQL announces.


class Announcements:
    """The payloads of the notifications that one connection gets, which follows everything or what it is told to."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection.exec_driver_sql("LISTEN user_tasks")
        self._driver: Any = self._connection.connection.driver_connection
        self._held: list[int] = []
        self.follow(EVERYTHING)

    def follow(self, *keys: int) -> None:
        """Follow this from now on, and nothing else."""
        self._driver.execute(UNFOLLOW, {"keys": self._held})
        self._driver.execute(FOLLOW, {"keys": list(keys)})
        self._held = list(keys)

    def heard(self) -> list[str]:
        """What was committed before this call: a canary of our own comes after it."""
        run(self._engine, "SELECT pg_notify('user_tasks', '0:0')")
        payloads: list[str] = []
        for notify in self._driver.notifies(timeout=10):
            if notify.payload == "0:0":
                return payloads
            if notify.payload:  # the others are feeds' own
                payloads.append(notify.payload)
        raise AssertionError("the canary did not come")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def announcements(engine: sa.Engine) -> Iterator[Announcements]:
    announcements = Announcements(engine)
    yield announcements
    announcements.close()


def window(task: dict[str, Any]) -> int:
    return int(task["updated_at"].timestamp() * 1000) // 50


@on("postgresql")
def test_of_a_tasks_changes_within_a_window_the_first_is_announced(
    engine: sa.Engine, announcements: Announcements
) -> None:
    number = insert(engine, "a", status="running")
    windows = [window(row(engine, "a"))]
    for progress in range(50):
        update(engine, "a", progress=progress)
        windows.append(window(row(engine, "a")))

    heard = announcements.heard()

    assert set(heard) == {f"{number}:1"}
    assert len(set(windows)) <= len(heard) < len(windows)  # more, where this machine was late with a commit


@on("postgresql")
@pytest.mark.parametrize("change", [{"status": "completed"}, {"user_id": 2}])
def test_an_end_and_a_new_owner_are_announced_always(
    engine: sa.Engine, announcements: Announcements, change: dict[str, Any]
) -> None:
    number = insert(engine, "a", status="running")
    announcements.heard()

    update(engine, "a", **change)

    assert announcements.heard() == [f"{number}:{user}" for user in sorted({1, change.get("user_id", 1)}, reverse=True)]


@on("postgresql")
def test_a_change_that_is_committed_after_its_window_is_announced_then(
    engine: sa.Engine, announcements: Announcements
) -> None:
    number = insert(engine, "a", status="running")
    with engine.begin() as connection:
        while True:  # until one comes within the window of the one before
            update(engine, "a", stage="before")
            before = window(row(engine, "a"))
            with connection.begin_nested() as attempt:
                connection.execute(sa.text("UPDATE user_tasks SET progress = 1 WHERE task_id = 'a'"))
                after = connection.scalar(sa.text("SELECT updated_at FROM user_tasks WHERE task_id = 'a'"))
                if window({"updated_at": after}) == before:
                    break
                attempt.rollback()
        announcements.heard()
        connection.execute(sa.text("SELECT pg_sleep(0.06)"))

    assert announcements.heard() == [f"{number}:1"]


@on("postgresql")
def test_only_what_somebody_follows_is_announced(engine: sa.Engine, announcements: Announcements) -> None:
    mine, others = insert(engine, "mine", 1, status="running"), insert(engine, "others", 2, status="running")
    announcements.follow()
    announcements.heard()

    def heard_of_an_end(*followed: int) -> list[str]:
        announcements.follow(*followed)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE user_tasks SET status = 'running'"))
            connection.execute(sa.text("UPDATE user_tasks SET status = 'completed'"))
        return sorted(announcements.heard())

    assert heard_of_an_end() == []
    assert heard_of_an_end(*keys_of(Following({others: 2}, ()))) == [f"{others}:2"]
    assert heard_of_an_end(*keys_of(Following({}, [1]))) == [f"{mine}:1"]
    assert heard_of_an_end(*keys_of(Following({others: 2}, [1]))) == sorted([f"{mine}:1", f"{others}:2"])
    assert heard_of_an_end(*keys_of(None)) == sorted([f"{mine}:1", f"{others}:2"])


@on("postgresql")
@pytest.mark.parametrize("user", [2**63 - 1, 2**31, -1, -(2**63), 0])
def test_any_number_can_be_followed(engine: sa.Engine, announcements: Announcements, user: int) -> None:
    number = 2**33 + 5
    announcements.follow(*keys_of(Following({}, [user])))
    insert(engine, "a", user, id=number)
    of_user = announcements.heard()
    announcements.follow(*keys_of(Following({number: user}, ())))
    update(engine, "a", status="completed")

    assert of_user == announcements.heard() == [f"{number}:{user}"]


@on("postgresql")
def test_who_follows_a_task_or_its_previous_owner_hears_of_the_next(
    engine: sa.Engine, announcements: Announcements
) -> None:
    number = insert(engine, "a", 1, status="running")
    announcements.follow(*keys_of(Following({}, [1])))
    announcements.heard()

    update(engine, "a", user_id=2)

    assert announcements.heard() == [f"{number}:2", f"{number}:1"]


@on("postgresql")
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_what_is_followed_counts_when_a_transaction_ends_not_when_it_began(
    engine: sa.Engine, announcements: Announcements, isolation: Any
) -> None:
    number = insert(engine, "a", status="running")
    announcements.follow()
    announcements.heard()
    with engine.connect().execution_options(isolation_level=isolation) as connection, connection.begin():
        connection.execute(sa.text("UPDATE user_tasks SET status = 'completed'"))

        announcements.follow(number)

    assert announcements.heard() == [f"{number}:1"]


@on("postgresql")
def test_a_writer_leaves_no_lock_behind_and_waits_for_none(engine: sa.Engine, announcements: Announcements) -> None:
    insert(engine, "a", status="running")
    insert(engine, "b", status="running")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for follow in ((), (EVERYTHING,)):
            announcements.follow(*follow)
            connection.execute(sa.text("UPDATE user_tasks SET status = 'completed'"))
            connection.execute(sa.text("UPDATE user_tasks SET status = 'running'"))

        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert connection.scalar(sa.text(held)) == 0


@on("postgresql")
def test_what_another_schema_of_the_database_follows_announces_nothing_here(
    engine: sa.Engine, fresh_engine: sa.Engine, announcements: Announcements
) -> None:
    schema.upgrade(fresh_engine)
    announcements.follow(EVERYTHING)

    insert(fresh_engine, "a", status="running")

    assert announcements.heard() == []


@on("postgresql")
def test_a_lease_alone_announces_nothing_and_a_delete_does(engine: sa.Engine, announcements: Announcements) -> None:
    number = insert(engine, "a", status="running")
    announcements.heard()

    run(engine, "UPDATE user_tasks SET lease_expires_at = clock_timestamp() + interval '1 hour'")
    assert announcements.heard() == []

    run(engine, "DELETE FROM user_tasks")
    assert announcements.heard() == [f"{number}:1"]


# What the constraints refuse.


@pytest.mark.parametrize(
    "change",
    [
        "status = 'done'",
        "status = 'Running'",
        "status = ''",
        "status = NULL",
        "progress = 101",
        "progress = 100.0001",
        "progress = -1",
        "progress = -0.0001",
        "progress = NULL",
        "progress = 9e999",
        "total_items = -1",
        "completed_items = -1",
        "completed_items = NULL",
        "task_id = ''",
        "task_id = NULL",
        "user_id = NULL",
        "user_id = 'somebody'",
        "total_items = 'many'",
        "progress = 'half'",
        "created_at = NULL",
        "created_at = ''",
        "created_at = 'soon'",
        "created_at = '2026'",
        "created_at = '2026-13-01'",
        "created_at = '10000-01-01'",
        "created_at = '9999-12-31 23:59:59'",
        "started_at = 'infinity'",
        "started_at = '-infinity'",
        "ended_at = '0044-03-15 BC'",
        "ended_at = '-0044-03-15'",
        "ended_at = 'yesterday evening'",
        "lease_expires_at = 'infinity'",
        "lease_expires_at = 'x'",
        f"traceparent = '{256 * 'x'}'",
    ],
)
def test_what_could_not_be_shown_is_refused(engine: sa.Engine, change: str) -> None:
    insert(engine, "a")
    before = row(engine, "a")

    with pytest.raises(sa.exc.DBAPIError):
        run(engine, f"UPDATE user_tasks SET {change}".replace("9e999", inf(engine)))

    assert row(engine, "a") == before


def inf(engine: sa.Engine) -> str:
    return "9e999" if engine.dialect.name == "sqlite" else "'Infinity'"


@on("postgresql")
def test_a_progress_that_is_no_number_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        insert(engine, "a", progress=float("nan"))


def test_a_task_id_has_at_most_255_characters_however_many_bytes(engine: sa.Engine) -> None:
    insert(engine, "任" * 255)

    with pytest.raises(sa.exc.IntegrityError):
        insert(engine, "a" * 256)


def test_a_task_id_is_taken_once(engine: sa.Engine) -> None:
    insert(engine, "a", 1)

    with pytest.raises(sa.exc.IntegrityError):
        insert(engine, "a", 2)


# SQLite's own ways.


@pytest.fixture
def by_hand(engine: sa.Engine) -> Iterator[sqlite3.Connection]:
    """What `sqlite3` opens: a connection without any of our settings."""
    connection = sqlite3.connect(str(engine.url.database), isolation_level=None, timeout=10)
    yield connection
    connection.close()


@on("sqlite")
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_recursive_triggers_change_nothing(engine: sa.Engine, by_hand: sqlite3.Connection, recursive: str) -> None:
    by_hand.execute(f"PRAGMA recursive_triggers = {recursive}")
    by_hand.execute("INSERT INTO user_tasks (task_id, user_id) VALUES ('a', 1)")
    first = row(engine, "a")

    by_hand.execute("UPDATE user_tasks SET status = 'running', progress = 40")
    second = row(engine, "a")
    by_hand.execute("UPDATE user_tasks SET revision = 10000000, progress = 50")
    third = row(engine, "a")

    assert first["revision"] < second["revision"] < third["revision"]
    assert is_moment_now(third["revision"])
    assert (third["status"], third["progress"]) == ("running", 50)


@on("sqlite")
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_a_row_that_is_replaced_is_a_new_one(
    app: Flask, engine: sa.Engine, by_hand: sqlite3.Connection, recursive: str
) -> None:
    by_hand.execute(f"PRAGMA recursive_triggers = {recursive}")
    number = insert(engine, "a")
    before = row(engine, "a")["revision"]

    by_hand.execute("INSERT OR REPLACE INTO user_tasks (task_id, user_id, progress) VALUES ('a', 1, 5)")
    by_hand.execute(f"INSERT OR REPLACE INTO user_tasks (id, task_id, user_id, progress) VALUES ({number}, 'b', 1, 6)")

    assert row(engine, "a")["id"] > number
    assert before < row(engine, "a")["revision"] < row(engine, "b")["revision"]
    assert shown(app, "b")["progress"] == 6


@on("sqlite")
def test_an_id_is_never_used_again(engine: sa.Engine) -> None:
    first = insert(engine, "a")

    run(engine, "DELETE FROM user_tasks")

    assert insert(engine, "b") > first


def shown(app: Flask, task_id: str) -> Any:
    """The task as the API shows it."""
    headers = {"Authorization": f"Bearer {make_token()}"}
    response = app.test_client().get(f"/api/tasks/{task_id}/status", headers=headers)
    assert response.status_code == 200, response.text
    return response.json


@on("sqlite")
@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ("CAST(x'61FF62' AS TEXT)", "a\ufffdb"),
        ("CAST(x'EDA080' AS TEXT)", "\ufffd\ufffd\ufffd"),
        ("CAST(x'C0' AS TEXT)", "\ufffd"),
        ("'a' || char(0) || 'b'", "a\0b"),
        ("char(10, 13, 9, 27, 8232)", "\n\r\t\x1b\u2028"),
        ("'</script>'", "</script>"),
    ],
)
def test_text_of_any_bytes_is_shown(
    app: Flask, engine: sa.Engine, by_hand: sqlite3.Connection, literal: str, text: str
) -> None:
    insert(engine, "a")

    by_hand.execute(f"UPDATE user_tasks SET stage = {literal}, error_details = {literal}")

    assert (shown(app, "a")["stage"], shown(app, "a")["error_details"]) == (text, text)


@on("sqlite")
@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2026-01-01", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01 10:00", "2026-01-01T10:00:00.000Z"),
        ("2026-01-01 10:00:00", "2026-01-01T10:00:00.000Z"),
        ("2026-01-01T10:00:00.123456", "2026-01-01T10:00:00.123Z"),
        ("2026-01-01T10:00:00+02:00", "2026-01-01T08:00:00.000Z"),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00.000Z"),
        ("0001-01-01 00:00:00", "0001-01-01T00:00:00.000Z"),
        ("9999-12-30 23:59:59", "9999-12-30T23:59:59.000Z"),
    ],
)
def test_a_moment_in_any_of_sqlites_forms_is_kept_in_one(engine: sa.Engine, written: str, text: str) -> None:
    insert(engine, "a", created_at=written, started_at=written, ended_at=written)

    task = row(engine, "a")
    assert (task["created_at"], task["started_at"], task["ended_at"]) == (text, text, text)


def test_the_first_and_the_last_moment_can_be_shown(app: Flask, engine: sa.Engine) -> None:
    insert(engine, "a", created_at="0001-01-01T00:00:00Z", ended_at="9999-12-30T23:59:59Z")

    task = shown(app, "a")

    assert task["created_at"].startswith("0001-01-01T00:00:00")
    assert task["ended_at"].startswith("9999-12-30T23:59:59")


# PostgreSQL's own ways.


@on("postgresql")
def test_a_writer_may_have_any_search_path(engine: sa.Engine) -> None:
    insert(engine, "a")
    before = row(engine, "a")["revision"]

    with engine.begin() as connection:
        name = connection.scalar(sa.text("SELECT current_schema()"))
        connection.execute(sa.text("SET LOCAL search_path = pg_catalog"))
        connection.execute(sa.text(f'UPDATE "{name}".user_tasks SET progress = 5'))

    assert row(engine, "a")["revision"] > before


@on("postgresql")
def test_any_size_of_row_can_be_written(engine: sa.Engine) -> None:
    insert(engine, "a" * 255, 2**63 - 1, error_details="x" * 1_000_000)

    update(engine, "a" * 255, error_details="y" * 1_000_000)

    assert row(engine, "a" * 255)["error_details"][0] == "y"


@on("postgresql")
def test_moments_are_stored_the_same_whatever_the_writers_time_zone(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL TIME ZONE 'Pacific/Kiritimati'"))
        connection.execute(
            sa.text("INSERT INTO user_tasks (task_id, user_id, created_at) VALUES ('a', 1, '2026-01-01 14:00:00')")
        )

    assert row(engine, "a")["created_at"] == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert is_now(row(engine, "a")["updated_at"])


# How the schema comes to be.


@pytest.fixture
def migrate(fresh_engine: sa.Engine) -> Iterator[Callable[..., None]]:
    """`flask db` on the fresh database, as an operator has it."""
    app = create_app({"DATABASE_URL": fresh_engine.url, "JWT_SECRET_KEY": KEY})

    def migrate(*arguments: str) -> None:
        result = app.test_cli_runner().invoke(args=["db", *arguments])
        assert result.exit_code == 0, result.output

    yield migrate
    state_of(app).close()


@pytest.fixture
def fresh_engine(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Iterator[sa.Engine]:
    """An empty database of the test's own, of the same kind as `database_url`."""
    if database_url.startswith("sqlite"):
        url = make_url(f"sqlite:///{tmp_path}/fresh.db")
        dialect_of(url).prepare_file(url)
        engine = open_engine(url)
        yield engine
        engine.dispose()
        return
    shared: sa.Engine = request.getfixturevalue("engine")
    name = "Fresh schema of " + tmp_path.name[:30]
    run(shared, f'CREATE SCHEMA "{name}"')
    escaped = name.replace(" ", "\\ ")
    engine = open_engine(shared.url.update_query_dict({"options": f'-csearch_path="{escaped}"'}))
    yield engine
    engine.dispose()
    run(shared, f'DROP SCHEMA "{name}" CASCADE')


def version(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return schema.version_of(connection)


def test_an_upgrade_brings_the_newest_version_and_again_changes_nothing(fresh_engine: sa.Engine) -> None:
    assert version(fresh_engine) == 0

    schema.upgrade(fresh_engine)
    insert(fresh_engine, "a")
    schema.upgrade(fresh_engine)

    assert version(fresh_engine) == schema.VERSION
    assert row(fresh_engine, "a")["status"] == "pending"


@pytest.mark.parametrize("upgrade", [schema.upgrade, schema.upgrade_beside])
def test_of_several_that_upgrade_at_once_all_succeed(
    fresh_engine: sa.Engine, upgrade: Callable[[sa.Engine], None]
) -> None:
    """As the containers of a host that each run `flask taskapi upgrade` when they start."""
    ready = threading.Barrier(4)

    def upgrade_when_all_are_ready() -> None:
        ready.wait()
        upgrade(fresh_engine)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(upgrade_when_all_are_ready) for _ in range(4)]:
            done.result()

    assert version(fresh_engine) == schema.VERSION


def test_a_downgrade_leaves_nothing_and_an_upgrade_works_again(
    fresh_engine: sa.Engine, migrate: Callable[..., None]
) -> None:
    migrate("upgrade")
    insert(fresh_engine, "a")

    migrate("downgrade", "base")
    left = sa.inspect(fresh_engine).get_table_names()
    migrate("upgrade")

    assert left == []
    assert insert(fresh_engine, "a")


@pytest.mark.slow
@pytest.mark.parametrize("older", ["0001", "0002"])
def test_a_hundred_thousand_tasks_are_upgraded_within_seconds_of_a_waiting_reader(
    fresh_engine: sa.Engine, migrate: Callable[..., None], older: str
) -> None:
    migrate("upgrade", older)
    with fresh_engine.begin() as connection:
        connection.exec_driver_sql("""
            INSERT INTO user_tasks (task_id, user_id, status)
            WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
            SELECT 't' || n, 1, 'running' FROM numbers""")
    waits: list[float] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            began = time.monotonic()
            with fresh_engine.connect() as connection:
                connection.exec_driver_sql("SELECT status FROM user_tasks WHERE task_id = 't500'").one()
            waits.append(time.monotonic() - began)
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        began = time.monotonic()
        migrate("upgrade")
        seconds = time.monotonic() - began
        over.set()
        reader.result()

    assert version(fresh_engine) == schema.VERSION
    assert max(waits) <= seconds < 10


def test_version_2_and_back_keeps_the_rows_and_the_order_of_their_revisions(
    fresh_engine: sa.Engine, migrate: Callable[..., None]
) -> None:
    migrate("upgrade", "0001")
    for name in "abc":
        insert(fresh_engine, name)
    update(fresh_engine, "a", progress=5)
    before = order_of_revisions(fresh_engine)

    migrate("upgrade")
    after = order_of_revisions(fresh_engine)
    update(fresh_engine, "b", progress=5)
    moved = order_of_revisions(fresh_engine)
    migrate("downgrade", "0001")
    update(fresh_engine, "c", progress=5)

    assert before == after == ["b", "c", "a"]
    assert moved == ["c", "a", "b"]
    assert order_of_revisions(fresh_engine) == ["a", "b", "c"]
    assert version(fresh_engine) == 1


def test_the_way_back_needs_nobody_to_say_which_version_it_is_from(
    fresh_engine: sa.Engine, migrate: Callable[..., None]
) -> None:
    """As with an embedded file, which brings itself up to date. The older version looks in `alembic_version`."""
    schema.upgrade(fresh_engine)
    insert(fresh_engine, "a")

    migrate("downgrade", "0001")
    back = version(fresh_engine)
    with fresh_engine.connect() as connection:
        told = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    schema.upgrade(fresh_engine)

    assert (back, told) == (1, ["0001"])
    assert "alembic_version" not in sa.inspect(fresh_engine).get_table_names()
    assert row(fresh_engine, "a")["revision"] > 0


def order_of_revisions(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT task_id FROM user_tasks ORDER BY revision")))


def _upgrade_when_all_are_ready(url: str, barrier: Any) -> None:
    engine = open_engine(make_url(url))
    barrier.wait()
    schema.upgrade(engine)
    insert(engine, multiprocessing.current_process().name)
    engine.dispose()


@pytest.mark.slow
def test_processes_that_create_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    context, url = multiprocessing.get_context("spawn"), f"sqlite:///{tmp_path}/new/taskapi.db"
    barrier = context.Barrier(4)
    processes = [context.Process(target=_upgrade_when_all_are_ready, args=(url, barrier)) for _ in range(4)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    engine = open_engine(make_url(url))
    with engine.connect() as connection:
        revisions = connection.scalars(sa.text("SELECT revision FROM user_tasks ORDER BY id")).all()
    engine.dispose()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(set(revisions)) == 4
    assert list(revisions) == sorted(revisions)


# How the queries find their rows.


@pytest.fixture
def many_tasks(engine: sa.Engine) -> None:
    """A few thousand tasks of ten users, most of them final."""
    tasks = [
        {"name": f"task {number}", "user": number % 10, "path": number % 500,
         "status": "running" if number % 49 == 0 else "completed"}
        for number in range(5000)
    ]  # fmt: skip
    statement = (
        "INSERT INTO user_tasks (task_id, user_id, learning_path_id, status) VALUES (:name, :user, :path, :status)"
    )
    with engine.begin() as connection:
        connection.execute(sa.text(statement), tasks)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE user_tasks"))


def plan(engine: sa.Engine, statement: str, **parameters: Any) -> str:
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        rows = connection.execute(sa.text(explain + statement), parameters).all()
    return "\n".join(str(line[-1]) for line in rows)


# What a list asks for that is not filtered.
EVERY: dict[str, Any] = {"statuses": tuple(TaskStatus), "kind": None, "path": None, "text": None, "hides": False}


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize(
    ("name", "parameters", "index"),
    [
        ("task", {"task_id": "task 5"}, "task_id"),
        ("tasks_of", {"user_id": 5, "skip": 0, "limit": 21, **EVERY}, "ix_user_tasks_user"),
        ("latest_of_learning_path", {"path": 5}, "ix_user_tasks_learning_path"),
        ("active_of", {"user_id": 5, "most": 1000}, "ix_user_tasks_active"),
        ("overdue_started", {"cancel_within": 30, "batch": 500}, "ix_user_tasks_started"),
        ("refused", {"task_id": "task 5"}, "task_id"),
    ],
)
def test_a_query_uses_its_index(engine: sa.Engine, name: str, parameters: dict[str, Any], index: str) -> None:
    dialect = dialect_of(engine.url)
    bound = {key: dialect.list_parameter(value) if key == "statuses" else value for key, value in parameters.items()}

    found = plan(engine, getattr(dialect.statements, name), **bound)

    # SQLite makes the index of a UNIQUE column itself, and gives it no name of ours.
    assert index in found or (index == "task_id" and "sqlite_autoindex_user_tasks_1" in found), found
    assert "Seq Scan" not in found
    if name in ("tasks_of", "latest_of_learning_path"):
        assert "Sort" not in found, found
        assert "TEMP B-TREE" not in found, found


@on("sqlite")
@pytest.mark.usefixtures("many_tasks")
def test_the_feed_of_sqlite_finds_what_changed_by_an_index(engine: sa.Engine) -> None:
    assert "ix_user_tasks_revision" in plan(engine, CHANGED_SINCE, revision=4990)
