"""`/metrics` for Prometheus. Keep it from the public in the proxy: it needs no token and tells no task."""

from __future__ import annotations

import logging

from flask import Blueprint, Response

from .. import prometheus
from ..database.failures import DatabaseError
from ..kinds import bounded
from ..metrics import flush
from ..state import current

log = logging.getLogger(__name__)

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> Response:
    """The counts of all worker processes, those of the others up to two seconds old."""
    flush()
    return Response(prometheus.exposition(_tasks()), content_type=prometheus.CONTENT_TYPE)


def _tasks() -> list[tuple[str, str, int, float]]:
    """Those that have not ended; none where the database does not answer, of which all else tells."""
    store = current().store
    try:
        return bounded(store.active())
    except DatabaseError as error:
        log.warning("tasks cannot be counted now: %s", store.explain(error))
        return []
