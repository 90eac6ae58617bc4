"""Who is asking, by the application's Flask-JWT-Extended as it is configured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import current_app, request
from flask_jwt_extended import JWTManager, get_jwt_identity, get_jwt_request_location, verify_jwt_in_request
from flask_jwt_extended.exceptions import InvalidHeaderError, JWTExtendedException, NoAuthorizationError
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from ..errors import UnauthorizedError, invalid_token
from .identity import Identity, user_id
from .tickets import has_bearer

# How many tokens are remembered; of about one kilobyte each.
REMEMBERED = 4096
# 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write.
LAST_MOMENT = 253_402_300_799

Claims = Mapping[str, Any]
Read = TypeVar("Read")


def read(rule: Callable[[], Read]) -> Read:
    """What a function makes of the request's token. Raises `UnauthorizedError` for what the libraries refuse."""
    try:
        return rule()
    except NoAuthorizationError:
        raise UnauthorizedError("This needs a bearer token.") from None
    except ExpiredSignatureError:
        raise invalid_token("The token has expired.") from None
    except (PyJWTError, JWTExtendedException):
        raise invalid_token("The token is not valid.") from None


class Tokens:
    """The identity of whoever sent a request, by its token. May be called by many threads at once."""

    def __init__(self, admin_claim: str) -> None:
        self._admin_claim = admin_claim

    def __call__(self) -> Identity:
        """Whoever sent this request.

        Raises `UnauthorizedError` for a missing, malformed, expired, not-yet-valid, revoked or forged token.
        """
        try:
            claims, subject = read(self._verified)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Claims of a kind that the libraries did not reckon with.
            raise invalid_token("The token is not valid.") from None
        return Identity(_user_id(subject), claims.get(self._admin_claim) is True, self._expiry(claims))

    def _verified(self) -> tuple[Claims, Any]:
        """The claims, and who they say it is."""
        verified = verify_jwt_in_request()
        if verified is None:
            raise NoAuthorizationError("no token")
        return verified[1], get_jwt_identity()

    def _expiry(self, claims: Claims) -> float | None:
        expires_at: Any = claims.get("exp")
        if expires_at is not None and (type(expires_at) not in (int, float) or not 0 < expires_at <= LAST_MOMENT):
            raise invalid_token("The token does not say when it expires.")
        return expires_at  # type: ignore[no-any-return]


class OwnTokens(Tokens):
    """The same for tokens of the standalone service, which must expire; and remembered, by the token's exact text.

    A client that polls sends the same token thousands of times, and verifying it costs as much as answering.
    Remembered is only whom signature and claims have proved; the time is looked at every time.
    """

    def __init__(self, admin_claim: str, manager: OwnManager) -> None:
        super().__init__(admin_claim)
        self._manager = manager
        self._remembered: dict[str, Identity] = {}

    def __call__(self) -> Identity:
        """Whoever sent this request. Raises `UnauthorizedError`."""
        text = request.environ.get("HTTP_AUTHORIZATION", "")
        identity = self._remembered.get(text)
        if identity is None:
            return self._remember(text, super().__call__())
        expires_at, now = identity.expires_at or 0, time.time()
        if expires_at <= now and expires_at <= now - current_app.config["JWT_DECODE_LEEWAY"]:
            raise invalid_token("The token has expired.")
        return identity

    def _remember(self, text: str, identity: Identity) -> Identity:
        # A cookie's user must never be remembered by a header that stood beside it.
        if get_jwt_request_location() == "headers" and not self._manager.looks_further:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)), None)  # the oldest
            self._remembered[text] = identity
        return identity

    def _verified(self) -> tuple[Claims, Any]:
        text = request.environ.get("HTTP_AUTHORIZATION", "")
        if "," in text:
            raise InvalidHeaderError("more than one token")  # several headers arrive as one
        if has_bearer():
            # RFC 9110, section 11.1: in any case. Flask-JWT-Extended knows one spelling.
            request.environ["HTTP_AUTHORIZATION"] = "Bearer" + text[len("Bearer") :]
        return super()._verified()

    def _expiry(self, claims: Claims) -> float:
        expires_at = super()._expiry(claims)
        if expires_at is None:
            raise invalid_token("The token does not say when it expires.")
        return expires_at


class OwnManager(JWTManager):
    """A JWTManager that knows whether somebody has asked for more than signature and claims."""

    looks_further = False

    def token_in_blocklist_loader(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """A blocklist may change at any time."""
        self.looks_further = True
        return super().token_in_blocklist_loader(callback)

    def token_verification_loader(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """What else is verified, likewise."""
        self.looks_further = True
        return super().token_verification_loader(callback)

    def user_lookup_loader(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """A user, likewise."""
        self.looks_further = True
        return super().user_lookup_loader(callback)


def _user_id(subject: Any) -> int:
    try:
        return user_id(subject)
    except ValueError:
        raise invalid_token("The token does not name a user.") from None
