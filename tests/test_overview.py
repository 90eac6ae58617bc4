"""What administrators see first: kinds, failures by reason, and cancelling many, on both databases."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import Server, delete, insert, row
from test_tasks_api import assert_problem, bearer

from taskapi import overview
from taskapi.database.failures import DatabaseError
from taskapi.database.store import Failure, Store
from taskapi.kept import Kept
from taskapi.reasons import LENGTH, REASONS_AT_MOST, fold, grouped, reason_of
from taskapi.state import state_of

KINDS = "/api/tasks/kinds"
FAILURES = "/api/tasks/failures"
CANCEL = "/api/tasks/cancel"
ADMINISTRATOR = bearer(9, is_admin=True)
CANCELLED = "Cancelled."
BEGIN, SECOND = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=1)


def moment(seconds_ago: float) -> str:
    """As rows have it."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds_ago)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are asked meanwhile."""
    asked: list[str] = []
    rows = store.reader.rows

    def noted(statement: str, parameters: Any) -> Any:
        asked.append(statement)
        return rows(statement, parameters)

    store.reader.rows = noted  # type: ignore[method-assign]
    yield asked
    store.reader.rows = rows  # type: ignore[method-assign]


# Reasons.


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("KeyError: 'title'", "KeyError: 'title'"),
        ("list index out of range", "list index out of range"),
        ("Card 4711 of deck 'a1b2c3' has no source", "Card … of deck … has no source"),
        ("No file 'my deck 3.apkg'", "No file …"),
        ("<Card 0x7f3a9c> at 2026-11-24T10:00:00.123Z", "<Card …> at …"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301 (id=17)", "… (id=…)"),
        ("user a.b+c1@example.com is unknown", "user … is unknown"),
        ("Not started within 24 hours.", "Not started within … hours."),
        ("HTTP 503 from https://example.com/cards/12?page=4", "HTTP 503 from …?page=…"),
        ("status code: 404", "status code: 404"),
        ("[Errno 28] No space left on device: '/tmp/x81'", "[Errno 28] No space left on device: …"),
        ("it isn't 5 o'clock", "it isn't … o'clock"),
        ("Größe 12 übrig", "Größe … übrig"),
        ("first line 1\nsecond line 2", "first line …"),
        ("  \n\n", "ValueError: card … has no source"),
        (None, "ValueError: card … has no source"),
    ],
)
def test_a_reason_is_what_was_said_without_what_is_each_failures_own(message: str | None, reason: str) -> None:
    details = "Traceback (most recent call last):\n  …\nValueError: card 7 has no source\n"

    assert reason_of(Failure("a", "deck", message, details, None)) == reason


@pytest.mark.parametrize("text", ["a", "a.", "'", "'a", "1", "code ", "\u0660", "HTTP:"])
def test_no_message_takes_long_to_fold(text: str) -> None:
    def seconds(line: str) -> float:
        began = time.perf_counter()
        fold(line)
        return time.perf_counter() - began

    assert min(seconds(text * LENGTH + letter) for letter in "abcde") < 0.005
    assert len(fold(text * 10_000)) <= LENGTH


def test_failures_are_grouped_by_kind_and_reason_the_most_frequent_first() -> None:
    failures = [Failure(f"t{n}", "deck" if n % 3 else None, f"Card {n} is gone", None, 100 - n) for n in range(9)]
    failures += [Failure("other", "deck", None, None, 0)]

    found = grouped(failures)

    assert [(reason.kind, reason.reason, reason.count) for reason in found] == [
        ("deck", "Card … is gone", 6),
        (None, "Card … is gone", 3),
        ("deck", "", 1),
    ]
    assert (found[0].first_at, found[0].last_at, found[0].last_task_id) == (92, 99, "t1")


def test_only_so_many_reasons_are_told() -> None:
    words = ("".join(chr(97 + int(digit)) for digit in str(number)) for number in range(REASONS_AT_MOST + 5))

    assert len(grouped(Failure("a", None, word, None, 0) for word in words)) == REASONS_AT_MOST


# Failures.


def test_what_failed_lately_is_told_by_reason(client: FlaskClient, engine: sa.Engine) -> None:
    for number in range(3):
        at = moment(60 * (number + 1))
        insert(engine, f"gone{number}", kind="deck", status="failed", result_message=f"Card {number}.", ended_at=at)
    insert(engine, "dead", kind="deck", status="timeout", result_message="The worker stopped reporting.")
    insert(engine, "cancelled", kind="deck", status="failed", result_message=CANCELLED)
    insert(engine, "long ago", kind="deck", status="failed", result_message="Card 7.", ended_at=moment(90_000))
    insert(engine, "done", kind="deck", status="completed")
    insert(engine, "by hand", status="failed", error_details="Traceback\nKeyError: 'x'")

    answer = client.get(FAILURES, headers=ADMINISTRATOR)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    told = answer.get_json()
    assert (told["hours"], told["count"], told["sample"]) == (24, 5, 5)
    gone, *others = told["reasons"]
    assert (gone["kind"], gone["reason"], gone["count"]) == ("deck", "Card …", 3)
    assert {(other["kind"], other["reason"], other["count"]) for other in others} == {
        ("deck", "The worker stopped reporting.", 1),
        (None, "KeyError: 'x'", 1),
    }
    assert gone["last_task_id"] == "gone0"
    assert re.fullmatch(r"[-0-9]{10}T[0-9:.]+Z", gone["first_at"])
    assert gone["first_at"] < gone["last_at"]


