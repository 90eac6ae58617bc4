"""The extension: `TaskAPI(app, db=db)` in an application that exists already."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app, has_app_context, url_for
from markupsafe import Markup
from sqlalchemy.orm import scoped_session

from . import config, hosting
from .api import cancellations, events
from .auth import forgery
from .auth.host import identify_by
from .auth.identity import Identity, Rules, Task
from .background import Background
from .cli import host as commands
from .database.connections import dialect_of, is_in_memory, own_url
from .database.counts import Counts
from .database.store import Store
from .forecasts import Forecasts
from .maintenance import limits_of
from .overview import Overview
from .progress.rows import new_row
from .routes import allow_origins, beginner, blueprint
from .state import KEY, LazyState, State, current
from .stream.broadcaster import Broadcaster
from .stream.streams import Places
from .stream.successors import Installation
from .transaction import after_commit

IdentityRule = TypeVar("IdentityRule", bound=Callable[[], Identity | None])
TaskRule = TypeVar("TaskRule", bound=Callable[[Identity, Task], bool])

# Descriptors that streams leave to everything else: requests under way, the database, files.
RESERVED_DESCRIPTORS = 1_100


class TaskAPI:
    """Progress of background tasks for a Flask application.

    `db`: the application's Flask-SQLAlchemy, whose database then has the table; without it `TASKAPI_DATABASE_URL`
    counts. Settings are the names that begin with `TASKAPI_` in `app.config`. Raises `taskapi.config.ConfigError`
    for a value that cannot be.
    """

    def __init__(self, app: Flask | None = None, *, db: Any = None, url_prefix: str | None = None) -> None:
        self._db = db
        self._url_prefix = url_prefix
        self.rules = Rules()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, url_prefix: str | None = None) -> None:
        """Add the routes, below `/api/tasks` unless `TASKAPI_URL_PREFIX` or `url_prefix` says otherwise."""
        given = self._url_prefix if url_prefix is None else url_prefix
        here = {} if given is None else {"TASKAPI_URL_PREFIX": given}
        settings = config.of_host({**app.config, **here}, Path(app.instance_path))
        prefix = settings["URL_PREFIX"]
        app.extensions[KEY] = LazyState(lambda: self._make(app, settings))
        ours = blueprint(settings, prefix, prefix)
        if settings["CORS_ORIGINS"]:
            allow_origins(ours, settings["CORS_ORIGINS"])
        app.register_blueprint(ours)
        app.add_template_global(task_progress)
        app.cli.add_command(commands.group)
        if self._db is not None:
            hosting.follow_metadata(self._db.metadata)
            if url := app.config.get("SQLALCHEMY_DATABASE_URI"):
                hosting.check_database(url)
        hosting.hide_from_autogenerate()
        # First of all: a host's own hooks may refuse, redirect, or open a session.
        app.before_request_funcs.setdefault(None, []).insert(0, beginner(prefix))

    def identity(self, rule: IdentityRule) -> IdentityRule:
        """Let a function without arguments say who sent the current request: an `Identity`, or None for nobody."""
        self.rules.identity = rule
        return rule

    def may_see(self, rule: TaskRule) -> TaskRule:
        """Let a function of an `Identity` and a task say whether others than owner and administrators may see it."""
        self.rules.may_see = rule
        return rule

    def may_cancel(self, rule: TaskRule) -> TaskRule:
        """The same for stopping it."""
        self.rules.may_cancel = rule
        return rule

    def create(
        self, *, user_id: int, on_commit: Callable[[str], object] | None = None, session: Any = None, **fields: Any
    ) -> str:
        """Create a task within the transaction of `session`, by default of `db.session`; its `task_id`.

        `fields` are those of `taskapi.progress.Progress.create`. The application's own rows and the task are
        committed together or not at all; only then is `on_commit` called with the `task_id`, and a rollback, of a
        savepoint too, drops both. Raises `TypeError` or `ValueError` for a value that cannot be, and what the
        session raises, such as `IntegrityError` for a `task_id` that is taken.
        """
        row = new_row(user_id=user_id, **fields)
        task_id: str = row["task_id"]
        session = self._db.session if session is None and self._db is not None else session
        if session is None:
            current().store.create(row)
            if on_commit is not None:
                on_commit(task_id)
            return task_id
        session = session() if isinstance(session, scoped_session) else session
        with session.no_autoflush:  # what the application has added is its own to write, and to answer for
            session.execute(sa.text(dialect_of(session.get_bind().engine.url).statements.insert), row)
        if on_commit is not None:
            after_commit(session, partial(on_commit, task_id))
        return task_id

    def _make(self, app: Flask, settings: dict[str, Any]) -> State:
        # A ticket is told to nobody but who asks for it; to cancel, the view looks for proof itself.
        forgery.exempt(app, events.task_ticket, events.my_ticket, cancellations.cancel, cancellations.cancel_many)
        key = settings["SECRET_KEY"] or _ticket_key(app)
        identify = identify_by(app, self.rules, settings["ADMIN_CLAIM"])
        store = self._store(app, settings)
        keys = keys_of(app, key)
        state = make_state(settings, store, identify, self.rules, keys, owns_schema=self._db is None)
        return state if self._db is None else replace(state, hand_back=self._hand_back)

    def _hand_back(self) -> None:
        """Let the application's session give its connection back; its objects stay usable.

        Not while it holds changes: they are the application's to write, or not.
        """
        session = self._db.session
        if not (session.new or session.dirty or session.deleted):
            session.rollback()

    def _store(self, app: Flask, settings: dict[str, Any]) -> Store:
        """On connections of our own, unless an application's memory is all there is."""
        hides_errors = settings["ERROR_DETAILS"] == "admin"
        if self._db is None:
            return Store(settings["DATABASE_URL"], hides_errors=hides_errors)
        is_here = has_app_context() and current_app == app
        with nullcontext() if is_here else app.app_context():  # a server's hook comes before any request
            engine = self._db.engine
        memory = engine if is_in_memory(engine.url) else None
        return Store(own_url(engine.url), memory=memory, hides_errors=hides_errors)


