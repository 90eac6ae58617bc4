"""The three JSON endpoints of the specification, and what cancels a task."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request, url_for

from .. import metrics
from ..auth import forgery
from ..auth.access import cancellable_task, current_identity, permitted, visible_task
from ..auth.identity import Identity
from ..database.models import BIGINT_MAX, Snapshot
from ..errors import BadParameterError, ConflictError, NotFoundError
from ..state import current

bp = Blueprint("tasks", __name__)

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_WAIT_SECONDS = 30
# What a client that polls is asked to wait between two requests, in seconds.
RETRY_AFTER_SECONDS = "1"
# The answer is this caller's, and may be kept only to be asked about again.
HEADERS = [("Cache-Control", "private, no-cache"), ("Vary", "Authorization, Cookie")]

_WAIT = re.compile(r"wait *= *\"?([0-9]{1,9})\"?", re.IGNORECASE)


@bp.get("/<task_id>/status")
def status(task_id: str) -> Response:
    """One task; with `Prefer: wait`, once it differs from what the client has."""
    identity = current_identity()
    task = visible_task(task_id, identity)
    wait = _preferred_wait()
    if wait is None or (asked := _asked_for_news(task, identity, wait)) is None:
        return _task_response(task, identity)
    response = _task_response(visible_task(task_id, identity) if asked else task, identity)
    response.headers["Preference-Applied"] = f"wait={wait}"
    return response


def _asked_for_news(task: Snapshot, identity: Identity, wait: int) -> bool | None:
    """Wait for news of a task that the client has; whether it is to be read again, None where waiting is refused."""
    if task.status.is_final or not _client_has(task):
        return False
    current().hand_back()
    waited = current().broadcaster.wait_for_news(request.environ, task, identity.user_id, wait)
    return True if waited else None


@bp.get("/users/me")
def my_tasks() -> Response:
    """A page of the caller's tasks, newest first."""
    identity = current_identity()
    skip = _whole_number("skip", 0, minimum=0)
    limit = min(_whole_number("limit", DEFAULT_LIMIT, minimum=1), MAX_LIMIT)
    if skip > BIGINT_MAX:
        raise BadParameterError("skip must be a whole number of at most 64 bits.")
    store = current().store
    tasks = store.tasks_of(identity.user_id, skip, limit + 1)
    body = b"[" + b",".join(task.json_for(identity.is_admin) for task in tasks[:limit]) + b"]"
    response = Response(body, headers=HEADERS, content_type="application/json")
    pages = {"next": (skip + limit, limit)} if len(tasks) > limit else {}
    if skip and (tasks or store.tasks_of(identity.user_id, max(0, skip - limit), 1)):
        pages["prev"] = (max(0, skip - limit), min(limit, skip))
    if pages:
        response.headers["Link"] = _links(pages)
    return response


@bp.get("/learning-paths/<learning_path_id>")
def latest_of_learning_path(learning_path_id: str) -> Response:
    """The newest task of a learning path."""
    identity = current_identity()
    number = _id(learning_path_id)
    return _task_response(permitted(current().store.latest_of_learning_path(number), identity), identity)


@bp.post("/<task_id>/cancel")
def cancel(task_id: str) -> Response:
    """End a task that waits, and ask for the end of one that was started."""
    forgery.refuse()
    identity = current_identity()
    task, is_news = _cancelled(cancellable_task(task_id, identity))
    if is_news:
        metrics.tasks_cancelled.labels("waiting" if task.status.is_final else "asked").inc()
    elif task.status.is_final:
        raise ConflictError(f"The task has ended: {task.status}.")
    headers = [*HEADERS, ("Location", url_for(".status", task_id=task.task_id))]
    return Response(task.json_for(identity.is_admin), 202, headers, content_type="application/json")


def _cancelled(task: Snapshot) -> tuple[Snapshot, bool]:
    """The task as it is when it was cancelled, and whether this was what cancelled it. Raises `NotFoundError`."""
    is_news = not task.status.is_final and current().store.cancel(task)
    found = current().store.task(task.task_id)
    if found is None or found.id != task.id:
        raise NotFoundError("There is no such task.")
    return found, is_news


def _task_response(task: Snapshot, identity: Identity) -> Response:
    headers = [*HEADERS, ("ETag", f'W/"{task.revision}"')]
    if not task.status.is_final:
        headers.append(("Retry-After", RETRY_AFTER_SECONDS))
    if _client_has(task):
        return Response(status=304, headers=headers)
    return Response(task.json_for(identity.is_admin), headers=headers, content_type="application/json")


def _client_has(task: Snapshot) -> bool:
    """Whether `If-None-Match` names this revision (RFC 9110, section 13.1.2)."""
    if "HTTP_IF_NONE_MATCH" not in request.environ:  # parsing costs more than the row
        return False
    return request.if_none_match.contains_weak(str(task.revision))


def _preferred_wait() -> int | None:
    """The seconds of `Prefer: wait=N` (RFC 7240, section 4.3), or None. Of several, the first counts."""
    if "HTTP_PREFER" not in request.environ:
        return None
    for preference in request.headers["Prefer"].split(","):
        if found := _WAIT.fullmatch(preference.split(";")[0].strip()):
            return min(int(found[1]), MAX_WAIT_SECONDS)
    return None


def _whole_number(name: str, default: int, minimum: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    # Not `int()` alone, which takes "+5", "1_0" and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) < 1000) or int(text) < minimum:
        raise BadParameterError(f"{name} must be a whole number, {minimum} or more.")
    return int(text)


def _id(text: str) -> int:
    """A 64-bit id. Raises `NotFoundError` for what cannot be one."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(BIGINT_MAX))) or int(text) > BIGINT_MAX:
        raise NotFoundError("There is no task of such a learning path.")
    return int(text)


def _links(pages: dict[str, tuple[int, int]]) -> str:
    """The pages beside this one, each given as skip and limit, as web links (RFC 8288)."""
    return ", ".join(
        f'<{url_for(".my_tasks", skip=skip, limit=limit)}>; rel="{rel}"' for rel, (skip, limit) in pages.items()
    )
