"""Which tokens are genuine: Flask-JWT-Extended verifies, and what it found is remembered by the token's exact text.

A client that polls sends the same token thousands of times, and verifying it costs as much as answering. Remembered
is only that the signature and the claims were right; what can change (the time, a blocklist) is looked at every time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flask import request
from flask_jwt_extended import get_jwt_request_location, verify_jwt_in_request
from flask_jwt_extended.config import config
from flask_jwt_extended.exceptions import InvalidHeaderError
from flask_jwt_extended.internal_utils import (
    custom_verification_for_token,
    has_user_lookup,
    verify_token_not_blocklisted,
)
from jwt.exceptions import ExpiredSignatureError

# How many tokens are remembered; of about one kilobyte each.
REMEMBERED = 4096

Claims = Mapping[str, Any]


def has_bearer() -> bool:
    """Whether the header offers a bearer token, rather than nothing or another scheme's credentials."""
    return request.headers.get("Authorization", "")[:7].lower() in ("bearer", "bearer ")


class VerifiedTokens:
    """The memory of one application; its keys do not change while it runs."""

    def __init__(self) -> None:
        self._verified: dict[str, tuple[Claims, Claims]] = {}

    def claims(self) -> Claims | None:
        """The claims of the token in this request's header or cookie, or None where the method needs none.

        Raises what `flask_jwt_extended.verify_jwt_in_request` raises.
        """
        text = request.headers.get("Authorization", "")
        if "," in text:
            raise InvalidHeaderError("more than one token")  # several headers arrive as one
        remembered = self._verified.get(text)
        if remembered is not None:
            return _still_valid(*remembered)
        if has_bearer():
            # RFC 9110, section 11.1: in any case. Flask-JWT-Extended knows one spelling.
            request.environ["HTTP_AUTHORIZATION"] = "Bearer" + text[len("Bearer") :]
        verified = verify_jwt_in_request()
        if verified is None:
            return None
        # A cookie's claims must never be remembered by a header that stood beside it.
        if get_jwt_request_location() == "headers" and not has_user_lookup():
            self._remember(text, verified)
        return verified[1]

    def _remember(self, text: str, verified: tuple[Claims, Claims]) -> None:
        if len(self._verified) >= REMEMBERED:
            self._verified.pop(next(iter(self._verified)), None)  # the oldest
        self._verified[text] = verified


def _still_valid(header: Claims, claims: Claims) -> Claims:
    if claims["exp"] <= time.time() - config.leeway:
        raise ExpiredSignatureError("Signature has expired")
    verify_token_not_blocklisted(dict(header), dict(claims))
    custom_verification_for_token(dict(header), dict(claims))
    return claims
