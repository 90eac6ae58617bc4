"""A JSON API: tokens of its own kind, key, users, blocklist, errors; and blueprints that are named as ours are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, jsonify, request
from flask_jwt_extended import JWTManager, create_access_token, current_user, get_jwt, jwt_required
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.exceptions import HTTPException

from taskapi import TaskAPI

db = SQLAlchemy()
tasks_api = TaskAPI(db=db)

users = Blueprint("users", __name__)
tasks = Blueprint("tasks", __name__, url_prefix="/tasks")
events = Blueprint("events", __name__, url_prefix="/events")
page = Blueprint("page", __name__)


class User(db.Model):  # type: ignore[name-defined, misc]
    """Somebody with an account."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    is_staff: Mapped[bool] = mapped_column(default=False)


class RevokedToken(db.Model):  # type: ignore[name-defined, misc]
    """A token that was good once."""

    id: Mapped[int] = mapped_column(primary_key=True)
    jti: Mapped[str] = mapped_column(index=True)


def create_app(config: Mapping[str, Any] | None = None, *, with_tasks: bool = True) -> Flask:
    """Build it; `HOST_…` in the environment is for gunicorn's."""
    app = Flask(__name__, static_folder="static")
    app.config.update(
        SECRET_KEY="conduit's secret, which nothing may change",
        SQLALCHEMY_DATABASE_URI=os.environ.get("HOST_DATABASE"),
        JWT_SECRET_KEY="conduit's own key, of more than thirty-two bytes",
        JWT_HEADER_TYPE="Token",
        JWT_VERIFY_SUB=False,  # the ids in its tokens are integers, as before PyJWT 2.10
        TASKAPI_ADMIN_CLAIM="staff",
    )
    app.config.update(config or {})
    db.init_app(app)
    Migrate(app, db)
    sign(app)
    app.register_error_handler(HTTPException, failed)
    app.register_error_handler(404, lost)
    app.register_error_handler(Exception, crashed)
    for blueprint in (users, tasks, events, page):
        app.register_blueprint(blueprint)
    if with_tasks:
        tasks_api.init_app(app)
    return app


def sign(app: Flask) -> None:
    """Tokens: what they say, who is known, what is said to everybody else."""
    jwt = JWTManager(app)
    jwt.user_identity_loader(lambda user: user.id)
    jwt.user_lookup_loader(lambda _header, claims: db.session.get(User, claims["sub"]))
    jwt.token_in_blocklist_loader(
        lambda _header, claims: db.session.scalar(db.select(RevokedToken).filter_by(jti=claims["jti"])) is not None
    )
    jwt.unauthorized_loader(lambda reason: (jsonify(errors={"token": [reason]}), 418))
    jwt.invalid_token_loader(lambda reason: (jsonify(errors={"token": [reason]}), 418))
    jwt.revoked_token_loader(lambda _header, _claims: (jsonify(errors={"token": ["revoked"]}), 418))
    jwt.user_lookup_error_loader(lambda _header, _claims: (jsonify(errors={"user": ["gone"]}), 418))


def failed(error: HTTPException) -> Any:
    return jsonify(errors={"body": [error.name]}), error.code


def crashed(_error: Exception) -> Any:
    return jsonify(errors={"body": ["Conduit has crashed"]}), HTTPStatus.INTERNAL_SERVER_ERROR


def lost(_error: HTTPException) -> Any:
    return jsonify(errors={"body": ["Conduit has nothing there"]}), HTTPStatus.NOT_FOUND


@users.post("/users/login")
def login() -> Any:
    user = db.session.scalars(db.select(User).filter_by(name=request.json["name"])).one()
    return jsonify(token=create_access_token(user, additional_claims={"staff": user.is_staff}))


@users.post("/users/logout")
@jwt_required()
def logout() -> Any:
    db.session.add(RevokedToken(jti=get_jwt()["jti"]))
    db.session.commit()
    return "", HTTPStatus.NO_CONTENT


@users.get("/user")
@jwt_required()
def me() -> Any:
    return jsonify(user={"id": current_user.id, "name": current_user.name})


@tasks.get("/<int:number>/status")
def status(number: int) -> Any:
    return jsonify(todo=number)


@events.get("/")
def upcoming() -> Any:
    return jsonify(events=[])


@page.get("/")
def page_() -> Any:
    return jsonify(pages=["about"])
