"""How an error becomes a problem (RFC 9457), whatever raised it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from taskapi import errors
from taskapi.database.connections import dialect_of

SECRET = "SELECT password FROM users -- hunter2"


@pytest.fixture
def client() -> FlaskClient:
    """A client of an application of which every route goes wrong in its own way."""
    app = Flask(__name__)
    url = make_url(f"postgresql+psycopg://me:{SECRET}@127.0.0.1/taskapi")
    errors.handle(app, lambda error: dialect_of(url).explain(url, error))
    raised = {
        "bad": errors.BadParameterError("skip must be a number."),
        "unauthorized": errors.UnauthorizedError("This needs a token."),
        "invalid": errors.UnauthorizedError("It has expired.", error="invalid_token"),
        "forbidden": errors.ForbiddenError("Not yours."),
        "missing": errors.NotFoundError("There is none."),
        "unavailable": errors.UnavailableError("Not now."),
        "operational": OperationalError(SECRET, {"x": SECRET}, Exception(SECRET)),
        "integrity": IntegrityError(SECRET, {"x": SECRET}, Exception(SECRET)),
        "value": ValueError(SECRET),
        "recursion": RecursionError(SECRET),
    }

    @app.get("/raise/<name>")
    def fail(name: str) -> str:
        raise raised[name]

    @app.get("/abort/<int:status>")
    def give_up(status: int) -> str:
        abort(status)

    return app.test_client()


@pytest.mark.parametrize(
    ("name", "status", "title", "detail", "headers"),
    [
        ("bad", 400, "Bad Request", "skip must be a number.", {}),
        ("unauthorized", 401, "Unauthorized", "This needs a token.", {"WWW-Authenticate": "Bearer"}),
        (
            "invalid",
            401,
            "Unauthorized",
            "It has expired.",
            {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="It has expired."'},
        ),
        ("forbidden", 403, "Forbidden", "Not yours.", {}),
        ("missing", 404, "Not Found", "There is none.", {}),
        ("unavailable", 503, "Service Unavailable", "Not now.", {"Retry-After": "5"}),
    ],
)
def test_an_expected_error_says_what_it_is(
    client: FlaskClient, name: str, status: int, title: str, detail: str, headers: dict[str, str]
) -> None:
    response = client.get(f"/raise/{name}")

    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert response.json == {"type": "about:blank", "title": title, "status": status, "detail": detail}
    assert response.headers["Cache-Control"] == "no-store"
    assert {header: response.headers[header] for header in headers} == headers


@pytest.mark.parametrize("name", ["operational", "integrity"])
def test_a_databases_error_is_a_503_whose_text_stays_out_of_answer_and_log(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    response = client.get(f"/raise/{name}")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert SECRET not in response.text
    assert "does not answer" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("name", ["value", "recursion", "a KeyError"])
def test_an_unexpected_error_is_logged_and_not_shown(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.ERROR):
        response = client.get(f"/raise/{name}")

    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert response.get_json()["title"] == "Internal Server Error"
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("status", [400, 404, 405, 406, 413, 415, 418, 429, 500, 501, 503, 504])
def test_an_error_of_flasks_own_is_a_problem(client: FlaskClient, status: int) -> None:
    response = client.get(f"/abort/{status}")

    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert response.get_json()["status"] == status
    assert response.get_json()["title"]
    assert "<" not in response.text


def test_a_wrong_method_keeps_the_header_that_names_the_right_ones(client: FlaskClient) -> None:
    response = client.post("/raise/bad")

    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert response.headers.getlist("Content-Type") == ["application/problem+json"]


def test_every_error_of_ours_is_one_family() -> None:
    def leaves(kind: type[Any]) -> set[type[Any]]:
        return {kind}.union(*(leaves(child) for child in kind.__subclasses__()))

    family = leaves(errors.TaskApiError)

    assert {kind.__name__: int(kind.status) for kind in family} == {
        "TaskApiError": 500,
        "BadParameterError": 400,
        "UnauthorizedError": 401,
        "ForbiddenError": 403,
        "NotFoundError": 404,
        "ConflictError": 409,
        "UnavailableError": 503,
    }
