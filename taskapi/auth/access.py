"""Who sent this request, and may they see this task?"""

from __future__ import annotations

from flask import current_app, request

from ..database.models import TASK_ID_LENGTH, Snapshot
from ..errors import ForbiddenError, NotFoundError
from ..state import behind, current
from . import tickets
from .identity import Identity, Task, TaskRule


def current_identity() -> Identity:
    """Whoever sent this request. Raises `UnauthorizedError`."""
    return current().identify()


def current_administrator() -> Identity:
    """The administrator who sent this request. Raises `UnauthorizedError`, `ForbiddenError`."""
    identity = current_identity()
    if not identity.is_admin:
        raise ForbiddenError("Only administrators may see everybody's tasks.")
    return identity


def stream_identity(stream: str) -> Identity:
    """Whoever opens this stream: by bearer token, else by ticket, else as with any request.

    Raises `UnauthorizedError`.
    """
    asked = behind(request)
    ticket = asked.args.get("ticket") if asked.query_string else None
    if ticket is None or tickets.has_bearer():
        return current_identity()
    return tickets.holder(current().ticket_key, stream, ticket)


def visible_task(task_id: str, identity: Identity) -> Snapshot:
    """Fetch a task that somebody may see. Raises `NotFoundError` or `ForbiddenError`."""
    return permitted(_task(task_id), identity)


def cancellable_task(task_id: str, identity: Identity) -> Snapshot:
    """Fetch a task that somebody may cancel. Raises `NotFoundError` or `ForbiddenError`."""
    return _permitted(_task(task_id), identity, current().rules.may_cancel)


def permitted(task: Snapshot | None, identity: Identity) -> Snapshot:
    """The task, if there is one and somebody owns it, is an administrator, or may see it by the application's rule.

    Raises `NotFoundError` or `ForbiddenError`.
    """
    return _permitted(task, identity, current().rules.may_see)


def can_be(task_id: str) -> bool:
    """Whether there may be a task with this id: the databases refuse to look for others."""
    return len(task_id) <= TASK_ID_LENGTH and "\0" not in task_id


def _task(task_id: str) -> Snapshot | None:
    return current().store.task(task_id) if can_be(task_id) else None


def _permitted(task: Snapshot | None, identity: Identity, rule: TaskRule | None) -> Snapshot:
    if task is None:
        raise NotFoundError("There is no such task.")
    if task.user_id == identity.user_id or identity.is_admin:
        return task
    # As Flask calls a view: a coroutine, which is true whatever it will say, would open everything.
    if rule is None or not current_app.ensure_sync(rule)(identity, Task.of(task)):
        raise ForbiddenError("This task belongs to somebody else.")
    return task
