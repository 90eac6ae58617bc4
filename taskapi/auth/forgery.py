"""Whether a request that changes something may have been made by a page of another site.

A browser sends a session's cookie along whoever's page asks, but never a bearer token: that one a page must know, and
must be allowed (by CORS) to send. So where an application has Flask-WTF's `CSRFProtect`, requests with a bearer token
need no other proof; all others need the application's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, current_app
from werkzeug.exceptions import BadRequest

from ..errors import BadParameterError
from .tickets import has_bearer

EXTENSION = "csrf"  # Flask-WTF's


def exempt(app: Flask, *views: Callable[..., Any]) -> None:
    """Keep the application's protection, which asks everybody for proof, from views that harm nobody, or `refuse`."""
    if (protection := app.extensions.get(EXTENSION)) is not None:
        for view in views:
            protection.exempt(view)


def refuse() -> None:
    """Refuse a request that may be forged, if the application protects itself. Raises `BadParameterError`."""
    protection = current_app.extensions.get(EXTENSION)
    config = current_app.config
    if protection is None or has_bearer() or not (config["WTF_CSRF_ENABLED"] and config["WTF_CSRF_CHECK_DEFAULT"]):
        return
    try:
        protection.protect()
    except BadRequest as error:
        raise BadParameterError(error.description or "The CSRF token is missing.") from None
