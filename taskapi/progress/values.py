"""What a worker may say: every check of an argument, at the call. Knows no task."""

from __future__ import annotations

import re
from numbers import Integral, Real
from typing import Any

from ..database.models import BIGINT_MAX, TASK_ID_LENGTH, WAITING, TaskStatus

# No database stores these: PostgreSQL refuses NUL, and half of a surrogate pair has no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
LONGEST_SECONDS = 1e9
# Below it, and above its inverse, sums of weights would lose some.
SMALLEST_WEIGHT = 1e-9


def integer(name: str, value: Any) -> int:
    """A whole number of 64 bits. Raises `TypeError`, `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    number = int(value)
    if not -BIGINT_MAX - 1 <= number <= BIGINT_MAX:
        raise ValueError(f"{name} must fit in 64 bits")
    return number


def count(name: str, value: Any) -> int:
    """A number of items. Raises `TypeError`, `ValueError`."""
    number = integer(name, value)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, not {number}")
    return number


def percentage(name: str, value: Any) -> float:
    """A number from 0 to 100. Raises `TypeError`, `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    number = float(value)
    if not 0 <= number <= 100:  # and not nan either
        raise ValueError(f"{name} must be from 0 to 100, not {number}")
    return number


def weight(name: str, value: Any) -> float:
    """How much of a bar beside others. Raises `TypeError`, `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    number = float(value)
    if not SMALLEST_WEIGHT <= number <= 1 / SMALLEST_WEIGHT:  # and not nan either
        raise ValueError(
            f"{name} must be more than 0, from {SMALLEST_WEIGHT:g} to {1 / SMALLEST_WEIGHT:g}, not {number}"
        )
    return number


def seconds(name: str, value: Any) -> float:
    """A length of time, of a thousandth of a second to some thirty years. Raises `TypeError`, `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    number = float(value)
    if not 0.001 <= number <= LONGEST_SECONDS:  # and not nan either
        raise ValueError(f"{name} must be from 0.001 to {LONGEST_SECONDS:g} seconds, not {number:g}")
    return number


def text(name: str, value: Any) -> str:
    """A text that both databases store; what they cannot becomes U+FFFD. Raises `TypeError`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__}")
    return _UNSTORABLE.sub("\ufffd", value)


def word(name: str, value: Any) -> str:
    """A text that can stand in the path of a URL. Raises `TypeError`, `ValueError`."""
    if text(name, value) != value or "/" in value or value in ("", ".", ".."):
        raise ValueError(f"{name} must be a text that can stand in the path of a URL, not {value!r}")
    return str(value)


def task_id(name: str, value: Any) -> str:
    """A `task_id`; `name` is the argument to blame. Raises `TypeError`, `ValueError`."""
    if len(word(name, value)) > TASK_ID_LENGTH:
        raise ValueError(f"{name} is too long: a task_id has at most {TASK_ID_LENGTH} characters")
    return str(value)


def first_status(name: str, value: Any) -> TaskStatus:
    """What a task may be created as: it waits to be started. Raises `ValueError`."""
    if value not in list(WAITING):  # by equality: it may be anything
        raise ValueError(f"{name} must be 'pending' or 'queued', not {value!r}")
    return TaskStatus(value)
