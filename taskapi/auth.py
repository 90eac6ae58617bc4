"""Who is asking, may they see this task, and the tickets that open streams. Knows no response."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from flask import current_app, request
from flask_jwt_extended.exceptions import JWTExtendedException, NoAuthorizationError
from itsdangerous import BadSignature, URLSafeSerializer
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from .errors import ForbiddenError, NotFoundError, UnauthorizedError
from .extensions import store, tokens
from .models import BIGINT_MAX, TASK_ID_LENGTH, Snapshot
from .tokens import has_bearer

# A ticket lives in a URL, which browsers and proxies remember: it outlives some reconnects, not a working day.
TICKET_SECONDS = 3600.0
# The stream of all of a user's tasks, where a ticket names a task.
ALL_TASKS = ""
# 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write.
LAST_MOMENT = 253_402_300_799

_USER_ID = re.compile(r"0|[1-9][0-9]{0,18}")


class Caller(NamedTuple):
    """Who is asking: the token's `sub`, whether it makes an administrator, and when it expires (Unix time)."""

    user_id: int
    is_admin: bool
    expires_at: float


class Ticket(NamedTuple):
    """A signed text that opens one stream, and when it expires (Unix time)."""

    text: str
    expires_at: float


def current_caller() -> Caller:
    """Whoever sent this request, by bearer token or JWT cookie.

    Raises `UnauthorizedError` for a missing, malformed, expired, not-yet-valid or forged token.
    """
    return _caller(_verified_claims())


def _verified_claims() -> Mapping[str, Any]:
    try:
        claims = tokens.claims()
    except NoAuthorizationError:
        claims = None
    except ExpiredSignatureError:
        raise _invalid("The token has expired.") from None
    except (PyJWTError, JWTExtendedException, ArithmeticError, LookupError, TypeError, ValueError):
        # The last four: claims of a kind that the libraries did not reckon with.
        raise _invalid("The token is not valid.") from None
    if claims is None:
        raise UnauthorizedError("This needs a bearer token.")
    return claims


def _caller(claims: Mapping[str, Any]) -> Caller:
    expires_at: Any = claims.get("exp")
    subject = claims.get("sub")
    if type(expires_at) not in (int, float) or not 0 < expires_at <= LAST_MOMENT:
        raise _invalid("The token does not say when it expires.")
    if not isinstance(subject, str) or not _USER_ID.fullmatch(subject) or int(subject) > BIGINT_MAX:
        raise _invalid("The token does not name a user.")
    return Caller(int(subject), claims.get(current_app.config["ADMIN_CLAIM"]) is True, expires_at)


def _invalid(detail: str) -> UnauthorizedError:
    return UnauthorizedError(detail, error="invalid_token")


def visible_task(task_id: str, caller: Caller) -> Snapshot:
    """Fetch a task that the caller may see. Raises `NotFoundError` or `ForbiddenError`."""
    possible = len(task_id) <= TASK_ID_LENGTH and "\0" not in task_id
    return permitted(store.task(task_id) if possible else None, caller)


def permitted(task: Snapshot | None, caller: Caller) -> Snapshot:
    """The task, if there is one and the caller owns it or is an administrator.

    Raises `NotFoundError` or `ForbiddenError`.
    """
    if task is None:
        raise NotFoundError("There is no such task.")
    if task.user_id != caller.user_id and not caller.is_admin:
        raise ForbiddenError("This task belongs to somebody else.")
    return task


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["TICKET_KEY"], salt="taskapi stream ticket")


def issue_ticket(stream: str, caller: Caller) -> Ticket:
    """A ticket for one stream (a task id, or `ALL_TASKS`): what the caller's token could open, in a URL."""
    expires_at = min(caller.expires_at, time.time() + TICKET_SECONDS)
    text = _signer().dumps([stream, caller.user_id, caller.is_admin, expires_at])
    return Ticket(str(text), expires_at)


def stream_caller(stream: str) -> Caller:
    """Whoever opens this stream: by header, else by ticket, else by cookie. Raises `UnauthorizedError`."""
    ticket = request.args.get("ticket")
    if ticket is None or has_bearer():
        return current_caller()
    try:
        opens, user_id, is_admin, expires_at = _signer().loads(ticket)
    except (BadSignature, TypeError, ValueError):
        raise _invalid("The ticket is not valid.") from None
    if opens != stream or expires_at <= time.time():
        raise _invalid("The ticket has expired or is for another stream.")
    return Caller(user_id, is_admin, expires_at)
