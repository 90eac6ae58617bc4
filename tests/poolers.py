"""pgbouncer, as a transaction pooler before PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters import Cluster
from harness import free_port


@contextmanager
def transaction_pooler(cluster: Cluster, log: Path) -> Iterator[str]:
    """The cluster's URL by way of a transaction pooler."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="taskapi-pooler-"))
    users, settings = folder / "users", folder / "pgbouncer.ini"
    users.write_text('"postgres" ""\n')
    settings.write_text(
        textwrap.dedent(
            f"""
            [databases]
            * = host=127.0.0.1 port={cluster.port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            pool_mode = transaction
            ignore_startup_parameters = extra_float_digits
            """
        )
    )
    become = []
    if os.geteuid() == 0:  # which pgbouncer refuses to be
        shutil.chown(folder, "postgres")
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with log.open("wb") as output:
        pooler = subprocess.Popen([*become, "pgbouncer", settings], stdout=output, stderr=output)
    try:
        yield cluster.url(port=port)
    finally:
        pooler.kill()
        pooler.wait()
        shutil.rmtree(folder)
