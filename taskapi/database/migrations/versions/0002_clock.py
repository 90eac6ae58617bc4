"""Revisions by a hybrid logical clock, kinds, attempts, limits and cancellation; deletes are noted on SQLite."""

from alembic import context, op

from taskapi.database.schema import downgrade_to, upgrade_to

revision = "0002"
down_revision = "0001"


def upgrade():
    upgrade_to(op, 2, found=1 if context.is_offline_mode() else None)


def downgrade():
    downgrade_to(op, 1, found=2 if context.is_offline_mode() else None)
