"""The streams and their tickets."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from flask import Blueprint, Response, request, url_for

from ..auth import tickets
from ..auth.access import current_identity, stream_identity, visible_task
from ..auth.identity import Identity
from ..auth.tickets import ALL_TASKS
from ..errors import UnavailableError
from ..state import behind, current
from ..stream import sse
from ..stream.frames import come_back, ending, farewell
from ..stream.sse import Frame
from ..stream.streams import Stream, Terms
from .answers import Answer

bp = Blueprint("events", __name__)

HEADERS = [("Cache-Control", "no-cache, no-transform"), ("X-Accel-Buffering", "no")]
# What a cursor is called in a query, where a client cannot send the header.
CURSOR_NAMES = ("last_event_id", "lastEventId")


@bp.get("/<task_id>/events")
def task_events(task_id: str) -> Response:
    """One task, until it is final."""
    identity = stream_identity(task_id)
    if request.method == "HEAD":
        visible_task(task_id, identity)
        return _whole(Frame(b"", b""))
    cursor = _cursor()
    with _open_stream(identity, cursor) as (stream, refusal):
        if stream is None:
            return _whole(farewell(refusal))
        task = visible_task(task_id, identity)
        if not task.status.is_final:
            current().broadcaster.follow_task(stream, task)
            return _streamed(stream)
        current().broadcaster.leave(stream)
        return _no_more() if cursor == task.revision else _whole(ending(task, is_admin=identity.is_admin))


@bp.get("/users/me/events")
def my_events() -> Response:
    """All of the caller's tasks, new ones included."""
    identity = stream_identity(ALL_TASKS)
    if request.method == "HEAD":
        return _whole(Frame(b"", b""))
    cursor = _cursor()
    with _open_stream(identity, cursor) as (stream, refusal):
        if stream is None:
            return _whole(farewell(refusal))
        current().broadcaster.follow_user(stream, identity.user_id, cursor)
        return _streamed(stream)


@bp.post("/<task_id>/events")
def task_ticket(task_id: str) -> Response:
    """A ticket for the task's stream."""
    identity = current_identity()
    visible_task(task_id, identity)
    return _created(identity, task_id, ".task_events", task_id=task_id)


@bp.post("/users/me/events")
def my_ticket() -> Response:
    """A ticket for the stream of all of the caller's tasks."""
    return _created(current_identity(), ALL_TASKS, ".my_events")


@bp.after_request
def _let_come_back(response: Response) -> Response:
    """To an `EventSource` a 503 is final: while the database does not answer, it is asked to come back instead."""
    is_outage = response.status_code == UnavailableError.status and request.method == "GET"
    return _whole(come_back()) if is_outage and sse.CONTENT_TYPE in request.headers.get("Accept", "") else response


def _cursor() -> int | None:
    asked = behind(request)
    given = asked.environ.get("HTTP_LAST_EVENT_ID")
    if given is None and asked.query_string:
        given = next((asked.args[name] for name in CURSOR_NAMES if name in asked.args), None)
    return sse.cursor(given)


@contextmanager
def _open_stream(identity: Identity, cursor: int | None) -> Iterator[tuple[Stream | None, str]]:
    """A stream with a place of its own, or why there is none; the place is given back if anything goes wrong.

    A cap is a 200 since at a 503 a browser gives up for good.
    """
    broadcaster = current().broadcaster
    # Spread, so that streams which were opened together do not all come back together.
    seconds = current().settings["STREAM_MAX_AGE"] * random.uniform(0.9, 1.0)  # noqa: S311
    reason = "max_age"
    if identity.expires_at is not None and identity.expires_at - time.time() < seconds:
        seconds, reason = identity.expires_at - time.time(), "expired"
    terms = Terms(identity.user_id, identity.is_admin, cursor, broadcaster.deadline(seconds), reason)
    opened = broadcaster.open_stream(request.environ, terms)
    if isinstance(opened, str):
        yield None, opened
        return
    try:
        yield opened, ""
    except BaseException:
        broadcaster.leave(opened)
        raise


def _no_more() -> Response:
    """The answer that makes an `EventSource` stop for good (HTML standard, 9.2.3)."""
    return Answer(status=204, headers=HEADERS)


def _whole(frame: Frame) -> Response:
    return Response(frame.raw, headers=HEADERS, content_type=sse.CONTENT_TYPE)


def _streamed(stream: Stream) -> Response:
    return Answer(stream, headers=[*HEADERS, ("Content-Type", sse.CONTENT_TYPE)])  # type: ignore[arg-type]


def _created(identity: Identity, stream: str, endpoint: str, **names: Any) -> Response:
    ticket = tickets.issue(current().ticket_key, stream, identity)
    url = url_for(endpoint, **names, ticket=ticket.text)
    expires_at = dt.datetime.fromtimestamp(int(ticket.expires_at), dt.UTC)
    body = orjson.dumps({"url": url, "expires_at": expires_at}, option=orjson.OPT_UTC_Z)
    headers = {"Location": url, "Cache-Control": "no-store"}
    return Response(body, 201, headers, content_type="application/json")