def test_more_failures_than_are_looked_at_are_counted(
    client: FlaskClient, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "FAILURE_SAMPLE", 2)
    for number in range(5):
        insert(engine, f"t{number}", status="failed", result_message="It broke.", ended_at=moment(number))
    insert(engine, "cancelled", status="failed", result_message=CANCELLED)

    told = client.get(FAILURES, headers=ADMINISTRATOR).get_json()

    assert (told["count"], told["sample"], told["reasons"][0]["count"]) == (5, 2, 2)
    assert told["reasons"][0]["last_task_id"] == "t0"


def test_how_far_back_is_the_callers_to_say(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", status="failed", ended_at=moment(1800))
    insert(engine, "b", status="failed", ended_at=moment(5000))
    insert(engine, "c", status="failed", ended_at=moment(100_000))

    counts = [
        client.get(f"{FAILURES}?hours={hours}", headers=ADMINISTRATOR).get_json()["count"] for hours in (1, 2, 24, 168)
    ]

    assert counts == [1, 2, 2, 3]
    for hours in ("0", "169", "x", "", "-1", "1.5", "²"):
        assert "hours" in assert_problem(client.get(f"{FAILURES}?hours={hours}", headers=ADMINISTRATOR), 400)["detail"]


# Kinds.


def test_each_kind_says_what_is_there_and_how_long_it_takes(client: FlaskClient, engine: sa.Engine) -> None:
    for number in range(1, 11):
        moments: dict[str, Any] = {
            "created_at": BEGIN,
            "started_at": BEGIN + number * SECOND,
            "ended_at": BEGIN + 11 * number * SECOND,
        }
        insert(engine, f"t{number}", kind="deck", status="completed", **{k: v.isoformat() for k, v in moments.items()})
    insert(engine, "broken", kind="deck", status="failed", created_at=moment(50), ended_at=moment(40))
    insert(engine, "cancelled", kind="deck", status="failed", result_message=CANCELLED)
    insert(engine, "first", kind="deck", status="queued", created_at="2026-01-01T00:00:00Z")
    insert(engine, "second", kind="deck", status="pending")
    insert(engine, "running", kind="deck", status="running")
    insert(engine, "stalled", kind="export", status="running", lease_expires_at="2026-01-01T00:00:00Z")
    insert(engine, "nameless", status="starting")

    deck, export, nameless = client.get(KINDS, headers=ADMINISTRATOR).get_json()

    assert deck.pop("oldest_waiting_at").startswith("2026-01-01T00:00:00")
    assert deck == {
        "kind": "deck",
        "waiting": 2,
        "running": 1,
        "stalled": 0,
        "sample": 11,
        "failed": 1,
        "wait_seconds": {"p50": 5.0, "p90": 9.0},
        "run_seconds": {"p50": 50.0, "p90": 90.0},
    }
    assert export == {
        "kind": "export",
        "waiting": 0,
        "oldest_waiting_at": None,
        "running": 1,
        "stalled": 1,
        "sample": 0,
        "failed": 0,
        "wait_seconds": None,
        "run_seconds": None,
    }
    assert (nameless["kind"], nameless["running"]) == (None, 1)


def test_only_the_last_of_a_kind_tell_of_it(
    client: FlaskClient, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "KIND_SAMPLE", 3)
    for kind in ("deck", None):
        for number in range(5):
            status = "completed" if number < 3 else "timeout"
            insert(engine, f"{kind}{number}", kind=kind, status=status, ended_at=moment(number))

    told = client.get(KINDS, headers=ADMINISTRATOR).get_json()

    assert [(kind["kind"], kind["sample"], kind["failed"]) for kind in told] == [("deck", 3, 0), (None, 3, 0)]


def test_without_tasks_there_is_nothing_to_tell(client: FlaskClient) -> None:
    assert client.get(KINDS, headers=ADMINISTRATOR).get_json() == []
    assert client.get(FAILURES, headers=ADMINISTRATOR).get_json() == {
        "hours": 24,
        "count": 0,
        "sample": 0,
        "reasons": [],
    }


# Whoever asks, and how often the database is asked.


def test_they_are_for_administrators_only(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")
    for path in (KINDS, FAILURES, f"{FAILURES}?hours=x"):
        assert_problem(client.get(path), 401)
        assert_problem(client.get(path, headers=bearer(1)), 403)
        assert_problem(client.get(path, headers=bearer(1, is_admin="true")), 403)
    assert_problem(client.post(CANCEL, json=["a"]), 401)
    assert_problem(client.post(CANCEL, json=["a"], headers=bearer(1)), 403)
    assert row(engine, "a")["cancel_requested_at"] is None


def test_however_many_look_the_database_is_asked_once(app: Flask, engine: sa.Engine) -> None:
    insert(engine, "a", status="failed")

    def look(path: str) -> Any:
        return app.test_client().get(path, headers=ADMINISTRATOR).get_json()

    with counted(state_of(app).store) as asked, ThreadPoolExecutor(8) as pool:
        told = list(pool.map(look, [KINDS, FAILURES] * 20))

    statements = state_of(app).store.dialect.statements
    for statement in (statements.active, statements.last_of_kinds, statements.failures):
        assert asked.count(statement) == 1
    assert all(answer == told[number % 2] for number, answer in enumerate(told))


def test_one_of_those_who_ask_at_once_makes_the_answer_and_it_is_kept() -> None:
    begun, go_on = threading.Event(), threading.Event()
    made: list[int] = []

    def make() -> int:
        begun.set()
        assert go_on.wait(10)
        made.append(1)
        return len(made)

    kept = Kept(make, 60)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(kept.get) for _ in range(5)]
        assert begun.wait(10)
        go_on.set()

    assert [answer.result() for answer in answers] == [1] * 5
    assert kept.get() == 1


def test_a_failure_is_told_to_those_who_wait_and_is_not_kept() -> None:
    divisors = iter([0, 1])
    kept = Kept(lambda: 1 / next(divisors), 60)

    with pytest.raises(ZeroDivisionError):
        kept.get()

    assert kept.get() == 1


def test_an_answer_that_is_no_longer_kept_is_made_again() -> None:
    # Made at 0 and at 5, at once; then in three seconds, at 30, which is kept for twenty times as long.
    clock, numbers = iter([0, 0, 4.9, 5, 5, 5, 9, 30, 30, 33, 89, 90, 90, 90]), iter(range(9))
    kept = Kept(lambda: next(numbers), 5, lambda: next(clock))

    assert [kept.get() for _ in range(7)] == [0, 0, 1, 1, 2, 2, 3]


# Cancelling many.


def test_many_are_cancelled_at_once_and_each_is_answered(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "waits", 1, status="queued")
    insert(engine, "runs", 2, status="running")
    insert(engine, "asked", 2, status="running", cancel_requested_at=moment(5))
    insert(engine, "ended", 3, status="completed")
    names = ["runs", "waits", "nothing", "ended", "asked", "runs", "x" * 256, "a\0b", ""]

    answer = client.post(CANCEL, headers=ADMINISTRATOR, json=names)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert [(told["task_id"], told["outcome"]) for told in answer.get_json()] == [
        ("runs", "accepted"),
        ("waits", "accepted"),
        ("nothing", "unknown"),
        ("ended", "ended"),
        ("asked", "accepted"),
        ("x" * 256, "unknown"),
        ("a\0b", "unknown"),
        ("", "unknown"),
    ]
    assert (row(engine, "waits")["status"], row(engine, "waits")["result_message"]) == ("failed", CANCELLED)
    assert row(engine, "runs")["status"] == "running"
    assert row(engine, "runs")["cancel_requested_at"] is not None
    assert row(engine, "ended")["status"] == "completed"
    again = client.post(CANCEL, headers=ADMINISTRATOR, json=["runs", "waits"]).get_json()
    assert [told["outcome"] for told in again] == ["accepted", "ended"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("[", 400),
        ('{"task_ids": []}', 400),
        ("[1]", 400),
        ('["a", null]', 400),
        ('["\\ud800"]', 400),
        ("[" * 2000, 400),
        (b"\xff\xfe", 400),
        ("[" + ", ".join(['"a"'] * 101) + "]", 400),
        ("[]", 200),
        ("[" + ", ".join(['"a"'] * 100) + "]", 200),
    ],
)
def test_what_is_no_list_of_ids_is_refused(client: FlaskClient, body: str | bytes, status: int) -> None:
    answer = client.post(CANCEL, headers=ADMINISTRATOR, data=body, content_type="application/json")

    assert answer.status_code == status
    if status == 400:
        assert_problem(answer, 400)


