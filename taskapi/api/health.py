"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import logging

from flask import Blueprint, Response

from ..database import schema
from ..errors import UnavailableError
from ..state import current

log = logging.getLogger(__name__)

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return _ok()


@bp.get("/readyz")
def readyz() -> Response:
    """The database answers, its schema is the one of this version, and the change feed works."""
    if trouble := schema.trouble(current().store):
        log.error("not ready: %s", trouble.cause)
        raise UnavailableError(trouble.public)
    if not current().broadcaster.is_connected:
        raise UnavailableError("The change feed is not connected: open bars move late.")
    return _ok()


def _ok() -> Response:
    return Response('{"status":"ok"}', content_type="application/json", headers={"Cache-Control": "no-store"})
