"""Tickets: signed texts that open one stream each, for browsers whose `EventSource` can send no header."""

from __future__ import annotations

import time
from typing import NamedTuple

from flask import current_app, request
from itsdangerous import BadSignature, URLSafeSerializer

from ..errors import invalid_token
from .identity import Identity

# A ticket lives in a URL, which browsers and proxies remember: it outlives some reconnects, not a working day.
TICKET_SECONDS = 3600.0
# The stream of all of a user's tasks, where a ticket names a task.
ALL_TASKS = ""


class Ticket(NamedTuple):
    """A signed text that opens one stream, and when it expires (Unix time)."""

    text: str
    expires_at: float


def has_bearer() -> bool:
    """Whether the header offers a token of the application's kind, rather than nothing or other credentials."""
    kind = request.headers.get("Authorization", "").partition(" ")[0].lower()
    return kind != "" and kind in ("bearer", current_app.config.get("JWT_HEADER_TYPE", "").lower())


def issue(key: str, stream: str, identity: Identity) -> Ticket:
    """A ticket for one stream (a task id, or `ALL_TASKS`): what the caller's credential could open, in a URL."""
    expires_at = time.time() + TICKET_SECONDS
    if identity.expires_at is not None:
        expires_at = min(expires_at, identity.expires_at)
    return Ticket(str(_signer(key).dumps([stream, identity.user_id, identity.is_admin, expires_at])), expires_at)


def holder(key: str, stream: str, text: str) -> Identity:
    """Whom a ticket for this stream was issued to. Raises `UnauthorizedError`."""
    try:
        opens, user_id, is_admin, expires_at = _signer(key).loads(text)
    except (BadSignature, TypeError, ValueError):
        raise invalid_token("The ticket is not valid.") from None
    if opens != stream or expires_at <= time.time():
        raise invalid_token("The ticket has expired or is for another stream.")
    return Identity(user_id, is_admin, expires_at)


def _signer(key: str) -> URLSafeSerializer:
    return URLSafeSerializer(key, salt="taskapi stream ticket")
