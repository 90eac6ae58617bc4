"""The commands of the standalone service: `flask token`, `flask tasks …`, `flask demo`."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
import orjson
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext
from flask_jwt_extended import create_access_token
from flask_migrate.cli import db

from .. import demo, extras, maintenance
from ..database import schema
from ..database.failures import DatabaseError
from ..database.models import BIGINT_MAX, TaskStatus
from ..state import current
from . import lines, remote
from .doctor import doctor

# How often `watch` looks at the row, and what it leaves with.
LOOK_SECONDS = 0.2
EXIT_STATUS = {TaskStatus.COMPLETED: 0, TaskStatus.FAILED: 1, TaskStatus.TIMEOUT: 2}
CANNOT_TELL = 3
INTERRUPTED = 130  # what shells report for a process that Ctrl-C ended

USER = click.IntRange(0, BIGINT_MAX)


class CannotTellError(click.ClickException):
    """No task can be looked at; leaves with a status of its own, since 1 and 2 are answers."""

    exit_code = CANNOT_TELL


class TaskGroup(AppGroup):
    """Turns what the database or the command line gets wrong into a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except DatabaseError as error:
            trouble = schema.trouble(current().store)
            raise CannotTellError(trouble.cause if trouble else current().store.explain(error)) from None
        except click.UsageError as error:
            error.show()
            raise SystemExit(CANNOT_TELL) from None


tasks = TaskGroup("tasks", help="Look at tasks, and keep the table true and small.")


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.help = f"Progress of background tasks. What is kept without settings is in {app.instance_path}."
    app.cli.add_command(db)  # which `flask` has by itself
    app.cli.add_command(token)
    app.cli.add_command(tasks)
    app.cli.add_command(demo.command)
    app.cli.add_command(AppGroup("taskapi", commands=[doctor], help="What `python -m taskapi doctor` is as well."))
    app.cli.add_command(doctor)


@click.command()
@click.option("--user", type=USER, required=True, help="The user id, the token's `sub`.")
@click.option("--admin", is_flag=True, help="Make the user an administrator.")
@click.option(
    "--expires",
    type=click.IntRange(1, 10**9),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="How long the token is good for.",
)
@with_appcontext
def token(user: int, admin: bool, expires: int) -> None:
    """Print a bearer token for trying things out, and nothing else.

    It is signed with this installation's own key: whoever can run this command may be any user.
    """
    if current_app.config["JWT_ALGORITHM"] != "HS256":
        raise click.ClickException("Tokens are signed by another service: TASKAPI_JWT_ALGORITHM is not HS256.")
    claims = {current_app.config["ADMIN_CLAIM"]: True} if admin else {}
    lifetime = dt.timedelta(seconds=expires)
    click.echo(create_access_token(str(user), expires_delta=lifetime, additional_claims=claims))


@tasks.command("list")
@click.option("--user", type=USER, required=True, help="Whose tasks.")
@click.option("--skip", type=USER, default=0, show_default=True, help="Leave out the newest so many.")
@click.option("--limit", type=click.IntRange(1, 10**6), default=20, show_default=True, help="Show at most so many.")
def list_tasks(user: int, skip: int, limit: int) -> None:
    """List a user's tasks, newest first, a line each."""
    found = current().store.tasks_of(user, skip, limit)
    for task in found:
        click.echo(f"{lines.printable(task.task_id)}  {lines.line(orjson.loads(task.json_for(True)))}")
    if not found:
        click.echo(f"No tasks of user {user}.", err=True)


@tasks.command()
@click.argument("task_id")
@click.option("--url", metavar="URL", help="The server to ask, over its event stream; without it, the database.")
@click.option(
    "--token",
    envvar="TASKAPI_TOKEN",
    metavar="TOKEN",
    help="The bearer token for --url; better in the environment as TASKAPI_TOKEN, or - to read it from standard input.",
)
def watch(task_id: str, url: str | None, token: str | None) -> None:
    """Follow a task until it ends: a live bar in a terminal, else a line for each change.

    \b
    Exit status:
      0    the task completed
      1    it failed
      2    it timed out
      3    nobody can tell: no such task, no database, no server, a wrong command line
      130  Ctrl-C
    """
    try:
        extras.need("cli", "`tasks watch`")
        from . import terminal

        snapshots = _changes(task_id) if url is None else remote.follow(url, task_id, _read_token(token))
        last = terminal.show(snapshots)
    except extras.MissingExtraError as error:
        raise CannotTellError(str(error)) from None
    except remote.CannotFollowError as error:
        raise CannotTellError(lines.printable(str(error))) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    if last is None or last["status"] not in EXIT_STATUS:
        raise CannotTellError(f"The task {task_id} was deleted.")
    raise SystemExit(EXIT_STATUS[last["status"]])


def _read_token(token: str | None) -> str:
    if token is None:
        raise CannotTellError("--url needs a token: --token, or TASKAPI_TOKEN in the environment.")
    return sys.stdin.readline().strip() if token == "-" else token  # noqa: S105


def _changes(task_id: str) -> Iterator[lines.Fields]:
    """The task as it is, and again after every change, until it has ended or is deleted."""
    store = current().store
    task = store.task(task_id)
    if task is None:
        raise CannotTellError(f"There is no task {lines.printable(task_id)}.")
    revision = None
    while task is not None:
        if task.revision != revision:
            revision = task.revision
            yield orjson.loads(task.json_for(True))
        if task.status.is_final:
            return
        time.sleep(LOOK_SECONDS)
        task = store.task(task_id)


@tasks.command()
@click.argument("task_id")
def cancel(task_id: str) -> None:
    """Cancel a task: end one that waits, and ask for the end of one that was started."""
    store = current().store
    task = store.task(task_id)
    if task is None:
        raise CannotTellError(f"There is no task {lines.printable(task_id)}.")
    if task.status.is_final:
        raise click.ClickException(f"The task has ended: {task.status}.")
    store.cancel(task)
    task = store.task(task_id) or task
    click.echo("Cancelled." if task.status is TaskStatus.FAILED else "Asked to stop.")


@tasks.command()
def reap() -> None:
    """Close the tasks that nobody is to wait for any longer, and print their ids.

    Those whose worker has stopped reporting, that were not started or finished in time, or whose worker does not react
    to a cancellation. A running server does it by itself; this is for cron.
    """
    closed = maintenance.reap(current().store, maintenance.limits_of(current().settings))
    for task in closed:
        click.echo(lines.printable(task.task_id))
    click.echo(f"{len(closed)} closed.", err=True)


@tasks.command()
@click.option(
    "--days", type=click.FloatRange(0, 36_500), required=True, help="Remove what ended longer ago; may be a fraction."
)
def prune(days: float) -> None:
    """Remove tasks that ended long ago, in small transactions; those that have not ended stay."""
    click.echo(f"{current().store.prune(days)} removed.")
