"""A small application of one factory, as Flask's tutorial builds it: sqlite3 in `g`, a user id in the session."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from flask import Blueprint, Flask, current_app, g, redirect, render_template, request, session
from flask.cli import with_appcontext

from taskapi import Identity, TaskAPI

bp = Blueprint("blog", __name__)
DATABASE = "diary.sqlite"


def create_app(config: Mapping[str, Any] | None = None, *, with_tasks: bool = True, **options: Any) -> Flask:
    """Build it; `options` are those of `TaskAPI.init_app`."""
    app = Flask(__name__, instance_path=os.environ.get("HOST_INSTANCE"), template_folder="templates/diary")
    app.config.from_mapping(SECRET_KEY="dev")
    app.config.update(config or {})
    Path(app.instance_path).mkdir(exist_ok=True)
    app.teardown_appcontext(close_database)
    app.cli.add_command(init_database)
    app.register_blueprint(bp)
    if with_tasks:
        tasks = TaskAPI()
        tasks.identity(who)
        tasks.init_app(app, **options)
    return app


def who() -> Identity | None:
    return Identity(session["user_id"], session.get("is_admin", False)) if "user_id" in session else None


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(Path(current_app.instance_path) / DATABASE)
    return g.database  # type: ignore[no-any-return]


def close_database(_error: BaseException | None = None) -> None:
    if (connection := g.pop("database", None)) is not None:
        connection.close()


@click.command("init-db")
@with_appcontext
def init_database() -> None:
    database().execute("CREATE TABLE IF NOT EXISTS post (id INTEGER PRIMARY KEY, title TEXT NOT NULL)")
    click.echo("Initialized the database.")


@bp.get("/")
def index() -> str:
    posts = database().execute("SELECT title FROM post ORDER BY id").fetchall()
    return render_template("index.html", posts=posts)


@bp.post("/login/<user_id>")
def login(user_id: str) -> Any:
    session.clear()
    session["user_id"] = int(user_id)
    return redirect("/")


@bp.get("/bar")
def bar() -> str:
    return render_template("bar.html", task_id=request.args["task"])
