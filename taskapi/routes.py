"""The routes of one application, and what comes before each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, request

from . import config, errors, extras
from .api import cancellations, events, forecasts, health, lists, overview, tasks
from .site import page
from .state import behind, current, state_of

BRINGING = "`flask db upgrade` brings the tables, without Flask-Migrate `flask taskapi upgrade`."


class _Blueprint(Blueprint):
    """Its modules belong together: none is to be kept when the others have changed."""

    def get_send_file_max_age(self, filename: str | None) -> int:
        """Let browsers ask whether it is the same, however long they may keep the application's own files."""
        return 0


def blueprint(settings: dict[str, Any], prefix: str, site_prefix: str) -> Blueprint:
    """The routes of one application; page, docs, metrics and health as the settings say."""
    ours = _Blueprint("taskapi", __name__, static_folder="static", static_url_path=f"{prefix}/static")
    for part in (tasks.bp, lists.bp, overview.bp, forecasts.bp, cancellations.bp, events.bp):
        ours.register_blueprint(part, url_prefix=prefix)
    for part in _wanted(settings):
        ours.register_blueprint(part, url_prefix=site_prefix)
    errors.handle(ours, explain)
    return ours


def _wanted(settings: dict[str, Any]) -> Iterator[Blueprint]:
    """The parts that the settings ask for. Raises `MissingExtraError`."""
    if settings["HEALTH"]:
        yield health.bp
    if settings["PAGE"]:
        yield page.bp
    if settings["PAGE"] or settings["DOCS"]:
        from .site import description

        yield description.bp
    if settings["METRICS"]:
        extras.need("metrics", "TASKAPI_METRICS")
        from .api import metrics

        yield metrics.bp
    if settings["DOCS"]:
        extras.need("docs", "TASKAPI_DOCS")
        from .site import docs, documentation

        yield docs.bp
        yield documentation.bp


def allow_origins(target: Flask | Blueprint, origins: list[str], **options: Any) -> None:
    """Let pages of these origins call an application, or a blueprint's routes. Raises `ConfigError`."""
    try:
        from flask_cors import CORS
    except ImportError:
        raise config.ConfigError("TASKAPI_CORS_ORIGINS needs the package flask-cors.") from None
    CORS(
        target,
        origins=origins,
        supports_credentials=True,
        allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "Prefer", "X-CSRF-TOKEN"],
        expose_headers=["ETag", "Link", "Location", "Preference-Applied", "Retry-After"],
        max_age=600,
        **options,
    )


def beginner(prefix: str) -> Callable[[], Response | None]:
    """What is to come before any request: what runs beside them begins, and below our prefix errors are problems."""

    def begin() -> Response | None:
        app, asked = behind(current_app), behind(request)
        state = state_of(app)
        if not app.testing:  # then nothing runs beside it
            state.background.start()
        if asked.endpoint == "taskapi.static":
            # No secret: where a wall lets nobody pass who is not signed in, a bar must still be able to say so.
            return cast(Blueprint, app.blueprints["taskapi"]).send_static_file(**asked.view_args or {})
        refused = asked.routing_exception
        if refused is None or (refused.code or 500) < 400:
            return None
        is_ours = asked.path == prefix or asked.path.startswith(f"{prefix}/")
        return errors.http(refused) if is_ours else None

    return begin


def explain(error: Exception) -> str:
    """What went wrong with the current application's database, and what brings tables that it lacks."""
    store = current().store
    cause = store.explain(error)
    return f"{cause} {BRINGING}" if store.dialect.is_outdated(error) else cause
