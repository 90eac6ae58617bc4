"""The demo's server: the standalone service, and an address that is short enough to be printed and signs in."""

from __future__ import annotations

import hmac
import os

from flask import redirect, request
from werkzeug.wrappers import Response

from . import demo
from .errors import NotFoundError
from .wsgi import app as app

KEY = os.environ[demo.KEY_VARIABLE].encode()


@app.get("/demo")
def sign_in() -> Response:
    """Go on to the page, with a token in the fragment. The key is the query, which no log has."""
    if not hmac.compare_digest(request.query_string, KEY):
        raise NotFoundError("There is no such page.")
    response = redirect(f"/#token={demo.make_token()}")
    response.headers["Cache-Control"] = "no-store"
    return response
