"""What an operator would look at, and says in sentences what is wrong and what to do; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ..state import State
from . import database, proxy, settings
from .findings import Finding

__all__ = ["Finding", "examine"]


def examine(state: State, url: str | None, token: str | None) -> Iterator[Finding]:
    """Look at the settings, the database and, where it is given, the service behind a URL, as clients reach it."""
    yield from settings.findings(state)
    yield from database.findings(state)
    if url is not None:
        yield from proxy.findings(url.rstrip("/"), state.settings["URL_PREFIX"], token)
