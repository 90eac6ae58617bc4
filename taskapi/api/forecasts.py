"""When a task will start, and when it will end."""

from __future__ import annotations

from flask import Blueprint, Response

from ..auth.access import current_identity, visible_task
from ..state import current
from .tasks import HEADERS

bp = Blueprint("forecasts", __name__)


@bp.get("/<task_id>/forecast")
def forecast(task_id: str) -> Response:
    """What the last finished tasks of its kind tell of one task."""
    task = visible_task(task_id, current_identity())
    return Response(current().forecasts.of(task.id).json, headers=HEADERS, content_type="application/json")
