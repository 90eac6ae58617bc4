"""What a query says, or why it cannot be."""

from __future__ import annotations

from flask import request

from ..errors import BadParameterError


def whole_number(name: str, default: int, minimum: int) -> int:
    """A parameter's number. Raises `BadParameterError`."""
    text = request.args.get(name)
    if text is None:
        return default
    # Not `int()` alone, which takes "+5", "1_0" and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) < 1000) or int(text) < minimum:
        raise BadParameterError(f"{name} must be a whole number, {minimum} or more.")
    return int(text)
