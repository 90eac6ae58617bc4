"""The streams and their tickets. Knows neither SQL nor sockets."""

from __future__ import annotations

import datetime as dt
import random
import time

import orjson
from flask import Blueprint, Response, current_app, request, url_for

from ..auth import ALL_TASKS, Caller, Ticket, current_caller, issue_ticket, stream_caller, visible_task
from ..extensions import broadcaster
from ..stream import sse
from ..stream.hub import Stream, ending, farewell
from ..stream.sse import Frame

bp = Blueprint("events", __name__, url_prefix="/api/tasks")

HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


@bp.get("/<task_id>/events")
def task_events(task_id: str) -> Response:
    """One task, until it is final."""
    caller = stream_caller(task_id)
    task = visible_task(task_id, caller)
    cursor = _cursor()
    if task.status.is_final:
        seen = cursor is not None and cursor >= task.revision
        return _no_more() if seen else _whole(ending(task))
    if (refusal := _refusal(caller)) is not None:
        return refusal
    stream = _open_stream(caller, cursor)
    broadcaster.follow_task(stream, task)
    return _streamed(stream)


@bp.get("/users/me/events")
def my_events() -> Response:
    """All of the caller's tasks, new ones included."""
    caller = stream_caller(ALL_TASKS)
    if (refusal := _refusal(caller)) is not None:
        return refusal
    cursor = _cursor()
    stream = _open_stream(caller, cursor)
    broadcaster.follow_user(stream, caller.user_id, cursor)
    return _streamed(stream)


@bp.post("/<task_id>/events")
def task_ticket(task_id: str) -> Response:
    """A ticket for the task's stream."""
    caller = current_caller()
    visible_task(task_id, caller)
    return _created(url_for("events.task_events", task_id=task_id), issue_ticket(task_id, caller))


@bp.post("/users/me/events")
def my_ticket() -> Response:
    """A ticket for the stream of all of the caller's tasks."""
    return _created(url_for("events.my_events"), issue_ticket(ALL_TASKS, current_caller()))


def _cursor() -> int | None:
    names = ("last_event_id", "lastEventId")
    query = next((request.args[name] for name in names if name in request.args), None)
    return sse.cursor(request.headers.get("Last-Event-ID", query))


def _refusal(caller: Caller) -> Response | None:
    """Why there is nothing to stream: a HEAD; or a cap, as a 200 since at a 503 a browser gives up for good."""
    if request.method == "HEAD":
        return _whole(Frame(b"", b""))
    reason = broadcaster.hub.refusal(caller.user_id)
    return _whole(farewell(reason)) if reason else None


def _open_stream(caller: Caller, cursor: int | None) -> Stream:
    # Spread, so that streams which were opened together do not all come back together.
    max_age = current_app.config["STREAM_MAX_AGE"] * random.uniform(0.9, 1.0)  # noqa: S311
    lifetime = caller.expires_at - time.time()
    reason = "expired" if lifetime < max_age else "max_age"
    deadline = broadcaster.hub.clock() + min(lifetime, max_age)
    return broadcaster.open_stream(request.environ, caller.user_id, cursor, deadline, reason)


def _no_more() -> Response:
    """The answer that makes an `EventSource` stop for good (HTML standard, 9.2.3)."""
    response = Response(status=204, headers=HEADERS)
    del response.headers["Content-Type"]
    return response


def _whole(frame: Frame) -> Response:
    return Response(frame.raw, headers=HEADERS, content_type=sse.CONTENT_TYPE)


def _streamed(stream: Stream) -> Response:
    return Response(stream, headers=HEADERS, content_type=sse.CONTENT_TYPE)  # type: ignore[arg-type]


def _created(path: str, ticket: Ticket) -> Response:
    url = f"{path}?ticket={ticket.text}"
    expires_at = dt.datetime.fromtimestamp(int(ticket.expires_at), dt.UTC)
    body = orjson.dumps({"url": url, "expires_at": expires_at}, option=orjson.OPT_UTC_Z)
    headers = {"Location": url, "Cache-Control": "no-store"}
    return Response(body, 201, headers, content_type="application/json")
