"""Puts the parts together."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Config, Flask, Response
from flask_cors import CORS

from . import cli, config, database, errors, schema
from .api import docs, events, health, metrics, page, tasks
from .extensions import db, jwt, migrate
from .store import Store
from .stream.broadcaster import Broadcaster
from .tokens import VerifiedTokens

# Descriptors that streams leave to everything else: requests under way, the database, files.
RESERVED_DESCRIPTORS = 1_100
# On every response; a page's own policy is the page's.
SECURITY_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]


def build(settings: Mapping[str, Any]) -> Flask:
    """Build the application; see `taskapi.create_app`."""
    app = Flask("taskapi", instance_relative_config=True)
    instance = Path(app.instance_path)
    app.config.update(config.load(instance, settings))
    config.add_keys(app.config, instance)
    # Not Flask's own SECRET_KEY: with one, Flask prepares a session for every request, and there are none here.
    app.config["TICKET_KEY"] = app.config.pop("SECRET_KEY")
    app.config["SECRET_KEY"] = None
    _configure_extensions(app.config)
    db.init_app(app)
    jwt.init_app(app)
    migrate.init_app(app, db, directory=str(schema.MIGRATIONS))
    if app.config["CORS_ORIGINS"]:
        _allow_origins(app)
    errors.init_app(app)
    for blueprint in (tasks.bp, events.bp, health.bp, metrics.bp, page.bp, docs.bp):
        app.register_blueprint(blueprint)
    cli.init_app(app)
    app.after_request(_add_security_headers)
    _open_database(app)
    return app


def _configure_extensions(settings: Config) -> None:
    url = settings["DATABASE_URL"]
    settings["SQLALCHEMY_DATABASE_URI"] = url
    settings["SQLALCHEMY_ENGINE_OPTIONS"] = database.engine_options(url)
    settings.setdefault("JWT_TOKEN_LOCATION", ["headers", "cookies"])


def _open_database(app: Flask) -> None:
    with app.app_context():
        engine = db.engine
    database.prepare(engine)
    schema.upgrade_embedded(engine)
    store = Store(engine)
    app.extensions["taskapi.tokens"] = VerifiedTokens()
    max_streams = app.config["MAX_STREAMS"] or _max_streams()
    app.extensions["taskapi.store"] = store
    app.extensions["taskapi.broadcaster"] = Broadcaster(store, max_streams, app.config["MAX_STREAMS_PER_USER"])


def _max_streams() -> int:
    """What the process's descriptor limit leaves for streams."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(limit - RESERVED_DESCRIPTORS, limit // 2)


def _allow_origins(app: Flask) -> None:
    CORS(
        app,
        resources=[r"/api/*", r"/static/*"],  # modules, too, are fetched with CORS
        origins=app.config["CORS_ORIGINS"],
        supports_credentials=True,
        allow_headers=["Authorization", "If-None-Match", "Last-Event-ID", "Prefer", "X-CSRF-TOKEN"],
        expose_headers=["ETag", "Link", "Location", "Preference-Applied", "Retry-After"],
        max_age=600,
    )


def _add_security_headers(response: Response) -> Response:
    response.headers.extend(SECURITY_HEADERS)
    return response
