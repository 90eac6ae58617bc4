"""The API reference at `/docs`: Swagger UI over `/openapi.json`, from files of this server alone."""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint, Response

from .page import rendered

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
    return rendered("taskapi/docs.html")
