"""The description of the API at `/openapi.json`, with the paths that it has in this application."""

from __future__ import annotations

from pathlib import Path

import orjson
from flask import Blueprint, Response, current_app, request, url_for

bp = Blueprint("description", __name__)

# Where the description has the operations.
API = "/api/tasks"
ENDPOINTS = {
    "/": "taskapi.page.page",
    "/docs": "taskapi.docs.docs",
    "/docs/": "taskapi.documentation.contents",
    "/docs/{page}": "taskapi.documentation.document",
    "/healthz": "taskapi.health.healthz",
    "/metrics": "taskapi.metrics.metrics",
    "/openapi.json": "taskapi.description.openapi",
    "/readyz": "taskapi.health.readyz",
}
OPENAPI = Path(__file__).with_name("openapi.json")


@bp.get("/openapi.json")
def openapi() -> Response:
    """The API as OpenAPI 3.1, with the paths that it has here; a test keeps it true."""
    described = orjson.loads(OPENAPI.read_bytes())
    described["servers"] = [{"url": request.script_root or "/"}]
    described["paths"] = {here: operations for path, operations in described["paths"].items() if (here := _path(path))}
    return Response(orjson.dumps(described), content_type="application/json")


def _path(path: str) -> str:
    """Where an operation is in this application; nothing for what is turned off."""
    if path.startswith(API):
        return (
            url_for("taskapi.lists.my_tasks").removeprefix(request.script_root).removesuffix("/users/me")
            + path[len(API) :]
        )
    if ENDPOINTS[path] not in current_app.view_functions:
        return ""
    return request.path.removesuffix("/openapi.json") + path
