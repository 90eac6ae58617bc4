"""A site of pages: signed in by a session, forms protected against forgery, a wall that sends strangers to sign in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click
from flask import Blueprint, Flask, Response, abort, current_app, g, redirect, render_template, request, url_for
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy.orm import Mapped, Session, mapped_column
from werkzeug.exceptions import HTTPException

from taskapi import Identity, TaskAPI

db = SQLAlchemy()
login = LoginManager()
csrf = CSRFProtect()
tasks = TaskAPI(db=db)
bp = Blueprint("board", __name__)


class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
    """Somebody with an account, in a team."""

    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str | None]


def create_app(config: Mapping[str, Any] | None = None, *, with_tasks: bool = True) -> Flask:
    """Build it; `HOST_…` in the environment is for gunicorn's. `WALL_AROUND_TASKS`: the wall knows nothing of us."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="board's secret, which nothing may change",
        SQLALCHEMY_DATABASE_URI=os.environ.get("HOST_DATABASE"),
        WALL_AROUND_TASKS="HOST_WALL" in os.environ,
    )
    app.config.update(config or {})
    for extension in (db, login, csrf):
        extension.init_app(app)
    app.register_blueprint(bp)
    app.before_request(open_session)
    app.before_request(wall)
    app.after_request(brand)
    app.teardown_request(close_session)
    for code in (403, 404, 405, 500):
        app.register_error_handler(code, failed)
    app.cli.add_command(greet)
    if with_tasks:
        tasks.init_app(app)
    return app


@tasks.identity
def who() -> Identity | None:
    return Identity(current_user.id) if current_user.is_authenticated else None


@tasks.may_see
def is_of_the_team(identity: Identity, task: Any) -> bool:
    viewer, owner = (db.session.get(User, user_id) for user_id in (identity.user_id, task.user_id))
    return viewer is not None and owner is not None and None is not viewer.team == owner.team


@login.user_loader
def load_user(user_id: str) -> User | None:
    return db.session.get(User, int(user_id))


def open_session() -> None:
    g.session = Session(db.engine)


def close_session(_error: BaseException | None) -> None:
    if (session := g.pop("session", None)) is not None:
        session.close()


def wall() -> Any:
    ours = "taskapi" in request.blueprints and not current_app.config["WALL_AROUND_TASKS"]
    if ours or current_user.is_authenticated or request.endpoint in (None, "static", "board.sign_in"):
        return None
    return redirect(url_for("board.sign_in", next=request.path))


def brand(response: Response) -> Response:
    response.headers["X-Board"] = "1"
    return response


def failed(error: HTTPException) -> Any:
    return render_template("board/error.html", error=error), error.code


@click.command("greet")
def greet() -> None:
    click.echo("Hello from the board.")


@bp.get("/")
def index() -> str:
    return render_template("board/index.html", mine=request.args.getlist("task"))


@bp.route("/login", methods=["GET", "POST"])
def sign_in() -> Any:
    if request.method == "GET":
        return render_template("board/login.html")
    login_user(g.session.get(User, int(request.form["user"])) or abort(403))
    return redirect("/")


@bp.post("/logout")
def sign_out() -> Any:
    logout_user()
    return redirect("/")


@bp.get("/forbidden")
def forbidden() -> str:
    abort(403)


@bp.get("/broken")
def broken() -> str:
    raise RuntimeError("the board's own trouble")
