"""PostgreSQL clusters of a test's own: to stop, freeze, copy, kill, promote and slow down."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from harness import free_port, wait_until

# Debian keeps the server's own programs outside the PATH, a folder for each version.
PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
MISSING = "PostgreSQL's own programs are not in /usr/lib/postgresql"


class Cluster:
    """A PostgreSQL, empty or a streaming standby of another one, with settings of its own."""

    def __init__(self, copy_of: Cluster | None = None, **settings: str) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="taskapi-cluster-"))
        self._settings = {"fsync": "off", **settings}
        # PostgreSQL's programs refuse to run as root.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        shutil.chown(self._folder, self._user)
        if copy_of is None:
            self._make()
        else:
            self._copy(copy_of)
        self.start()

    def _make(self) -> None:
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D", self.data)
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.213.0.0/16 trust\n")

    def _copy(self, primary: Cluster) -> None:
        source = ("-h", "127.0.0.1", "-p", primary.port, "-U", "postgres")
        self._run("pg_basebackup", *source, "-D", self.data, "--write-recovery-conf", "-c", "fast", "--no-sync")

    @property
    def data(self) -> Path:
        return self._folder / "data"

    @property
    def log(self) -> Path:
        return self._folder / "log"

    def url(self, host: str = "127.0.0.1", port: int | None = None) -> str:
        return f"postgresql://postgres@{host}:{port or self.port}/postgres"

    def _run(self, program: str, *arguments: Any) -> None:
        assert PROGRAMS is not None, MISSING
        become = ["runuser", "-u", self._user, "--"] if os.geteuid() == 0 else []
        command = [*become, str(PROGRAMS / program), *map(str, arguments)]
        subprocess.run(command, cwd=self._folder, check=True, stdout=subprocess.DEVNULL)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-s", "-D", self.data, *arguments)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; its rows."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        settings = "".join(f" -c {name}={value}" for name, value in self._settings.items())
        self._control(
            "-l", str(self.log), "-o", f"-p {self.port} -k {self._folder} -c listen_addresses=*{settings}", "start"
        )

    def stop(self) -> None:
        """Stop at once, without a goodbye to clients; the next start recovers as after a crash."""
        self._control("-m", "immediate", "stop")

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """No server at all."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _processes(self) -> list[int]:
        """The server's processes, the first of which started the others; none of one that was killed."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        with contextlib.suppress(FileNotFoundError):
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            return [first, *map(int, children)]
        return []

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process stands still: connections stay open, and what is sent is acknowledged but never answered."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(processes):
                os.kill(process, signal.SIGCONT)

    def kill(self) -> None:
        """End every process by SIGKILL, as if the machine were gone."""
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_until(lambda: not self._processes())

    # A standby's life.

    def wait_for(self, primary: Cluster) -> None:
        """Wait until all that the primary has committed is here."""
        ((written,),) = primary.query("SELECT pg_current_wal_lsn()")
        wait_until(lambda: self.query(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == [(True,)])

    def stop_following(self) -> None:
        """Hear nothing more of the primary: what it commits from now on is lost with it."""
        self.query("ALTER SYSTEM SET primary_conninfo = ''")
        self.query("SELECT pg_reload_conf()")
        wait_until(lambda: self.query("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)])

    def promote(self) -> None:
        """Become the primary."""
        self._control("promote")

    def close(self) -> None:
        """End it and leave nothing behind: shared memory of a killed one goes with its next start."""
        if not self._processes():
            self.start()
        self.stop()
        shutil.rmtree(self._folder)
