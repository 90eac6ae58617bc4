"""`/metrics` for Prometheus. Keep it from the public in the proxy: it needs no token and tells no task."""

from __future__ import annotations

from flask import Blueprint, Response

from .. import prometheus
from ..metrics import flush

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> Response:
    """The counts of all worker processes, those of the others up to two seconds old."""
    flush()
    return Response(prometheus.exposition(), content_type=prometheus.CONTENT_TYPE)
