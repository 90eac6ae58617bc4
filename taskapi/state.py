"""What one application holds; `current` finds it. Two applications in one process never meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Flask, current_app

from .auth.identity import Identity, Rules
from .background import Background
from .database.counts import Counts
from .database.store import Store
from .forecasts import Forecasts
from .overview import Overview
from .stream.broadcaster import Broadcaster

KEY = "taskapi"

Found = TypeVar("Found")


@dataclass(frozen=True)
class State:
    """The parts of one application."""

    settings: Mapping[str, Any]
    store: Store
    counts: Counts
    forecasts: Forecasts
    overview: Overview
    broadcaster: Broadcaster
    background: Background
    identify: Callable[[], Identity]
    rules: Rules
    ticket_key: str
    # Gives what the application holds for this request back to its pool, before the request waits.
    hand_back: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self.store.close()


class LazyState:
    """A state that is made when it is first asked for: the host's extensions may be bound after ours."""

    def __init__(self, make: Callable[[], State]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._state: State | None = None

    def get(self) -> State:
        """The state."""
        if self._state is None:
            with self._lock:
                self._state = self._state or self._make()
        return self._state


def state_of(app: Flask) -> State:
    """An application's parts."""
    lazy: LazyState = app.extensions[KEY]
    return lazy.get()


def current() -> State:
    """The current application's parts."""
    return state_of(behind(current_app))


def behind(proxy: Found) -> Found:
    """What one of Flask's proxies stands for now: each look through one takes as long as all that is done with it."""
    found: Found = proxy._get_current_object()  # type: ignore[attr-defined]
    return found
