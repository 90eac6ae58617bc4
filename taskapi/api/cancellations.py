"""What ends a task that nobody wants any more."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request, url_for
from werkzeug.exceptions import UnsupportedMediaType

from .. import metrics
from ..auth import forgery
from ..auth.access import can_be, cancellable_task, current_administrator, current_identity
from ..database.models import Snapshot
from ..errors import BadParameterError, ConflictError, NotFoundError
from ..state import current
from .tasks import HEADERS

bp = Blueprint("cancellations", __name__)

MANY = 100


@bp.post("/<task_id>/cancel")
def cancel(task_id: str) -> Response:
    """End a task that waits, and ask for the end of one that was started."""
    forgery.refuse()
    identity = current_identity()
    task, is_news = _cancelled(cancellable_task(task_id, identity))
    if is_news:
        _count(task)
    elif task.status.is_final:
        raise ConflictError(f"The task has ended: {task.status}.")
    headers = [*HEADERS, ("Location", url_for("taskapi.tasks.status", task_id=task.task_id))]
    return Response(task.json_for(identity.is_admin), 202, headers, content_type="application/json")


@bp.post("/cancel")
def cancel_many() -> Response:
    """The same for up to a hundred tasks, in one transaction, for administrators; what came of it, task by task."""
    forgery.refuse()
    current_administrator()
    task_ids, store = _asked_for(), current().store
    possible = list(filter(can_be, task_ids))
    news = store.cancel_all(task for task in store.tasks_named(possible) if not task.status.is_final)
    now = {task.task_id: task for task in store.tasks_named(possible)}
    cancelled = {task.task_id for task in news} & now.keys()
    for task_id in cancelled:
        _count(now[task_id])
    told = [{"task_id": task_id, "outcome": _outcome(now.get(task_id), task_id in cancelled)} for task_id in task_ids]
    return Response(orjson.dumps(told), headers=HEADERS, content_type="application/json")


def _asked_for() -> list[str]:
    """The ids that were sent, each once. Raises `BadParameterError`."""
    if not request.is_json:
        raise UnsupportedMediaType("Send a list of task ids as application/json.")
    try:
        task_ids = orjson.loads(request.get_data())
    except orjson.JSONDecodeError:
        raise BadParameterError("This is no JSON.") from None
    if not (isinstance(task_ids, list) and all(isinstance(task_id, str) for task_id in task_ids)):
        raise BadParameterError("Send a list of task ids, each of them a text.")
    if len(task_ids) > MANY:
        raise BadParameterError(f"Send at most {MANY} task ids at once.")
    return list(dict.fromkeys(task_ids))


def _outcome(task: Snapshot | None, was_cancelled: bool) -> str:
    """A task's, as it is afterwards; whoever asks again is told the same."""
    if task is None:
        return "unknown"
    return "accepted" if was_cancelled or not task.status.is_final else "ended"


def _count(task: Snapshot) -> None:
    metrics.tasks_cancelled.labels("waiting" if task.status.is_final else "asked").inc()


def _cancelled(task: Snapshot) -> tuple[Snapshot, bool]:
    """The task as it is when it was cancelled, and whether this was what cancelled it. Raises `NotFoundError`."""
    is_news = not task.status.is_final and current().store.cancel(task)
    found = current().store.task(task.task_id)
    if found is None or (found.id, found.user_id) != (task.id, task.user_id):  # another one's, which nobody asked for
        raise NotFoundError("There is no such task.")
    return found, is_news
