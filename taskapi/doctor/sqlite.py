"""What matters to an SQLite file alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..database.store import Store
from ..extras import is_installed
from .findings import Finding, note, well, wrong

# Whose locks and shared memory SQLite cannot trust (sqlite.org/wal.html).
OF_A_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre", "afs")
# A reader that was forgotten keeps the write-ahead log from starting over.
LONG_LOG_BYTES = 100_000_000


def description(store: Store) -> str:
    """Which file, and by which SQLite."""
    ((version,),) = store.reader.rows("SELECT sqlite_version()", {})
    return f"SQLite {version} reads and writes {store.url.database}."


def findings(store: Store) -> Iterator[Finding]:
    """Its place, its log, and how its changes are noticed."""
    path = Path(str(store.url.database)).resolve()
    yield _place(path)
    yield from _log(path, store.reader.rows("PRAGMA journal_mode", {})[0][0])
    if is_installed("inotify_simple"):
        yield well("feed", "Changes of the file are noticed at once, through inotify.")
    else:
        yield note("feed", "The file is looked at 50 times a second.", "pip install inotify_simple (on Linux).")


def _place(path: Path) -> Finding:
    kind = _filesystem(path)
    if kind in OF_A_NETWORK:
        return wrong(
            "file", f"{path} is on a network filesystem ({kind}).", "Move it to a local disk, or use PostgreSQL."
        )
    return well("file", f"{path.parent} is a local filesystem ({kind}).")


def _filesystem(path: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(place, kind) for place, kind in mounts if path.is_relative_to(place)]
    return max(around, key=lambda mount: len(mount[0]))[1]


def _log(path: Path, mode: str) -> Iterator[Finding]:
    if mode != "wal":
        yield wrong("log", f"The journal is in mode {mode}: readers and a writer wait for each other.",
                    "PRAGMA journal_mode = WAL, once, while nobody uses the file.")  # fmt: skip
    with contextlib.suppress(OSError):
        if (size := path.with_name(f"{path.name}-wal").stat().st_size) > LONG_LOG_BYTES:
            yield note(
                "log", f"The write-ahead log has {size // 10**6} MB.", "Some process keeps a read transaction open."
            )
