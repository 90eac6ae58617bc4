"""What ends a task that nobody wants any more."""

from __future__ import annotations

from flask import Blueprint, Response, url_for

from .. import metrics
from ..auth import forgery
from ..auth.access import cancellable_task, current_identity
from ..database.models import Snapshot
from ..errors import ConflictError, NotFoundError
from ..state import current
from .tasks import HEADERS

bp = Blueprint("cancellations", __name__)


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
    headers = [*HEADERS, ("Location", url_for("taskapi.tasks.status", task_id=task.task_id))]
    return Response(task.json_for(identity.is_admin), 202, headers, content_type="application/json")


def _cancelled(task: Snapshot) -> tuple[Snapshot, bool]:
    """The task as it is when it was cancelled, and whether this was what cancelled it. Raises `NotFoundError`."""
    is_news = not task.status.is_final and current().store.cancel(task)
    found = current().store.task(task.task_id)
    if found is None or (found.id, found.user_id) != (task.id, task.user_id):  # another one's, which nobody asked for
        raise NotFoundError("There is no such task.")
    return found, is_news
