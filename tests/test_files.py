"""When an SQLite database's files are written to."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import wait_until

from taskapi.stream.feed.files import DatabaseFiles


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE numbers (number)")
    connection.close()
    return path


@pytest.fixture(params=["file", "link to the file", "link to the folder"])
def name(request: pytest.FixtureRequest, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the database is called."""
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    if request.param == "file":
        return database
    link.symlink_to(database if request.param == "link to the file" else database.parent)
    return link if request.param == "link to the file" else link / database.name


def test_a_commit_ends_the_wait(name: Path) -> None:
    noticed: list[bool] = []
    with DatabaseFiles(str(name)) as watched, sqlite3.connect(name) as connection:
        waiting = threading.Thread(target=lambda: noticed.append(watched.wait(30)))
        waiting.start()

        connection.execute("INSERT INTO numbers VALUES (1)")
        connection.commit()

        wait_until(lambda: noticed)
        waiting.join()
    connection.close()
    assert noticed == [True]


def test_other_files_of_the_folder_are_not_the_databases(database: Path) -> None:
    with DatabaseFiles(str(database)) as watched:
        (database.parent / "server.log").write_text("a line")

        assert not watched.wait(0.05)


@pytest.mark.parametrize("missing", ["library", "instances"])
def test_where_the_kernel_does_not_tell_waits_are_short(
    database: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "library":
        monkeypatch.setitem(sys.modules, "inotify_simple", None)
    else:
        monkeypatch.setattr("inotify_simple.INotify.__init__", _no_more_instances)

    with DatabaseFiles(str(database)) as watched:
        started = time.monotonic()

        assert not watched.wait(30)
        assert time.monotonic() - started < 5


def _no_more_instances(*_arguments: object, **_options: object) -> None:
    raise OSError(24, "Too many open files")
