"""Stream tickets: what they open, what they never open, and how long they last."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from harness import KEY, Server, insert, make_token, update, wait_until
from itsdangerous import URLSafeSerializer
from werkzeug.test import TestResponse

from taskapi import create_app
from taskapi.state import state_of

TASK = "/api/tasks/a/events"
MINE = "/api/tasks/users/me/events"


def bearer(user: int = 1, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(user, **claims)}"}


def get_ticket(client: FlaskClient, path: str = TASK, user: int = 1, **claims: Any) -> str:
    response = client.post(path, headers=bearer(user, **claims))
    assert response.status_code == 201, response.text
    url: str = response.get_json()["url"]
    return parse_qs(urlsplit(url).query)["ticket"][0]


def assert_refused(response: TestResponse, status: int = 401) -> None:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.fixture
def final_task(engine: sa.Engine) -> None:
    """Task "a" of user 1, final: its stream is whole at once, and the test client can read it."""
    insert(engine, "a", status="completed")


# The answer.


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize("path", [TASK, MINE])
def test_a_ticket_comes_as_a_url_that_is_created(client: FlaskClient, path: str) -> None:
    response = client.post(path, headers=bearer())

    assert (response.status_code, response.content_type) == (201, "application/json")
    assert list(response.get_json()) == ["url", "expires_at"]
    assert response.get_json()["url"] == response.headers["Location"]
    assert re.fullmatch(re.escape(path) + r"\?ticket=[A-Za-z0-9_.-]{20,}", response.get_json()["url"])
    assert response.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", response.get_json()["expires_at"])


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize("seconds", [30, 600, 3000, 10**9])
def test_a_ticket_never_outlives_its_token(client: FlaskClient, seconds: int) -> None:
    expires = int(time.time()) + seconds

    response = client.post(TASK, headers=bearer(exp=expires))

    told = dt.datetime.fromisoformat(response.get_json()["expires_at"]).timestamp()
    assert time.time() + min(seconds - 5, 60) < told <= expires
    assert told < time.time() + 24 * 3600


@pytest.mark.usefixtures("final_task")
def test_whoever_may_not_see_the_task_gets_no_ticket(client: FlaskClient) -> None:
    assert_refused(client.post(TASK, headers=bearer(2)), 403)
    assert_refused(client.post("/api/tasks/b/events", headers=bearer()), 404)
    assert client.post(TASK).headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("task_id", ["with spaces", "ünïcödé 任务", "100%", "what?&ticket=x#y", "o'\"<>"])
def test_the_url_opens_a_task_with_any_legal_id(client: FlaskClient, engine: sa.Engine, task_id: str) -> None:
    insert(engine, task_id, status="completed")

    url = client.post(f"/api/tasks/{quote(task_id, safe='')}/events", headers=bearer()).get_json()["url"]

    assert url.isascii()
    assert client.get(url).text.startswith("id: ")


# What a ticket opens.


@pytest.mark.usefixtures("final_task")
def test_a_ticket_opens_its_stream_any_number_of_times(client: FlaskClient) -> None:
    ticket = get_ticket(client)

    bodies = {client.get(f"{TASK}?ticket={ticket}").text for _ in range(5)}

    assert len(bodies) == 1
    assert bodies.pop().endswith('event: done\ndata: {"status": "completed"}\n\n')


def test_a_ticket_opens_a_live_stream(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    one, all_of_mine = (server.request("POST", path, 1).json["url"] for path in (TASK, MINE))

    streams = [server.stream(url, user=None) for url in (one, all_of_mine)]
    first = [stream.next().json["status"] for stream in streams]
    update(engine, "a", status="running")
    second = [stream.next().json["status"] for stream in streams]

    assert (first, second) == (["pending"] * 2, ["running"] * 2)


@pytest.mark.usefixtures("final_task")
def test_a_ticket_opens_nothing_but_its_own_stream(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "b", status="completed", learning_path_id=7)
    task, mine = get_ticket(client), get_ticket(client, MINE)

    for path in ("/api/tasks/b/events", MINE):
        assert_refused(client.get(f"{path}?ticket={task}"))
    for path in (TASK, "/api/tasks/b/events"):
        assert_refused(client.get(f"{path}?ticket={mine}"))
    for ticket in (task, mine):
        for path in ("/api/tasks/a/status", "/api/tasks/users/me", "/api/tasks/learning-paths/7"):
            for headers in ({}, {"Cookie": f"access_token_cookie={ticket}"}, {"Authorization": f"Bearer {ticket}"}):
                assert client.get(f"{path}?ticket={ticket}", headers=headers).status_code == 401
        for path in (TASK, MINE):
            assert client.post(f"{path}?ticket={ticket}").status_code == 401, "a ticket got another ticket"


@pytest.mark.usefixtures("final_task")
def test_an_administrators_ticket_opens_another_users_task(client: FlaskClient) -> None:
    ticket = get_ticket(client, user=2, is_admin=True)

    assert client.get(f"{TASK}?ticket={ticket}").status_code == 200


@pytest.mark.usefixtures("final_task")
def test_a_ticket_shows_no_task_that_has_changed_hands(client: FlaskClient, engine: sa.Engine) -> None:
    ticket = get_ticket(client)

    update(engine, "a", user_id=2)

    assert_refused(client.get(f"{TASK}?ticket={ticket}"), 403)


@pytest.mark.usefixtures("final_task")
def test_a_ticket_of_a_deleted_task_is_a_404(client: FlaskClient, engine: sa.Engine) -> None:
    ticket = get_ticket(client)

    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM user_tasks"))

    assert_refused(client.get(f"{TASK}?ticket={ticket}"), 404)


# How long.


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize("lifetime", [60, 10**6])
def test_a_ticket_opens_nothing_from_the_moment_it_expires(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, lifetime: int
) -> None:
    answer = client.post(TASK, headers=bearer(exp=int(time.time()) + lifetime)).get_json()
    expires = dt.datetime.fromisoformat(answer["expires_at"]).timestamp()

    monkeypatch.setattr(time, "time", lambda: expires - 1)
    before = client.get(answer["url"])
    monkeypatch.setattr(time, "time", lambda: expires + 1)
    after = client.get(answer["url"])

    assert before.status_code == 200
    assert_refused(after)


def test_a_stream_ends_with_its_ticket(server: Server, engine: sa.Engine) -> None:
    insert(engine, "a")
    expires = int(time.time()) + 3
    token = make_token(exp=expires)
    url = server.request("POST", TASK, Authorization=f"Bearer {token}").json["url"]

    events = server.stream(url, user=None).rest()

    assert time.time() < expires + 0.5
    assert events[-1].json == {"reason": "expired"}
    wait_until(lambda: time.time() > expires)
    assert server.get(url).status == 401


# Which credential counts.


@pytest.mark.usefixtures("final_task")
def test_a_bearer_token_beside_a_ticket_decides(client: FlaskClient) -> None:
    url = f"{TASK}?ticket={get_ticket(client)}"

    assert_refused(client.get(url, headers=bearer(2)), 403)
    assert_refused(client.get(url, headers={"Authorization": "bearer junk"}))
    assert client.get(f"{TASK}?ticket=junk", headers=bearer()).status_code == 200


@pytest.mark.usefixtures("final_task")
def test_a_proxys_password_beside_a_ticket_does_not_matter(client: FlaskClient) -> None:
    url = f"{TASK}?ticket={get_ticket(client)}"

    assert client.get(url, headers={"Authorization": "Basic dXNlcjpwYXNz"}).status_code == 200


@pytest.mark.usefixtures("final_task")
def test_a_bad_ticket_is_not_made_up_for_by_a_good_cookie(client: FlaskClient) -> None:
    client.set_cookie("access_token_cookie", make_token())

    assert client.get(TASK).status_code == 200
    assert_refused(client.get(f"{TASK}?ticket=junk"))


# Forged tickets.


def forged(payload: Any, key: str, salt: str = "taskapi stream ticket") -> str:
    return str(URLSafeSerializer(key, salt=salt).dumps(payload))


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize("position", range(0, 60, 4))
def test_a_ticket_with_one_character_changed_opens_nothing(client: FlaskClient, position: int) -> None:
    ticket = get_ticket(client)

    changed = ticket[:position] + ("A" if ticket[position] != "A" else "B") + ticket[position + 1 :]

    assert_refused(client.get(f"{TASK}?ticket={changed}"))


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize(
    "ticket",
    ["", " ", "junk", ".", "..", "a.b", "a.b.c", "é", "²", "\0", "\uffff", "%", "x" * 10_000, "." * 10_000, "[]",
     "null", ".eJw.x", "W10.W10", make_token(), f"Bearer {make_token()}", "' OR 1=1 --"],
)  # fmt: skip
def test_junk_for_a_ticket_is_a_401(client: FlaskClient, ticket: str) -> None:
    for path in (TASK, MINE):
        assert_refused(client.get(f"{path}?ticket={quote(ticket)}"))


@pytest.mark.usefixtures("final_task")
def test_bytes_that_are_no_text_for_a_ticket_are_a_401(client: FlaskClient) -> None:
    assert_refused(client.get(f"{TASK}?ticket=%FF%FE%80"))


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize("path", [TASK, MINE])
def test_a_ticket_signed_with_another_key_opens_nothing(client: FlaskClient, path: str) -> None:
    right = ["a" if path == TASK else "", 1, False, time.time() + 600]
    own = state_of(client.application).ticket_key

    for ticket in (forged(right, "x" * 43), forged(right, KEY), forged(right, own, salt="another purpose")):
        assert_refused(client.get(f"{path}?ticket={ticket}"))


def test_the_salt_is_what_a_right_ticket_is_signed_with(client: FlaskClient, engine: sa.Engine) -> None:
    insert(engine, "a", status="completed")

    ticket = forged(["a", 1, False, time.time() + 600], state_of(client.application).ticket_key)

    assert client.get(f"{TASK}?ticket={ticket}").status_code == 200  # or the test above would prove nothing


@pytest.fixture
def two_nodes(database_url: str, request: pytest.FixtureRequest) -> Iterator[list[Flask]]:
    settings = {"DATABASE_URL": database_url, "JWT_SECRET_KEY": KEY}
    apps = [create_app(settings | {"SECRET_KEY": key, "TESTING": True}) for key in request.param]
    yield apps
    for app in apps:
        state_of(app).store.close()


@pytest.mark.usefixtures("final_task")
@pytest.mark.parametrize(
    ("two_nodes", "status"),
    [(("k" * 32, "k" * 32), 200), ((None, None), 200), (("k" * 32, "j" * 32), 401)],
    indirect=["two_nodes"],
)
def test_a_ticket_of_one_node_opens_the_stream_on_another_with_the_same_key(
    two_nodes: list[Flask], status: int
) -> None:
    here, there = (app.test_client() for app in two_nodes)

    response = there.get(f"{TASK}?ticket={get_ticket(here)}")

    assert response.status_code == status


def test_no_log_line_holds_a_ticket_or_a_token(start_server: Callable[..., Server], engine: sa.Engine) -> None:
    server = start_server("--access-logfile", "-", "--log-level", "debug")
    insert(engine, "a", status="completed")
    url = server.request("POST", TASK, 1).json["url"]
    ticket = parse_qs(urlsplit(url).query)["ticket"][0]

    answers = [server.get(path) for path in (url, f"{MINE}?ticket={ticket}", f"{TASK}?ticket={ticket}junk")]
    wait_until(lambda: f'"GET {MINE} ' in server.log.read_text())

    assert [answer.status for answer in answers] == [200, 401, 401]
    assert ticket not in server.log.read_text()
    assert "eyJ" not in server.log.read_text()
