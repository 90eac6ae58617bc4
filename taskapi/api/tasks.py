"""One task as JSON: by its id, and the newest of a learning path."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from .. import metrics
from ..auth.access import current_identity, permitted, visible_task
from ..auth.identity import Identity
from ..database.models import BIGINT_MAX, Snapshot
from ..errors import NotFoundError
from ..state import current
from .answers import Answer

bp = Blueprint("tasks", __name__)

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


@bp.get("/learning-paths/<learning_path_id>")
def latest_of_learning_path(learning_path_id: str) -> Response:
    """The newest task of a learning path."""
    identity = current_identity()
    number = _id(learning_path_id)
    return _task_response(permitted(current().store.latest_of_learning_path(number), identity), identity)


def _task_response(task: Snapshot, identity: Identity) -> Response:
    headers = [*HEADERS, ("ETag", _etag(task))]
    if not task.status.is_final:
        headers.append(("Retry-After", RETRY_AFTER_SECONDS))
    if _client_has(task):
        metrics.polls.add("304")
        return Answer(status=304, headers=headers)
    metrics.polls.add("200")
    return Answer(task.json_for(identity.is_admin), headers=[*headers, ("Content-Type", "application/json")])


def _etag(task: Snapshot) -> str:
    return f'W/"{task.revision}"'


def _client_has(task: Snapshot) -> bool:
    """Whether `If-None-Match` names this revision (RFC 9110, section 13.1.2)."""
    given = request.environ.get("HTTP_IF_NONE_MATCH")
    if given is None or given == _etag(task):  # parsing costs more than the row
        return given is not None
    return request.if_none_match.contains_weak(str(task.revision))


def _preferred_wait() -> int | None:
    """The seconds of `Prefer: wait=N` (RFC 7240, section 4.3), or None. Of several, the first counts."""
    if "HTTP_PREFER" not in request.environ:
        return None
    for preference in request.headers["Prefer"].split(","):
        if found := _WAIT.fullmatch(preference.split(";")[0].strip()):
            return min(int(found[1]), MAX_WAIT_SECONDS)
    return None


def _id(text: str) -> int:
    """A 64-bit id. Raises `NotFoundError` for what cannot be one."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(BIGINT_MAX))) or int(text) > BIGINT_MAX:
        raise NotFoundError("There is no task of such a learning path.")
    return int(text)
