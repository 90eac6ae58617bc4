"""Announces only what somebody follows; traces, and an index of failures."""

from alembic import context, op

from taskapi.database.schema import downgrade_to, upgrade_to

revision = "0003"
down_revision = "0002"


def upgrade():
    upgrade_to(op, 3, found=2 if context.is_offline_mode() else None)


def downgrade():
    downgrade_to(op, 2, found=3 if context.is_offline_mode() else None)
