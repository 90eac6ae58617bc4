"""What can be asked of and done to the table, on both databases."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from harness import delete, insert, row, update, wait_until
from sqlalchemy.engine import make_url

from taskapi.database import pool
from taskapi.database.failures import ConstraintError, DatabaseError
from taskapi.database.models import RESPONSE_FIELDS, Snapshot, TaskStatus
from taskapi.database.store import ACTIVE_AT_MOST, PRUNE_BATCH, Attempt, AttemptKey, Report, Store, Told
from taskapi.progress.rows import new_row

PAST = "2020-01-01 00:00:00"
FUTURE = "2100-01-01 00:00:00"


@pytest.fixture
def store(engine: sa.Engine) -> Any:
    store = Store(engine.url)
    yield store
    store.close()


def names(tasks: list[Snapshot]) -> list[str]:
    return [task.task_id for task in tasks]


# Reading.


def test_a_snapshot_is_the_row_and_its_json(store: Store, engine: sa.Engine) -> None:
    number = insert(engine, "a", 5, status="running", progress=12.5)

    task = store.task("a")

    assert task is not None
    assert task[:5] == (number, 5, "a", TaskStatus.RUNNING, row(engine, "a")["revision"])
    assert tuple(json.loads(task.json)) == RESPONSE_FIELDS
    assert b"\n" not in task.json
    assert store.task("b") is None


def test_the_values_of_a_question_are_never_sql(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a")

    for text in ("' OR '1'='1", "a' --", "%", "%s", "%(task_id)s", ":task_id", "?", "a\\", '"'):
        assert store.task(text) is None


def test_who_follows_a_user_gets_what_is_not_final_newest_first(store: Store, engine: sa.Engine) -> None:
    for status in TaskStatus:
        insert(engine, status.value, status=status.value)
    insert(engine, "somebody else's", 2)

    assert names(store.active_of(1)) == ["running", "starting", "queued", "pending"]
    assert ACTIVE_AT_MOST == 1000


def test_who_comes_back_gets_also_what_ended_after_the_cursor(store: Store, engine: sa.Engine) -> None:
    insert(engine, "ended before", status="completed")
    cursor = row(engine, "ended before")["revision"]
    insert(engine, "running", status="running")
    insert(engine, "ended since", status="failed")

    assert names(store.ended_since(1, cursor)) == ["ended since"]
    assert names(store.ended_since(1, 0)) == ["ended since", "ended before"]
    assert {key.revision for key in store.keys_ended_lately(1, cursor)} == {row(engine, "ended since")["revision"]}


def test_tasks_and_their_keys_are_read_by_id(store: Store, engine: sa.Engine) -> None:
    ids = [insert(engine, name) for name in ("a", "b", "c")]
    update(engine, "a", progress=5)
    wanted = [ids[0], ids[1], 10**12]

    known = {ids[0]: 1, ids[1]: row(engine, "b")["revision"], 10**12: 1}
    found, gone = store.news(known)
    assert (names(found), gone) == (["a"], [10**12])
    assert set(store.keys_of_ids(wanted)) == {
        (number, 1, row(engine, name)["revision"]) for number, name in zip(ids[:2], "ab", strict=True)
    }
    assert (store.news({}), store.keys_of_ids([])) == (([], []), [])


def test_the_keys_that_a_user_follows_are_the_active_and_the_new(store: Store, engine: sa.Engine) -> None:
    start = store.clock() - 60_000_000
    insert(engine, "old", status="completed", created_at=PAST)
    active = insert(engine, "active", status="running", created_at=PAST)
    new = insert(engine, "new", status="completed")
    insert(engine, "somebody else's", 2)

    assert {key.id for key in store.keys_of_users([1], start)} == {active, new}
    assert store.keys_of_users([1], store.clock() + 60_000_000) == []
    assert store.keys_of_users([], start) == []


def test_the_databases_clock_is_the_one_of_revisions(store: Store, engine: sa.Engine) -> None:
    before = store.clock()
    insert(engine, "a")

    assert before <= row(engine, "a")["revision"] <= store.clock() + 1000


# Reports.


def running(engine: sa.Engine, task_id: str = "a", **columns: Any) -> AttemptKey:
    """A task that runs, in its third attempt."""
    return AttemptKey(insert(engine, task_id, status="running", attempt=3, **columns), task_id, 3)


def test_a_claim_starts_a_task_and_takes_a_lease(store: Store, engine: sa.Engine) -> None:
    number = insert(engine, "a", stage="in line", total_items=5)

    assert store.attempt("a") == Attempt(number, "a", 0, TaskStatus.PENDING, 5)
    assert store.claim("a", 60) == store.attempt("a") == Attempt(number, "a", 1, TaskStatus.STARTING, 5)
    assert (row(engine, "a")["status"], row(engine, "a")["stage"]) == ("starting", "in line")
    assert row(engine, "a")["lease_expires_at"] is not None
    assert store.claim("nothing", 60) is None
    assert store.attempt("nothing") is None


def test_a_claim_begins_with_nothing_done_said_or_broken(store: Store, engine: sa.Engine) -> None:
    done: dict[str, Any] = {"completed_items": 3, "progress": 30, "started_at": "2020-01-01"}
    running(engine, total_items=10, stage="x", result_message="m", error_details="e", **done)

    store.claim("a", 60)

    task = row(engine, "a")
    assert (task["attempt"], task["completed_items"], task["progress"], task["total_items"]) == (4, 0, 0, 10)
    assert (task["stage"], task["result_message"], task["error_details"]) == (None, None, None)
    assert str(task["started_at"]) > "2020-01-02"


@pytest.mark.parametrize(
    "change", [{"attempt": 4}, {"attempt": 2}, {"status": "queued"}, {"status": "pending"}], ids=str
)
def test_an_attempt_that_is_over_changes_nothing(store: Store, engine: sa.Engine, change: dict[str, Any]) -> None:
    key = running(engine)
    update(engine, "a", **change)
    before = row(engine, "a")

    for status in (TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.QUEUED):
        assert store.report([Report(*key, status=status, progress=5, advance=1)], 60).over == {key}
    assert store.renew([key], 60).over == {key}
    assert row(engine, "a") == before


def test_an_attempt_at_a_task_whose_id_is_another_ones_now_changes_nothing(store: Store, engine: sa.Engine) -> None:
    key = running(engine)
    delete(engine, "a")
    insert(engine, "b", 2, id=key.id, status="running", attempt=3, total_items=5)
    before = row(engine, "b")

    for status in (TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.QUEUED):
        assert store.report([Report(*key, status=status, progress=5, advance=1)], 60).over == {key}
    assert store.renew([key], 60).over == {key}
    assert row(engine, "b") == before


def test_a_task_goes_back_to_be_tried_again(store: Store, engine: sa.Engine) -> None:
    key = running(engine, total_items=10, completed_items=3, progress=30, stage="x", lease_expires_at=FUTURE)
    retry = Report(*key, status=TaskStatus.QUEUED, total_items=7, result_message="m", error_details="e", advance=2)

    assert store.report([retry], 60).over == set()

    task = row(engine, "a")
    assert (task["status"], task["attempt"], task["completed_items"], task["progress"]) == ("queued", 3, 0, 0)
    assert (task["total_items"], task["result_message"], task["error_details"]) == (7, "m", "e")
    assert (task["stage"], task["started_at"], task["lease_expires_at"]) == (None, None, None)


@pytest.mark.parametrize("status", ["completed", "failed", "timeout"])
def test_final_is_final(store: Store, engine: sa.Engine, status: str) -> None:
    key = running(engine)
    update(engine, "a", status=status)
    before = row(engine, "a")

    assert store.claim("a", 60) is None
    assert store.report([Report(*key, status=TaskStatus.RUNNING, progress=5, advance=1)], 60).over == {key}
    assert store.renew([key], 60).over == {key}
    assert row(engine, "a") == before


def test_a_report_changes_only_what_it_names(store: Store, engine: sa.Engine) -> None:
    key = running(engine, stage="x", total_items=10, completed_items=3, progress=30, result_message="m")
    before = row(engine, "a")

    unchanged = store.report([Report(*key, status=TaskStatus.STARTING, error_details="e")], 60)

    changed = {name for name, value in row(engine, "a").items() if value != before[name]}
    assert unchanged == Told(set(), set())
    assert changed - {"updated_at"} <= {"status", "error_details", "revision", "lease_expires_at"}
    assert row(engine, "a")["status"] == "starting"


@pytest.mark.parametrize(
    ("columns", "report", "completed", "progress"),
    [
        ({"total_items": 10}, {"advance": 3}, 3, 30),
        ({"total_items": 10, "completed_items": 2}, {"advance": 3}, 5, 50),
        ({"total_items": 10, "completed_items": 2}, {"completed_items": 7, "advance": 1}, 8, 80),
        ({}, {"total_items": 4, "advance": 1}, 1, 25),
        ({}, {"advance": 3}, 3, 0),
        ({"total_items": 0}, {"advance": 3}, 3, 0),
        ({"total_items": 2}, {"advance": 3}, 3, 100),
        ({"total_items": 10, "progress": 90}, {"advance": 1}, 1, 90),
        ({"total_items": 10}, {"advance": 1, "progress": 55.5}, 1, 55.5),
        ({"total_items": 10, "progress": 90}, {"progress": 0.0}, 0, 0),
    ],
)
def test_counts_add_up_and_move_the_progress(
    store: Store, engine: sa.Engine, columns: dict[str, Any], report: dict[str, Any], completed: int, progress: float
) -> None:
    key = running(engine, **columns)

    store.report([Report(*key, **report)], 60)

    assert (row(engine, "a")["completed_items"], row(engine, "a")["progress"]) == (completed, progress)


def test_counts_of_writers_at_once_add_up(store: Store, engine: sa.Engine) -> None:
    keys = [running(engine), running(engine, "b")]

    def write() -> None:
        for turn in range(10):
            store.report([Report(*key, advance=1) for key in keys[:: 1 if turn % 2 else -1]], 60)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [row(engine, name)["completed_items"] for name in "ab"] == [40, 40]


def test_a_report_that_the_database_refuses_changes_nothing(store: Store, engine: sa.Engine) -> None:
    key = running(engine)
    before = row(engine, "a")

    with pytest.raises(ConstraintError):
        store.report([Report(*key, advance=1), Report(*key, progress=101.0)], 60)

    assert row(engine, "a") == before


def test_a_task_id_that_is_taken_breaks_a_constraint(store: Store) -> None:
    store.create(new_row(task_id="a", user_id=1))

    with pytest.raises(ConstraintError):
        store.create(new_row(task_id="a", user_id=2))


# Closing and removing.


def reap(store: Store) -> list[str]:
    return [task.task_id for task in store.close_overdue(store.overdue(30))]


@pytest.mark.parametrize(
    ("status", "lease", "closed"),
    [
        ("running", PAST, True),
        ("starting", PAST, True),
        ("running", FUTURE, False),
        ("running", None, False),
        ("pending", PAST, False),
        ("queued", PAST, False),
        ("completed", PAST, False),
        ("failed", PAST, False),
    ],
)
def test_what_started_and_lost_its_lease_is_closed_once(
    store: Store, engine: sa.Engine, status: str, lease: str | None, closed: bool
) -> None:
    insert(engine, "a", status=status, lease_expires_at=lease)

    assert reap(store) == (["a"] if closed else [])
    assert reap(store) == []
    assert row(engine, "a")["status"] == ("timeout" if closed else status)
    assert (row(engine, "a")["result_message"] is not None) is closed
    assert not closed or row(engine, "a")["ended_at"]


@pytest.mark.parametrize("lease", ["2020-01-01T00:00:00+14:00", "2020-01-01", "2020-01-01T00:00:00.123456Z"])
def test_a_lease_may_be_written_in_any_form(store: Store, engine: sa.Engine, lease: str) -> None:
    insert(engine, "a", status="running", lease_expires_at=lease)

    assert reap(store) == ["a"]


def test_a_renewed_lease_keeps_a_task_open(store: Store, engine: sa.Engine) -> None:
    key = running(engine, lease_expires_at=PAST)
    gone = AttemptKey(10**12, "gone", 1)

    assert store.renew([key, gone], 60).over == {gone}
    assert reap(store) == []


def test_pruning_removes_what_ended_longer_ago_and_nothing_else(store: Store, engine: sa.Engine) -> None:
    insert(engine, "old", status="completed", ended_at=PAST)
    insert(engine, "old and failed", status="failed", ended_at=PAST)
    insert(engine, "fresh", status="completed")
    insert(engine, "old but running", status="running", created_at=PAST, started_at=PAST)
    insert(engine, "ended once, running again", status="running", ended_at=PAST)

    assert store.prune(30) == 2
    assert {task.task_id for task in store.tasks_of(1, 0, 10)} == {
        "fresh",
        "old but running",
        "ended once, running again",
    }
    assert store.prune(0) == 1


def test_pruning_goes_on_until_all_is_removed(store: Store, engine: sa.Engine) -> None:
    count = 2 * PRUNE_BATCH + 1
    statement = "INSERT INTO user_tasks (task_id, user_id, status, ended_at) VALUES (:name, 1, 'failed', '2020-01-01')"
    with engine.begin() as connection:
        connection.execute(sa.text(statement), [{"name": str(number)} for number in range(count)])

    assert store.prune(1) == count
    assert store.tasks_of(1, 0, 10) == []


# The database's outages.


def test_a_database_that_does_not_answer_is_an_error_of_one_family() -> None:
    store = Store(make_url("postgresql+psycopg://nobody@127.0.0.1:1/none"))

    for ask in (lambda: store.task("a"), store.clock, lambda: store.overdue(30), lambda: store.claim("a", 60)):
        with pytest.raises(DatabaseError):
            ask()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_that_died_unnoticed_are_replaced(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a")
    store.task("a")
    [(dead,)] = store.reader.rows("SELECT pg_backend_pid()", {})

    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": dead})

    assert store.task("a") is not None


def test_a_question_that_fails_gives_its_place_back(store: Store) -> None:
    for _ in range(2 * pool.CONNECTIONS):
        with pytest.raises(DatabaseError):
            store.reader.rows("SELECT nothing FROM nowhere", {})

    assert store.task("a") is None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_readers_wait_for_each_other_rather_than_open_more_connections(store: Store) -> None:
    def ask() -> None:
        backends.add(store.reader.rows("SELECT pg_backend_pid(), pg_sleep(0.01)", {})[0][0])

    backends: set[int] = set()
    threads = [threading.Thread(target=ask) for _ in range(4 * pool.CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 < len(backends) <= pool.CONNECTIONS


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_in_use_while_all_are_closed_goes_when_it_has_answered(store: Store, engine: sa.Engine) -> None:
    question = f"SELECT pg_backend_pid() FROM pg_sleep(0.3) -- {uuid.uuid4()}"
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(store.reader.rows(question, {})))
    activity = "SELECT count(*) FROM pg_stat_activity WHERE query = :query AND state = 'active' OR pid = :pid"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        asking.start()
        wait_until(lambda: connection.scalar(sa.text(activity), {"query": question, "pid": 0}))

        store.reader.close()
        asking.join()

        [(backend,)] = answers
        wait_until(lambda: not connection.scalar(sa.text(activity), {"query": "", "pid": backend}))
