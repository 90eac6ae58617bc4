"""The error family, and the one place that turns an error into `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

import orjson
from flask import Blueprint, Flask, Response
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, default_exceptions

from .database.failures import DatabaseError

log = logging.getLogger(__name__)


class TaskApiError(Exception):
    """The root: an answer that is not the one asked for. `detail` is shown to the client."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadParameterError(TaskApiError):
    """A query parameter or header has a value that nothing can be done with."""

    status = HTTPStatus.BAD_REQUEST


class UnauthorizedError(TaskApiError):
    """Nobody, or nobody that can be believed, is asking (RFC 6750, section 3)."""

    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, detail: str, *, error: str | None = None) -> None:
        super().__init__(detail)
        # No error code where no token came: there is nothing wrong with it yet.
        challenge = f'Bearer error="{error}", error_description="{detail}"' if error else "Bearer"
        self.headers = {"WWW-Authenticate": challenge}


def invalid_token(detail: str) -> UnauthorizedError:
    """The error for credentials that came and do not hold."""
    return UnauthorizedError(detail, error="invalid_token")


class ForbiddenError(TaskApiError):
    """The task is somebody else's."""

    status = HTTPStatus.FORBIDDEN


class NotFoundError(TaskApiError):
    """There is no such task."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(TaskApiError):
    """The task is not in a state in which that can be done."""

    status = HTTPStatus.CONFLICT


class UnavailableError(TaskApiError):
    """Something that the service needs does not work now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: Mapping[str, str] = {"Retry-After": "5"}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error's response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = Response(orjson.dumps(body), status, headers, content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    return response


def handle(app: Flask | Blueprint, explain: Callable[[Exception], str]) -> None:
    """Answer every error of an application, or of a blueprint's views, with a problem.

    `explain` says of a database's error what the operator should know.
    """

    def database(error: Exception) -> Response:
        # Not the error's own text, which may hold the statement and its values.
        log.error("the database does not answer: %s", explain(error))
        return _expected(UnavailableError("The database does not answer. Try again soon."))

    app.register_error_handler(TaskApiError, _expected)
    app.register_error_handler(HTTPException, http)
    for code in default_exceptions:  # an application's handler of a code would come before a blueprint's of them all
        app.register_error_handler(code, http)
    app.register_error_handler(DatabaseError, database)
    app.register_error_handler(SQLAlchemyError, database)  # of an application's rules, and its session
    app.register_error_handler(Exception, _unexpected)


def _expected(error: TaskApiError) -> Response:
    return problem(error.status, error.detail, error.headers)


def http(error: HTTPException) -> Response:
    """The problem for an error of Werkzeug's or Flask's."""
    kept = {name: value for name, value in error.get_headers() if name not in ("Content-Type", "Content-Length")}
    return problem(error.code or 500, error.description or "", kept)


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(500, "Something went wrong here. It has been logged.")
