"""Lists of tasks, and how many there are: a user's own, and everybody's for administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, request, url_for

from ..auth.access import current_administrator, current_identity
from ..auth.identity import Identity
from ..database.models import BIGINT_MAX, Snapshot, TaskStatus
from ..database.store import Filters
from ..errors import BadParameterError
from ..state import current
from .parameters import whole_number
from .tasks import HEADERS

bp = Blueprint("lists", __name__)

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
# What a page and the pages beside it have in common.
FILTERS = ("status", "kind", "learning_path_id", "user_id", "q")
STATUSES = tuple(map(str, TaskStatus))
WORD_LENGTH = 40
TEXT_LENGTH = 255

# A page's tasks, by skip and limit.
Read = Callable[[int, int], list[Snapshot]]


@bp.get("/users/me")
def my_tasks() -> Response:
    """A page of the caller's tasks, newest first."""
    identity, store = current_identity(), current().store
    filters = _filters(identity)
    response = _page(lambda skip, limit: store.tasks_of(identity.user_id, skip, limit, filters), identity)
    if identity.is_admin:  # who may see the whole of which this is a part (RFC 6573); nobody else is told of it
        response.headers.add("Link", f'<{url_for("taskapi.lists.all_tasks")}>; rel="collection"')
    return response


@bp.get("")
def all_tasks() -> Response:
    """A page of everybody's tasks, newest first, for administrators."""
    identity = current_administrator()
    user_id, filters, store = _number("user_id"), _filters(identity), current().store
    if user_id is None:
        return _page(lambda skip, limit: store.tasks(skip, limit, filters), identity)
    return _page(lambda skip, limit: store.tasks_of(user_id, skip, limit, filters), identity)


@bp.get("/summary")
def summary() -> Response:
    """How many tasks there are, how long the first has waited, and how many are stalled, for administrators."""
    current_administrator()
    body = orjson.dumps(current().counts.summary()._asdict(), option=orjson.OPT_UTC_Z)
    return Response(body, headers=HEADERS, content_type="application/json")


def _page(read: Read, identity: Identity) -> Response:
    skip = whole_number("skip", 0, minimum=0)
    limit = min(whole_number("limit", DEFAULT_LIMIT, minimum=1), MAX_LIMIT)
    if skip > BIGINT_MAX:
        raise BadParameterError("skip must be a whole number of at most 64 bits.")
    tasks = read(skip, limit + 1)
    body = b"[" + b",".join(task.json_for(identity.is_admin) for task in tasks[:limit]) + b"]"
    response = Response(body, headers=HEADERS, content_type="application/json")
    pages = {"next": (skip + limit, limit)} if len(tasks) > limit else {}
    if skip and (tasks or read(max(0, skip - limit), 1)):
        pages["prev"] = (max(0, skip - limit), min(limit, skip))
    if pages:
        response.headers["Link"] = _links(pages)
    return response


def _links(pages: dict[str, tuple[int, int]]) -> str:
    """The pages beside this one, each given as skip and limit, as web links (RFC 8288)."""
    kept: dict[str, Any] = {name: request.args.getlist(name) for name in FILTERS if name in request.args}
    return ", ".join(
        f'<{url_for(str(request.endpoint), skip=skip, limit=limit, **kept)}>; rel="{rel}"'
        for rel, (skip, limit) in pages.items()
    )


def _filters(identity: Identity) -> Filters:
    text = _text("q")
    if text is not None and len(text) > TEXT_LENGTH:
        raise BadParameterError(f"q must have at most {TEXT_LENGTH} characters.")
    return Filters(_statuses(), _text("kind"), _number("learning_path_id"), text, identity.is_admin)


def _text(name: str) -> str | None:
    text = request.args.get(name)
    if text is not None and "\0" in text:
        raise BadParameterError(f"{name} must be a text that a database can hold.")
    return text


def _statuses() -> list[TaskStatus]:
    """The words of `status`, which may be given more than once; all seven where it is not given."""
    if "status" not in request.args:
        return list(TaskStatus)
    words = ",".join(request.args.getlist("status")).split(",")
    for word in words:
        if word not in STATUSES:
            raise BadParameterError(f'status "{word[:WORD_LENGTH]}" is none of {", ".join(STATUSES)}.')
    return [TaskStatus(word) for word in words]


def _number(name: str) -> int | None:
    """An id of 64 bits to look for."""
    if name not in request.args:
        return None
    number = whole_number(name, 0, minimum=0)
    if number > BIGINT_MAX:
        raise BadParameterError(f"{name} must be a whole number of at most 64 bits.")
    return number
