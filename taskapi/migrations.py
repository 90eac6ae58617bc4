"""The tables in a host's own Alembic history: one revision of the host's calls `upgrade(op, version=3)`."""

from __future__ import annotations

from .database.schema import VERSION, Operations, downgrade_to, upgrade_to

__all__ = ["VERSION", "downgrade", "upgrade"]


def upgrade(op: Operations, *, version: int = VERSION) -> None:
    """Bring our tables up to a version, within the migration's transaction. A version is frozen once shipped.

    `op`: Alembic's. Raises `ValueError` for a version that this taskapi does not know.
    """
    upgrade_to(op, version)


def downgrade(op: Operations, *, version: int = 0) -> None:
    """Bring our tables back to a version; 0 leaves nothing of them."""
    downgrade_to(op, version)
