"""The table `user_tasks`, and the triggers through which no writer can forget to be seen."""

from alembic import context, op

from taskapi.database.schema import downgrade_to, upgrade_to

revision = "0001"
down_revision = None


def upgrade():
    upgrade_to(op, 1, found=0 if context.is_offline_mode() else None)


def downgrade():
    downgrade_to(op, 0, found=1 if context.is_offline_mode() else None)
