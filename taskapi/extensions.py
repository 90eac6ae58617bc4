"""The Flask extensions, unbound, and the current application's own parts."""

from __future__ import annotations

from flask import current_app
from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from werkzeug.local import LocalProxy

from .models import Base
from .store import Store
from .stream.broadcaster import Broadcaster
from .tokens import VerifiedTokens

db = SQLAlchemy(model_class=Base)
jwt = JWTManager()
migrate = Migrate()
store: Store = LocalProxy(lambda: current_app.extensions["taskapi.store"])  # type: ignore[assignment]
tokens: VerifiedTokens = LocalProxy(lambda: current_app.extensions["taskapi.tokens"])  # type: ignore[assignment]
broadcaster: Broadcaster = LocalProxy(lambda: current_app.extensions["taskapi.broadcaster"])  # type: ignore[assignment]
