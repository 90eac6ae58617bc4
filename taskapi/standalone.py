"""The standalone service: the extension on an empty Flask application, with its own tokens and embedded database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from . import config, errors, extension, extras, routes
from .auth.identity import Rules
from .auth.jwt import OwnManager, OwnTokens
from .cli import service
from .database import schema
from .database.connections import url_for_sqlalchemy
from .database.store import Store
from .state import KEY, LazyState

MIGRATIONS = schema.VERSIONS.with_name("migrations")
API = "/api/tasks"
# On every response; a page's own policy is the page's.
SECURITY_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))


def build(settings: Mapping[str, Any]) -> Flask:
    """Build the application; see `taskapi.create_app`."""
    instance = config.instance_path()
    app = Flask("taskapi", instance_path=str(instance))
    loaded = config.load(instance, settings)
    loaded |= {"PAGE": True, "HEALTH": True, "DOCS": extras.has("docs"), "METRICS": extras.has("metrics")}
    config.add_keys(loaded, instance)
    url = url_for_sqlalchemy(loaded["DATABASE_URL"])
    # Not Flask's own SECRET_KEY: with one, Flask prepares a session for every request, and there are none here.
    app.config.update({**loaded, "SECRET_KEY": None, "SQLALCHEMY_DATABASE_URI": url})
    app.config.setdefault("JWT_TOKEN_LOCATION", ["headers", "cookies"])
    manager = OwnManager(app)
    Migrate(app, SQLAlchemy(app), directory=str(MIGRATIONS))
    if loaded["CORS_ORIGINS"]:
        # Modules, too, are fetched with CORS.
        routes.allow_origins(app, loaded["CORS_ORIGINS"], resources=[r"/api/*", r"/static/*"])
    errors.handle(app, routes.explain)
    app.register_blueprint(routes.blueprint(loaded, API, ""))
    app.before_request(routes.beginner(API))
    service.init_app(app)
    app.after_request(_add_security_headers)
    identify = OwnTokens(loaded["ADMIN_CLAIM"], manager)
    store = Store(loaded["DATABASE_URL"], hides_errors=loaded["ERROR_DETAILS"] == "admin")
    keys = extension.keys_of(app, loaded["SECRET_KEY"])
    state = extension.make_state(loaded, store, identify, Rules(), keys, owns_schema=True)
    app.extensions[KEY] = LazyState(lambda: state)
    return app


def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS:
        response.headers.add(name, value)
    return response
