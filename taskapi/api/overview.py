"""What administrators see first: what there is of each kind of task, how long it takes, what fails and why."""

from __future__ import annotations

from flask import Blueprint, Response

from ..auth.access import current_administrator
from ..errors import BadParameterError
from ..overview import HOURS_AT_MOST
from ..state import current
from .parameters import whole_number
from .tasks import HEADERS

bp = Blueprint("overview", __name__)

A_DAY = 24


@bp.get("/kinds")
def kinds() -> Response:
    """Each kind: how many wait and run, how long the last ones took, and how many of them failed."""
    current_administrator()
    return Response(current().overview.kinds(), headers=HEADERS, content_type="application/json")


@bp.get("/failures")
def failures() -> Response:
    """What failed within the last hours, by reason."""
    current_administrator()
    hours = whole_number("hours", A_DAY, minimum=1)
    if hours > HOURS_AT_MOST:
        raise BadParameterError(f"hours must be at most {HOURS_AT_MOST}.")
    return Response(current().overview.failures(hours), headers=HEADERS, content_type="application/json")
