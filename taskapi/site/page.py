"""The page at `/`, the caller's tasks as live bars, and the description of the API."""

from __future__ import annotations

from pathlib import Path

import orjson
from flask import Blueprint, Response, current_app, make_response, render_template, request, url_for

bp = Blueprint("page", __name__, template_folder="templates")

# Where the description has the operations.
API = "/api/tasks"
ENDPOINTS = {
    "/": "taskapi.page.page",
    "/docs": "taskapi.docs.docs",
    "/healthz": "taskapi.health.healthz",
    "/metrics": "taskapi.metrics.metrics",
    "/openapi.json": "taskapi.page.openapi",
    "/readyz": "taskapi.health.readyz",
}
OPENAPI = Path(__file__).with_name("openapi.json")

# Scripts and styles are files of our own; nothing is loaded from, sent to or framed by anybody else.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@bp.get("/")
def page() -> Response:
    """The page; its token comes in the URL's fragment, which no server ever sees."""
    return rendered("index.html")


def rendered(template: str) -> Response:
    """A page of ours, under the policy that holds for all of them."""
    response = make_response(render_template(template))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response


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
    endpoint = ENDPOINTS[path]
    if endpoint not in current_app.view_functions:
        return ""
    return url_for(endpoint).removeprefix(request.script_root)