def keys_of(app: Flask, ticket_key: str) -> tuple[str, ...]:
    """The keys by which an application knows its users: the first signs tickets."""
    return (ticket_key, *(str(app.config.get(name)) for name in ("JWT_SECRET_KEY", "JWT_PUBLIC_KEY")))


def make_state(
    settings: dict[str, Any],
    store: Store,
    identify: Callable[[], Identity],
    rules: Rules,
    keys: tuple[str, ...],
    *,
    owns_schema: bool,
) -> State:
    """Put the parts of one application together; `keys` as of `keys_of`."""
    outlook = Forecasts(store)
    streams = Places(settings["MAX_STREAMS"] or _max_streams(), settings["MAX_STREAMS_PER_USER"])
    broadcaster = Broadcaster(store, outlook, streams, settings["MAX_WAITS_PER_USER"], settings["MAX_THREAD_STREAMS"])
    installation = None if is_in_memory(store.url) else Installation((str(store.url), settings["URL_PREFIX"]), keys)
    background = Background(
        store, broadcaster, limits_of(settings), installation, owns_schema=owns_schema, has_metrics=settings["METRICS"]
    )
    counts, overview = Counts(store), Overview(store)
    return State(settings, store, counts, outlook, overview, broadcaster, background, identify, rules, keys[0])


def task_progress(task_id: str, label: str = "", *, cancel: bool = False, notify: bool = False) -> Markup:
    """For templates: the element of a task, with the buttons it is to have, and the module that defines it."""
    module = url_for("taskapi.static", filename="task-progress.js")
    status, *_ = url_for("taskapi.tasks.status", task_id=task_id).split("?")  # which the application may add to all
    source = status.removesuffix("/status")
    buttons = " cancel" * cancel + " notify" * notify
    tag = Markup('<script type="module" src="{}"></script><task-progress src="{}" label="{}"{}></task-progress>')
    return tag.format(module, source, label, buttons)


def _ticket_key(app: Flask) -> str:
    secret = app.secret_key or app.config.get("JWT_SECRET_KEY")
    if not secret:
        raise config.ConfigError("TASKAPI_SECRET_KEY, or the application's SECRET_KEY, must sign stream tickets.")
    return config.derived_key(secret)


def _max_streams() -> int:
    """What the process's descriptor limit leaves for streams."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(limit - RESERVED_DESCRIPTORS, limit // 2)
