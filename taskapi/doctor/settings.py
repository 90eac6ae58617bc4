"""What the settings, the installed packages and the process's limits allow."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from importlib.metadata import version

from .. import config, extras
from ..servers import KNOWN_GUNICORNS
from ..state import State
from .findings import Finding, note, well, wrong

# Below that, a process is full before its processor is.
FEW_DESCRIPTORS = 10_000


def findings(state: State) -> Iterator[Finding]:
    """Packages, keys, limits."""
    yield from _server()
    yield from _keys(state)
    yield from _limits()


def _server() -> Iterator[Finding]:
    if missing := [name for name in ("gunicorn", "gevent") if not extras.is_installed(name)]:
        yield note(
            "server",
            f"{' and '.join(missing)} cannot be imported here.",
            "Where the server runs: pip install 'taskapi[server]'. On other servers few streams are open at a time.",
        )
        return
    installed = version("gunicorn")
    if int(installed.partition(".")[0]) in KNOWN_GUNICORNS:
        yield well("server", f"gunicorn {installed} is one that streams were tried with.")
    else:
        known = f"{KNOWN_GUNICORNS[0]} to {KNOWN_GUNICORNS[-1]}"
        yield note("server", f"gunicorn {installed} was not tried: each stream costs a greenlet.", f"Use {known}.")


def _keys(state: State) -> Iterator[Finding]:
    kept = [path for name in ("jwt_secret_key", "secret_key") if (path := config.instance_path() / name).exists()]
    is_own = state.background.owns_schema
    for path in kept if is_own else []:
        if path.stat().st_mode & 0o077:
            yield wrong("keys", f"{path} can be read by others than its owner.", f"chmod 600 {path}")
    if is_own and not state.store.dialect.is_embedded and _is_kept(state):
        yield note(
            "keys",
            f"Tokens are checked with a key that was made on this machine ({kept[0]}).",
            "Every node needs the same one: set TASKAPI_JWT_SECRET_KEY, or TASKAPI_JWT_PUBLIC_KEY.",
        )
    else:
        yield well("keys", "The keys of tokens and tickets are there.")


def _is_kept(state: State) -> bool:
    path = config.instance_path() / "jwt_secret_key"
    return path.exists() and path.read_text() == state.settings["JWT_SECRET_KEY"]


def _limits() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FEW_DESCRIPTORS:
        yield note(
            "limits",
            f"A process started here may hold {hard} descriptors, and each stream is one.",
            "Raise the limit of the server's process: LimitNOFILE= of systemd, or ulimit -n.",
        )
    else:
        yield well("limits", f"A process started here may hold {hard} descriptors; each stream is one.")
    if not sys.platform.startswith("linux"):
        looked = "This is no Linux: while streams are open, an SQLite file is looked at 50 times a second, not watched."
        yield note("limits", looked, "Deploy on Linux.")
