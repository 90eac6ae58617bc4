"""A host that sends whoever has no cookie to its login page, which may go by another name (`LOGIN_HOST`)."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from flask import redirect, request
from werkzeug import Response

from wsgi import app


@app.get("/login")
def login() -> str:
    return "<!doctype html><title>Sign in</title>"


@app.before_request
def require_login() -> Response | None:
    if not request.path.startswith("/api/") or "access_token_cookie" in request.cookies:
        return None
    here = urlsplit(request.host_url)
    return redirect(f"//{os.environ.get('LOGIN_HOST', here.hostname)}:{here.port}/login")
