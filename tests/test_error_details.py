"""What an exception said is for administrators only, where the settings say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from flask import Flask
from harness import KEY, Event, Server, insert, make_token, update

from taskapi import create_app
from taskapi.database.models import RESPONSE_FIELDS, Snapshot
from taskapi.state import state_of

SECRET = "ValueError: no such card: 4711"
TRACEBACK = f"Traceback (most recent call last):\n{SECRET}"
HIDDEN = ("Task failed during execution.", None)
ROUTES = ["/api/tasks/a/status", "/api/tasks/users/me", "/api/tasks/learning-paths/5", "/api/tasks/a/events"]


@pytest.fixture
def discreet(database_url: str) -> Iterator[Flask]:
    app = create_app({"DATABASE_URL": database_url, "JWT_SECRET_KEY": KEY, "TESTING": True, "ERROR_DETAILS": "admin"})
    yield app
    state_of(app).close()


def get(app: Flask, route: str, user: int, **claims: Any) -> str:
    answer = app.test_client().get(route, headers={"Authorization": f"Bearer {make_token(user, **claims)}"})
    assert answer.status_code == 200
    return str(answer.text)


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_shows_an_owner_what_an_exception_said(discreet: Flask, engine: sa.Engine, route: str) -> None:
    insert(engine, "a", status="failed", learning_path_id=5, result_message=SECRET, error_details=TRACEBACK)

    owners, administrators = get(discreet, route, 1), get(discreet, route, 1, is_admin=True)

    assert SECRET not in owners
    assert '"result_message":"Task failed during execution.","error_details":null' in owners
    assert json.dumps(TRACEBACK) in administrators
    assert f'"result_message":"{SECRET}"' in administrators


@pytest.mark.parametrize("route", ROUTES)
def test_by_default_an_owner_sees_all(app: Flask, engine: sa.Engine, route: str) -> None:
    insert(engine, "a", status="failed", learning_path_id=5, result_message=SECRET, error_details=TRACEBACK)

    assert get(app, route, 1) == get(app, route, 1, is_admin=True)
    assert json.dumps(TRACEBACK) in get(app, route, 1)


def test_what_is_hidden_from_an_owner_cannot_be_found_by_searching(discreet: Flask, engine: sa.Engine) -> None:
    insert(engine, "failed", status="failed", result_message=SECRET, error_details=TRACEBACK)
    insert(engine, "again", status="queued", result_message=f"Attempt 1 failed: {SECRET}.", error_details=TRACEBACK)
    insert(engine, "cancelled", status="failed", result_message="Cancelled.")

    def found(text: str, **claims: Any) -> list[str]:
        return [task["task_id"] for task in json.loads(get(discreet, f"/api/tasks/users/me?q={text}", 1, **claims))]

    assert found("4711") == found("attempt") == []
    assert found("4711", is_admin=True) == ["again", "failed"]
    assert found("cancelled.") == ["cancelled"]
    # What stands in its place is what is found.
    assert found("during execution") == ["again", "failed"]
    assert found("tried again") == ["again"]
    assert found("during execution", is_admin=True) == []


def test_cancelling_shows_an_owner_nothing_either(discreet: Flask, engine: sa.Engine) -> None:
    insert(engine, "a", status="running", result_message=SECRET, error_details=TRACEBACK)

    answer = discreet.test_client().post("/api/tasks/a/cancel", headers={"Authorization": f"Bearer {make_token(1)}"})

    assert answer.status_code == 202
    assert SECRET not in answer.text


def test_the_applications_own_rules_see_the_task_as_it_is(discreet: Flask, engine: sa.Engine) -> None:
    insert(engine, "a", status="failed", result_message=SECRET, error_details=TRACEBACK)
    state_of(discreet).rules.may_see = lambda _identity, task: task.error_details == TRACEBACK

    assert SECRET not in get(discreet, "/api/tasks/a/status", 2)


@pytest.mark.parametrize(
    ("status", "message", "details", "shown"),
    [
        ("failed", SECRET, TRACEBACK, HIDDEN),
        ("failed", SECRET, None, HIDDEN),
        ("failed", None, None, HIDDEN),
        ("failed", "Cancelled.", None, ("Cancelled.", None)),
        ("queued", f"Attempt 1 failed: {SECRET}. It will be tried again.", TRACEBACK,
         ("Task failed during execution. It will be tried again.", None)),
        ("timeout", "Not started within 24 hours.", TRACEBACK, ("Not started within 24 hours.", None)),
        ("timeout", "The worker stopped reporting.", None, ("The worker stopped reporting.", None)),
        ("completed", "50 cards", None, ("50 cards", None)),
        ("completed", "50 cards", TRACEBACK, ("50 cards", None)),
        ("running", "half", None, ("half", None)),
    ],
)  # fmt: skip
def test_what_an_owner_reads(
    status: str, message: str | None, details: str | None, shown: tuple[str | None, str | None]
) -> None:
    fields: dict[str, Any] = {
        **dict.fromkeys(RESPONSE_FIELDS),
        "status": status,
        "result_message": message,
        "error_details": details,
    }

    task = Snapshot.of([*fields.values(), 1, None], hides_errors=True)

    owners, administrators = orjson.loads(task.json), orjson.loads(task.json_for(is_admin=True))
    assert (owners["result_message"], owners["error_details"]) == shown
    assert administrators == fields
    # Most tasks have nothing to hide: then all get the same bytes.
    assert (task.admin_json is None) == ((message, details) == shown)


def test_open_streams_of_one_task_show_each_what_it_may_see(
    start_server: Callable[..., Server], engine: sa.Engine
) -> None:
    server = start_server(ERROR_DETAILS="admin")
    insert(engine, "a", status="running")
    administrator = f"Bearer {make_token(1, is_admin=True)}"
    credentials = (f"Bearer {make_token(1)}", administrator)
    paths = ("/api/tasks/a/events", "/api/tasks/users/me/events")
    streams = [server.stream(path, Authorization=token) for path in paths for token in credentials]
    for stream in streams:
        stream.next()

    update(engine, "a", status="queued", result_message=SECRET, error_details=TRACEBACK)
    again = [stream.next() for stream in streams]
    joined = [server.stream(path, Authorization=token).next() for path in paths for token in credentials]
    update(engine, "a", status="failed")
    last = [stream.next() for stream in streams]

    for events in (again, joined, last):
        assert [said(event) for event in events[1::2]] == [(SECRET, TRACEBACK)] * 2
        assert len({event.id for event in events}) == 1
    assert [said(event) for event in again[::2]] == [
        ("Task failed during execution. It will be tried again.", None)
    ] * 2
    assert [said(event) for event in joined[::2]] == [said(event) for event in again[::2]]
    assert [said(event) for event in last[::2]] == [HIDDEN] * 2


def said(event: Event) -> tuple[str, str | None]:
    return event.json["result_message"], event.json["error_details"]