def test_a_form_of_another_site_cancels_nothing(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")

    assert_problem(client.post(CANCEL, headers=ADMINISTRATOR, data='["a"]', content_type="text/plain"), 415)

    assert row(engine, "a")["cancel_requested_at"] is None


def test_where_one_cannot_be_cancelled_none_is(store: Store, engine: sa.Engine) -> None:
    insert(engine, "a", status="queued")
    insert(engine, "b", status="queued")
    first, second = sorted(store.tasks_named(["a", "b"]), key=lambda task: task.id)

    with pytest.raises(DatabaseError):
        store.cancel_all([first, second._replace(task_id=object())])  # type: ignore[arg-type]

    assert row(engine, "a")["status"] == "queued"
    delete(engine, "b")
    assert [task.task_id for task in store.cancel_all([second, first])] == ["a"]


def test_those_who_follow_see_it(server: Server, client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", 1, status="queued")
    insert(engine, "b", 2, status="running")
    first, second = (server.stream(f"/api/tasks/{name}/events", user) for name, user in (("a", 1), ("b", 2)))
    first.next(), second.next()

    client.post(CANCEL, headers=ADMINISTRATOR, json=["a", "b"])

    assert [event.name for event in first.rest()] == ["message", "done"]
    assert [second.next().name, second.next().name] == ["message", "cancelling"]


# How a page learns who may look.


def test_only_administrators_are_told_of_everybodys_tasks(client: FlaskClient, engine: sa.Engine) -> None:
    for number in range(3):
        insert(engine, f"t{number}")

    def told(**claims: Any) -> str:
        answer = client.get("/api/tasks/users/me?limit=2", headers=bearer(1, **claims))
        return ", ".join(answer.headers.getlist("Link"))

    assert '</api/tasks>; rel="collection"' in told(is_admin=True)
    assert 'rel="next"' in told(is_admin=True)
    assert "collection" not in told()


# What it costs.

MANY = 30_000
NO_FILTER = {"kind": None, "path": None, "text": None, "hides": False, "skip": 0, "limit": 51, "depth": 51}
ACTIVE = ["pending", "queued", "starting", "running"]


def insert_many(engine: sa.Engine) -> None:
    """Thirty days of tasks: of twenty kinds, one in twenty failed, a hundredth are going on."""
    rows = []
    for number in range(MANY):
        ended = BEGIN + number * 86 * SECOND
        status = "queued" if number % 100 == 0 else "failed" if number % 20 == 1 else "completed"
        rows.append({"task": f"t{number}", "user": number % 500, "kind": f"kind {number % 20}", "status": status,
                     "created": (ended - 60 * SECOND).isoformat(), "ended": ended.isoformat()})  # fmt: skip
    moment = "text" if engine.dialect.name == "sqlite" else "timestamptz"
    statement = f"""
        INSERT INTO user_tasks (task_id, user_id, kind, status, created_at, ended_at)
        VALUES (:task, :user, :kind, :status, CAST(:created AS {moment}), CAST(:ended AS {moment}))"""
    with engine.begin() as connection:
        connection.execute(sa.text(statement), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE user_tasks"))


@pytest.mark.slow
def test_however_many_tasks_there_are_an_index_answers_each_question(store: Store, engine: sa.Engine) -> None:
    insert_many(engine)
    hours = int((dt.datetime.now(dt.UTC) - BEGIN).total_seconds() / 3600) - 700  # of the last of thirty days

    def plan(name: str, **parameters: Any) -> str:
        lists = {key: store.dialect.list_parameter(value) for key, value in parameters.items() if type(value) is list}
        explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
        rows = store.reader.rows(explain + getattr(store.dialect.statements, name), parameters | lists)
        found = "\n".join(str(row[-1]) for row in rows)
        assert "Seq Scan" not in found
        assert not re.search("SCAN user_tasks$", found, re.MULTILINE)
        return found

    for parameters in ({}, {"kind": "kind 3"}, {"text": "x"}):
        everybodys = plan("tasks", statuses=[*ACTIVE, "completed", "failed", "timeout"], **{**NO_FILTER, **parameters})
        failed = plan("tasks_failed", statuses=["failed", "timeout"], **{**NO_FILTER, **parameters})
        assert "ix_user_tasks_created" in everybodys
        assert "ix_user_tasks_unsuccessful" in failed
        assert not re.search("Sort|TEMP B-TREE", everybodys)
    # PostgreSQL chooses by how many there are.
    wanted = "ix_user_tasks_active" if engine.dialect.name == "sqlite" else "ix_user_tasks_(active|created)"
    assert re.search(wanted, plan("tasks_active", statuses=ACTIVE, **NO_FILTER))
    assert "ix_user_tasks_active" in plan("active")
    assert "ix_user_tasks_ended" in plan("kinds_ended", most=200)
    assert "ix_user_tasks_ended" in plan("last_of_kinds", kinds=["kind 3", None], most=100)
    assert "ix_user_tasks_failed" in plan("failures", hours=hours, most=20, length=9)
    assert "ix_user_tasks_failed" in plan("failure_count", hours=hours)
