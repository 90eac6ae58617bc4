"""Two applications behind one door: conduit, and the board below `/board` with a database of its own."""

from __future__ import annotations

import os
from typing import Any

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from . import board, conduit


def create_app() -> Any:
    second = board.create_app({"SQLALCHEMY_DATABASE_URI": os.environ["HOST_SECOND_DATABASE"]})
    return DispatcherMiddleware(conduit.create_app(), {"/board": second})
