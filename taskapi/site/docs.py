"""The API reference at `/docs`: Swagger UI over `/openapi.json`, from files of this server alone."""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint, Response, make_response, render_template

from .page import CONTENT_SECURITY_POLICY

bp = Blueprint(
    "docs",
    __name__,
    static_folder=str(files("flask_swagger_ui") / "dist"),
    static_url_path="/docs/static",
    template_folder="templates",
)


@bp.get("/docs")
def docs() -> Response:
    """The reference; requests can be tried out with a token."""
    response = make_response(render_template("docs.html"))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response
