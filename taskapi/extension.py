"""The extension: `TaskAPI(app, db=db)` in an application that exists already."""

from __future__ import annotations

import hashlib
import hmac
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, request
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from . import config, errors
from .api import events, health, metrics, tasks
from .auth.identity import Identity, Rules, Task
from .background import Background
from .database.connections import dialect_of, open_engine
from .database.store import Store
from .site import docs, page
from .state import KEY, LazyState, State, current
from .stream.broadcaster import Broadcaster
from .stream.hub import Places

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
        settings = config.of_host(app.config, Path(app.instance_path))
        prefix = url_prefix or self._url_prefix or settings["URL_PREFIX"]
        app.extensions[KEY] = LazyState(lambda: self._make(app, settings))
        app.register_blueprint(blueprint(settings, prefix, prefix))

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

    def _make(self, app: Flask, settings: dict[str, Any]) -> State:
        url = settings["DATABASE_URL"] if self._db is None else _own_url(self._db.engine.url)
        key = settings["SECRET_KEY"] or _derived_key(app)
        return make_state(settings, url, identify_by(app, settings, self.rules), self.rules, key, owns_schema=False)


def blueprint(settings: dict[str, Any], prefix: str, site_prefix: str) -> Blueprint:
    """The routes of one application; page, docs, metrics and health as the settings say."""
    ours = Blueprint("taskapi", __name__)
    for part in (tasks.bp, events.bp):
        ours.register_blueprint(part, url_prefix=prefix)
    wanted = {"HEALTH": health.bp, "METRICS": metrics.bp, "PAGE": page.bp, "DOCS": docs.bp}
    for name, part in wanted.items():
        if settings[name]:
            ours.register_blueprint(part, url_prefix=site_prefix)
    errors.handle(ours, explain)

    def begin() -> Response | None:
        if not current_app.testing:  # then nothing runs beside it
            current().background.start()
        refused = request.routing_exception
        if refused is None or not request.path.startswith(f"{prefix}/") or (refused.code or 500) < 400:
            return None
        return errors.http(refused)

    ours.before_app_request(begin)
    return ours


def explain(error: SQLAlchemyError) -> str:
    """What went wrong with the current application's database."""
    return current().store.explain(error)


def make_state(
    settings: dict[str, Any],
    url: URL,
    identify: Callable[[], Identity],
    rules: Rules,
    ticket_key: str,
    *,
    owns_schema: bool,
) -> State:
    """Put the parts of one application together."""
    store = Store(open_engine(url))
    streams = Places(settings["MAX_STREAMS"] or _max_streams(), settings["MAX_STREAMS_PER_USER"])
    broadcaster = Broadcaster(store, streams, settings["MAX_WAITS_PER_USER"], settings["MAX_THREAD_STREAMS"])
    background = Background(store, broadcaster, settings["LEASE_SECONDS"], owns_schema=owns_schema)
    return State(settings, store, broadcaster, background, identify, rules, ticket_key)


def identify_by(app: Flask, settings: dict[str, Any], rules: Rules) -> Callable[[], Identity]:
    """Who is asking: what the application's own rule says, else its Flask-JWT-Extended."""
    if rules.identity is not None:
        rule = rules.identity

        def identify() -> Identity:
            found = rule()
            if found is None:
                raise errors.UnauthorizedError("Please sign in.")
            return found

        return identify
    if "flask-jwt-extended" not in app.extensions:
        raise config.ConfigError("taskapi cannot tell who is asking: use @tasks.identity, or Flask-JWT-Extended.")
    from .auth.jwt import Tokens

    return Tokens(settings["ADMIN_CLAIM"])


def _own_url(url: URL) -> URL:
    """The address for connections of our own, by the driver that we know."""
    return url.set(drivername="postgresql+psycopg") if dialect_of(url).name == "postgresql" else url


def _derived_key(app: Flask) -> str:
    secret = app.secret_key or app.config.get("JWT_SECRET_KEY")
    if not secret:
        raise config.ConfigError("TASKAPI_SECRET_KEY, or the application's SECRET_KEY, must sign stream tickets.")
    key = secret.encode() if isinstance(secret, str) else bytes(secret)
    return hmac.new(key, b"taskapi stream tickets", hashlib.sha256).hexdigest()


def _max_streams() -> int:
    """What the process's descriptor limit leaves for streams."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(limit - RESERVED_DESCRIPTORS, limit // 2)
