"""In applications that exist already: their tokens, their sessions, their people."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, abort, render_template_string
from flask.testing import FlaskClient
from flask_jwt_extended import JWTManager, create_access_token, current_user, verify_jwt_in_request
from flask_sqlalchemy import SQLAlchemy
from harness import insert, update

pytest.importorskip("flask_login", reason="a host of the tests needs the package flask-login")
pytest.importorskip("flask_wtf", reason="a host of the tests needs the package flask-wtf")

from flask_wtf import CSRFProtect
from hosts import board, conduit
from hosts.life import alive, move, sign_in, state_of_host, with_driver

from taskapi import Identity, TaskAPI

ENDPOINTS = ("/api/tasks/a/status", "/api/tasks/users/me", "/api/tasks/learning-paths/456", "/api/tasks/a/events")
ADA, BOB, CLEO = 1, 2, 3


# A JSON API with Flask-JWT-Extended of its own.


@pytest.fixture
def api(database_url: str, engine: sa.Engine) -> Iterator[FlaskClient]:
    """A client of the JSON API, in which Ada has a task that has ended."""
    with alive(conduit, database_url) as app:
        insert(engine, "a", ADA, learning_path_id=456, status="completed", progress=100)
        yield app.test_client()


def token_of(client: FlaskClient, name: str) -> dict[str, str]:
    """Sign in; the header of its kind."""
    return {"Authorization": f"Token {client.post('/users/login', json={'name': name}).get_json()['token']}"}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_hosts_own_token_opens_it(api: FlaskClient, path: str) -> None:
    answer = api.get(path, headers=token_of(api, "ada"))

    assert (answer.status_code, b'"task_id":"a"' in answer.data) == (200, True)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_revoked_token_is_nobodys_at_once(api: FlaskClient, path: str) -> None:
    token = token_of(api, "ada")
    assert api.get(path, headers=token).status_code == 200

    api.post("/users/logout", headers=token)

    answer = api.get(path, headers=token)
    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_whom_the_host_knows_no_more_is_nobody(api: FlaskClient, path: str) -> None:
    token = token_of(api, "ada")
    with api.application.app_context():
        conduit.db.session.delete(conduit.db.session.get(conduit.User, ADA))
        conduit.db.session.commit()

    assert api.get(path, headers=token).status_code == 401


@pytest.mark.parametrize("path", ENDPOINTS)
def test_of_another_header_type_a_token_is_none(api: FlaskClient, path: str) -> None:
    token = token_of(api, "ada")["Authorization"].removeprefix("Token ")

    for header in ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": "Token forged"}):
        assert api.get(path, headers=header).status_code == 401


def test_somebody_elses_is_a_403_and_the_claim_that_the_host_names_makes_an_administrator(api: FlaskClient) -> None:
    statuses = {
        name: [api.get(path, headers=token_of(api, name)).status_code for path in (ENDPOINTS[0], *ENDPOINTS[2:])]
        for name in ("bob", "cleo")
    }

    assert statuses == {"bob": [403, 403, 403], "cleo": [200, 200, 200]}


def test_a_ticket_for_the_hosts_token_opens_the_stream_to_nobody_in_particular(api: FlaskClient) -> None:
    ticket = api.post("/api/tasks/a/events", headers=token_of(api, "ada"))

    assert ticket.status_code == 201
    assert b"event: done" in api.get(ticket.get_json()["url"]).data


def test_a_token_of_the_hosts_kind_counts_before_a_ticket(api: FlaskClient) -> None:
    token = token_of(api, "ada")

    assert api.get("/api/tasks/a/events?ticket=forged", headers=token).status_code == 200
    assert api.get("/api/tasks/a/events?ticket=forged", headers={"Authorization": "Basic QTpC"}).status_code == 401
    assert api.get("/api/tasks/a/events?ticket=forged").status_code == 401


def test_the_hosts_own_loaders_answer_on_its_own_routes(api: FlaskClient) -> None:
    answer = api.get("/user")

    assert (answer.status_code, list(answer.get_json())) == (418, ["errors"])
    assert api.get("/user", headers=token_of(api, "ada")).get_json() == {"user": {"id": ADA, "name": "ada"}}


def by_name() -> Identity:
    """An application's own rule over its own tokens."""
    verify_jwt_in_request()
    return Identity(current_user.id)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_rule_of_the_hosts_may_read_its_tokens_and_what_they_lack_is_a_401(
    api: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(conduit.tasks_api.rules, "identity", by_name)
    token, revoked = token_of(api, "ada"), token_of(api, "ada")
    api.post("/users/logout", headers=revoked)

    headers = [token, revoked, {}, {"Authorization": "Token forged"}, {"Authorization": "Bearer"}]
    answers = [api.get(path, headers=header) for header in headers]

    assert [answer.status_code for answer in answers] == [200, 401, 401, 401, 401]
    assert {answer.content_type for answer in answers[1:]} == {"application/problem+json"}
    assert {answer.headers["WWW-Authenticate"].split()[0] for answer in answers[1:]} == {"Bearer"}


@pytest.mark.parametrize(("path", "told"), [("/tasks/7/status", "todo"), ("/events/", "events"), ("/", "pages")])
def test_blueprints_may_be_named_as_ours_are(api: FlaskClient, path: str, told: str) -> None:
    assert list(api.get(path).get_json()) == [told]


# Pages, and a session.


@pytest.fixture
def site(database_url: str, engine: sa.Engine) -> Iterator[Flask]:
    """The board, in which Ada has a task that has ended."""
    with alive(board, database_url) as app:
        insert(engine, "a", ADA, learning_path_id=456, status="completed", progress=100)
        yield app


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_session_is_enough(site: Flask, path: str) -> None:
    answer = sign_in(site.test_client(), ADA).get(path)

    assert (answer.status_code, b'"task_id":"a"' in answer.data) == (200, True)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_who_has_not_signed_in_is_told_so(site: Flask, path: str) -> None:
    answer = site.test_client().get(path)

    assert (answer.status_code, answer.content_type) == (401, "application/problem+json")
    assert answer.get_json()["detail"] == "Please sign in."


def test_who_has_signed_out_is_nobody_at_once(site: Flask) -> None:
    client = sign_in(site.test_client(), ADA)
    with client.session_transaction() as session:
        session.clear()

    assert [client.get(path).status_code for path in ENDPOINTS] == [401, 401, 401, 401]


@pytest.mark.parametrize(("user", "expected"), [(BOB, 200), (CLEO, 403)], ids=["team member", "stranger"])
def test_of_others_those_may_see_a_task_whom_the_host_lets(site: Flask, user: int, expected: int) -> None:
    client = sign_in(site.test_client(), user)

    assert [client.get(path).status_code for path in (ENDPOINTS[0], *ENDPOINTS[2:])] == [expected] * 3
    assert client.get("/api/tasks/a/forecast").status_code == expected
    ticket = client.post("/api/tasks/a/events")
    assert ticket.status_code == (201 if expected == 200 else 403)


def test_a_list_is_the_callers_own_whatever_else_may_be_seen(site: Flask) -> None:
    client = sign_in(site.test_client(), BOB)

    assert client.get("/api/tasks/users/me").get_json() == []
    assert [client.get(path).status_code for path in ("/api/tasks", "/api/tasks/summary")] == [403, 403]


def test_who_has_left_the_team_is_refused_at_the_next_request_whatever_it_is(site: Flask, engine: sa.Engine) -> None:
    client = sign_in(site.test_client(), BOB)
    update(engine, "a", status="completed")
    ticket: Any = client.post("/api/tasks/a/events").get_json()
    assert client.get(ticket["url"]).status_code == 200

    move(site, board, BOB, "blue")

    again = [client.get(path).status_code for path in (ENDPOINTS[0], *ENDPOINTS[2:], ticket["url"])]
    assert [*again, client.post("/api/tasks/a/events").status_code] == [403] * 5


def test_protection_against_forgery_lets_a_ticket_be_asked_for_and_guards_the_hosts_forms(site: Flask) -> None:
    client = sign_in(site.test_client(), ADA)

    assert client.post("/api/tasks/a/events").status_code == 201
    assert client.post("/api/tasks/users/me/events").status_code == 201
    assert client.post("/logout").status_code == 400


@pytest.mark.parametrize("path", ["/nothing/status", "/nothing/forecast", "/nothing", "/static/nothing.js", "/"])
def test_below_the_prefix_what_is_not_there_is_a_problem(site: Flask, path: str) -> None:
    answer = sign_in(site.test_client(), ADA).get(f"/api/tasks{path}")

    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_below_the_prefix_what_may_not_be_done_is_a_problem(site: Flask) -> None:
    for path in ("/api/tasks/a/status", "/api/tasks/static/task-progress.js", "/api/tasks"):
        answer = site.test_client().delete(path)
        assert (answer.status_code, answer.content_type) == (405, "application/problem+json")


@pytest.mark.parametrize("path", ["/api/nothing", "/api/tasksandmore", "/nothing"])
def test_beside_the_prefix_what_is_not_there_is_the_hosts_business(site: Flask, path: str) -> None:
    answer = site.test_client().get(path)

    assert answer.status_code == 404
    assert "The board is sorry" in answer.text


def test_whose_credential_is_over_is_nobody(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board.tasks.rules, "identity", lambda: Identity(ADA, expires_at=time.time() - 1))

    assert [site.test_client().get(path).status_code for path in ENDPOINTS] == [401] * 4


def test_a_ticket_lives_no_longer_than_the_credential(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    expires_at = int(time.time()) + 60
    monkeypatch.setattr(board.tasks.rules, "identity", lambda: Identity(ADA, expires_at=expires_at))

    ticket: Any = site.test_client().post("/api/tasks/a/events").get_json()

    assert dt.datetime.fromisoformat(ticket["expires_at"]).timestamp() == expires_at


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_it_does_not_matter_which_extension_is_bound_first(
    database_url: str, engine: sa.Engine, *, is_first: bool
) -> None:
    insert(engine, "a", ADA)
    app, db, manager, protection = Flask("host"), SQLAlchemy(), JWTManager(), CSRFProtect()
    app.config.update(SQLALCHEMY_DATABASE_URI=with_driver(database_url), JWT_SECRET_KEY="x" * 32, SECRET_KEY="y")
    app.config.update(TESTING=True)
    bound = [db.init_app, manager.init_app, protection.init_app]
    bound.insert(0 if is_first else 3, TaskAPI(db=db).init_app)

    for bind in bound:
        bind(app)

    with app.app_context():
        header = {"Authorization": f"Bearer {create_access_token(str(ADA))}"}
    assert app.test_client().get("/api/tasks/a/status", headers=header).status_code == 200
    assert app.test_client().post("/api/tasks/a/events", headers=header).status_code == 201
    state_of_host(app).close()
    with app.app_context():
        db.engine.dispose()


def test_a_rule_may_refuse_as_views_do(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board.tasks.rules, "identity", lambda: abort(401))

    answer = site.test_client().get("/api/tasks/users/me")

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_a_wall_around_everything_leaves_the_modules_to_whoever_asks(database_url: str) -> None:
    with alive(board, database_url, WALL_AROUND_TASKS=True) as app:
        client = app.test_client()
        module = client.get("/api/tasks/static/task-progress.js", buffered=True)

        assert (module.status_code, module.mimetype) == (200, "text/javascript")
        assert module.headers["X-Board"] == "1"
        assert client.get("/api/tasks/static/nothing.js").status_code == 404
        assert client.get("/api/tasks/a/status").status_code == 302


def test_a_template_writes_the_buttons_that_it_asks_for(site: Flask) -> None:
    with site.test_request_context():
        plain, both = (
            render_template_string("{{ task_progress('a', label='A', cancel=wanted, notify=wanted) }}", wanted=wanted)
            for wanted in (False, True)
        )

    assert plain.endswith('<task-progress src="/api/tasks/a" label="A"></task-progress>')
    assert both.endswith('<task-progress src="/api/tasks/a" label="A" cancel notify></task-progress>')


def test_modules_are_asked_for_again_however_long_the_hosts_files_are_kept(database_url: str) -> None:
    with alive(board, database_url, SEND_FILE_MAX_AGE_DEFAULT=31_536_000) as app:
        answers = [
            app.test_client().get(path, buffered=True)
            for path in ("/static/style.css", "/api/tasks/static/task-progress.js")
        ]

    kept = [answer.headers["Cache-Control"] for answer in answers]
    assert kept == ["public, max-age=31536000", "no-cache, max-age=0"]


@pytest.mark.parametrize("user_id", [1, "1"], ids=["integer", "text"])
def test_a_user_id_is_an_integer_or_one_written_as_a_text(
    site: Flask, monkeypatch: pytest.MonkeyPatch, user_id: Any
) -> None:
    monkeypatch.setattr(board.tasks.rules, "identity", lambda: Identity(user_id))
    monkeypatch.setattr(board.tasks.rules, "may_see", None)
    client = site.test_client()

    assert [client.get(path).status_code for path in ENDPOINTS] == [200] * 4
    assert client.get(client.post("/api/tasks/a/events").headers["Location"]).status_code == 200


@pytest.mark.parametrize("found", [Identity("ada"), Identity(None), Identity(True), Identity("01"), 1, "1"])  # type: ignore[arg-type]
def test_what_is_no_user_id_is_said_in_the_log(
    site: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, found: Any
) -> None:
    monkeypatch.setattr(board.tasks.rules, "identity", lambda: found)

    assert [site.test_client().get(path).status_code for path in ENDPOINTS] == [500] * 4
    wanted = "a user id must be an integer" if isinstance(found, Identity) else "must return an Identity or None"
    assert wanted in caplog.text


@pytest.mark.parametrize("trouble", [RuntimeError("the host's own trouble"), ValueError("odd")])
def test_an_identity_that_cannot_be_told_is_a_problem_without_details(
    site: Flask, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def broken() -> None:
        raise trouble

    monkeypatch.setattr(board.tasks.rules, "identity", broken)

    answer = site.test_client().get("/api/tasks/users/me")

    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert str(trouble) not in answer.text


# Pages of other origins.


def test_origins_that_may_call_the_api_may_call_nothing_else_of_the_host(database_url: str) -> None:
    origin = {"Origin": "https://app.example.com"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Authorization"}
    with alive(conduit, database_url, TASKAPI_CORS_ORIGINS=["https://app.example.com"]) as app:
        client = app.test_client()
        token = token_of(client, "ada")
        answers = [
            client.options("/api/tasks/a/events", headers={**origin, **asked}),
            client.get("/api/tasks/users/me", headers={**origin, **token}),
            client.get("/api/tasks/users/me", headers=origin),
            client.get("/api/tasks/static/task-progress.js", headers=origin, buffered=True),
            client.get("/api/tasks/users/me", headers={**token, "Origin": "https://elsewhere.example.com"}),
            client.options("/user", headers={**origin, **asked}),
            client.get("/user", headers={**origin, **token}),
        ]

    allowed = [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]
    assert allowed == ["https://app.example.com"] * 4 + [None] * 3
    assert answers[0].headers["Access-Control-Allow-Headers"] == "Authorization"
    assert "ETag" in answers[1].headers["Access-Control-Expose-Headers"]


# The cookie of Flask-JWT-Extended.


def test_the_hosts_jwt_cookie_opens_everything_without_a_ticket(database_url: str, engine: sa.Engine) -> None:
    with alive(conduit, database_url, JWT_TOKEN_LOCATION=["headers", "cookies"]) as app:
        insert(engine, "a", ADA, learning_path_id=456, status="completed", progress=100)
        client = app.test_client()
        client.set_cookie("access_token_cookie", token_of(client, "ada")["Authorization"].removeprefix("Token "))

        assert [client.get(path).status_code for path in ENDPOINTS] == [200] * 4
