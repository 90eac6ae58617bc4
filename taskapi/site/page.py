"""The page at `/`: the caller's tasks as live bars."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, make_response, render_template

from ..auth.access import current_identity
from ..errors import UnauthorizedError

bp = Blueprint("page", __name__, template_folder="templates")

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

# No string becomes markup or a script, by mistake or by malice: none of the page's own modules needs to.
TRUSTED_TYPES = "; require-trusted-types-for 'script'; trusted-types 'none'"
# What the first bar waits for, asked for at once rather than as one module names the next. All else comes later.
OF_BARS = ("task-progress", "channel", "element", "follow", "requests", "style", "tabs", "texts", "transport")
OF_PAGE = ("address", "cards", "dom", "filters", "history", "list", "session", "tasks", "texts", "times")
MODULES = OF_BARS + tuple(f"page/{name}" for name in OF_PAGE)


@bp.get("/")
def page() -> Response:
    """The page; its token comes in the URL's fragment, which no server ever sees."""
    response = rendered("taskapi/index.html", user=_signed_in(), modules=MODULES)
    response.headers["Content-Security-Policy"] += TRUSTED_TYPES
    response.vary.add("Cookie")
    return response


def _signed_in() -> int | None:
    """Whom a cookie names already; anybody else is asked for a token."""
    try:
        return current_identity().user_id
    except UnauthorizedError:
        return None


def rendered(template: str, **values: Any) -> Response:
    """A page of ours, under the policy that holds for all of them."""
    response = make_response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response
