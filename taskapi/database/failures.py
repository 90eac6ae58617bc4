"""What a database did not do, as one family for both drivers."""

from __future__ import annotations

from typing import Any


class DatabaseError(Exception):
    """The database did not answer, or could not do what was asked: `orig` is what its driver raised."""

    def __init__(self, orig: Exception, *, lost: bool = False) -> None:
        super().__init__(orig)
        self.orig = orig
        self.lost = lost  # whether the connection had died

    def __str__(self) -> str:
        return f"{type(self.orig).__name__}: {self.orig}"


class RefusedError(DatabaseError):
    """The database will never take what it was given."""


class ConstraintError(RefusedError):
    """It would break a constraint of the table, such as that there is one task of a `task_id`."""


def of_driver(driver: Any, error: Exception, *, lost: bool = False) -> DatabaseError:
    """What a driver raised (PEP 249), as one of the family."""
    kind = DatabaseError
    if isinstance(error, driver.IntegrityError):
        kind = ConstraintError
    elif isinstance(error, driver.DataError):
        kind = RefusedError
    return kind(error, lost=lost)
