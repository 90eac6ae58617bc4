"""Who is asking, as the application that we are in tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from flask import Flask
from werkzeug.exceptions import Unauthorized

from ..config import ConfigError
from ..errors import UnauthorizedError, invalid_token
from .identity import Identity, Rules, user_id


def identify_by(app: Flask, rules: Rules, admin_claim: str) -> Callable[[], Identity]:
    """What tells who is asking: the application's own rule, else its Flask-JWT-Extended. Raises `ConfigError`."""
    rule = rules.identity
    if "flask-jwt-extended" in app.extensions:
        from . import jwt

        return partial(_identified, partial(jwt.read, rule)) if rule else jwt.Tokens(admin_claim)
    if rule is None:
        raise ConfigError("taskapi cannot tell who is asking: use @tasks.identity, or Flask-JWT-Extended.")
    return partial(_identified, rule)


def _identified(rule: Callable[[], Identity | None]) -> Identity:
    try:
        found = rule()
    except Unauthorized:
        found = None
    if found is None:
        raise UnauthorizedError("Please sign in.")
    if not isinstance(found, Identity):
        raise TypeError(f"@tasks.identity must return an Identity or None, not {type(found).__name__}")
    if found.expires_at is not None and found.expires_at <= time.time():
        raise invalid_token("The credential has expired.")
    return found._replace(user_id=user_id(found.user_id))
