"""`python -m taskapi …`: the commands that `flask …` has in a checkout, wherever the package is installed."""

from __future__ import annotations

from flask.cli import ScriptInfo

from .wsgi import app

if __name__ == "__main__":
    app.cli.main(prog_name="python -m taskapi", obj=ScriptInfo(create_app=lambda: app))
