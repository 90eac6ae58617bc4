"""`flask taskapi …`: the commands of an application that exists already."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import AppGroup

from ..database import schema
from ..database.failures import DatabaseError
from ..extras import MissingExtraError
from ..state import current
from .doctor import doctor

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

UPGRADE = re.compile(r"^\s*taskapi\.migrations\.upgrade\(op, version=([0-9]+)\)", re.MULTILINE)
MIGRATION = '''"""The tables of taskapi, version {version}."""

import taskapi.migrations
from alembic import op

revision = "{revision}"
down_revision = {down_revision!r}
branch_labels = None
depends_on = None


def upgrade():
    taskapi.migrations.upgrade(op, version={version})


def downgrade():
    taskapi.migrations.downgrade(op, version={before})
'''

group = AppGroup("taskapi", help="Progress of background tasks: its tables, and its health.")
group.add_command(doctor)


@group.command()
def upgrade() -> None:
    """Bring the tables up to date, where Alembic does not keep them."""
    try:
        store = current().store
        with schema.engine_of(store) as engine:
            is_ours = current().background.owns_schema and not schema.is_an_applications(engine)
            bring_up_to_date = schema.upgrade if is_ours else schema.upgrade_beside
            bring_up_to_date(engine)
    except DatabaseError as error:
        raise click.ClickException(store.explain(error)) from None
    except (RuntimeError, MissingExtraError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"The tables of taskapi are at version {schema.VERSION}.")


@group.command()
@click.option("--message", default="tables of taskapi", show_default=True, help="What the file is called.")
def migration(message: str) -> None:
    """Write a revision of this application's own Alembic history that brings the tables."""
    if "migrate" not in current_app.extensions:
        raise click.ClickException("This application has no Flask-Migrate: `flask taskapi upgrade` does it.")
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    try:
        script = ScriptDirectory.from_config(current_app.extensions["migrate"].migrate.get_config())
        head, before = script.get_current_head(), _brought_by(script)
    except CommandError as error:  # no `flask db init` yet, or several heads
        raise click.ClickException(str(error)) from None
    if before == schema.VERSION:
        raise click.ClickException(f"A revision of this application brings version {before} already.")
    revision = secrets.token_hex(6)
    text = MIGRATION.format(version=schema.VERSION, before=before, revision=revision, down_revision=head)
    path = Path(script.versions) / f"{revision}_{'_'.join(re.findall('[a-z0-9]+', message.lower()))}.py"
    path.write_text(text)
    click.echo(f"{path}: `flask db upgrade` brings the tables.")


def _brought_by(script: ScriptDirectory) -> int:
    """The newest version that a revision of the application's own brings."""
    texts = [Path(revision.path).read_text() for revision in script.walk_revisions()]
    return max((int(version) for text in texts for version in UPGRADE.findall(text)), default=0)
