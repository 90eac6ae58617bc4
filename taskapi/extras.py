"""The optional parts: which of the package's extras brings what they need."""

from __future__ import annotations

from importlib.util import find_spec

# Of what each extra brings, what our own modules cannot be imported without.
PACKAGES = {
    "server": ("flask_cors", "flask_jwt_extended", "flask_migrate", "flask_sqlalchemy"),
    "postgresql": ("psycopg",),
    "cli": ("rich",),
    "docs": ("flask_swagger_ui", "markdown_it"),
    "metrics": ("prometheus_client",),
}


class MissingExtraError(ImportError):
    """What a part needs is not installed; the text says how to get it."""


def has(extra: str) -> bool:
    """Whether what an extra brings is installed."""
    return not _missing(extra)


def is_installed(package: str) -> bool:
    """Whether a package is there; imports nothing."""
    return find_spec(package) is not None


def need(extra: str, what: str) -> None:
    """Insist on what an extra brings, for a part named `what`. Raises `MissingExtraError`."""
    if missing := _missing(extra):
        raise MissingExtraError(f"{what} needs {', '.join(missing)}: pip install 'taskapi[{extra}]'")


def _missing(extra: str) -> list[str]:
    return [package for package in PACKAGES[extra] if not is_installed(package)]
