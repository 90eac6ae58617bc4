"""The page at `/`, the caller's tasks as live bars, and the description of the API."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, make_response, render_template, send_file

bp = Blueprint("page", __name__, template_folder="templates")

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
    response = make_response(render_template("index.html"))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response


@bp.get("/openapi.json")
def openapi() -> Response:
    """The API as OpenAPI 3.1; a test keeps it true."""
    return send_file(OPENAPI, mimetype="application/json")
