"""`doctor`: what is wrong with an installation is said in sentences, by the command as it is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from clusters import Cluster
from harness import ROOT, Server, environment, free_port, insert, make_token, wait_until
from poolers import transaction_pooler

FLASK = str(Path(sys.executable).with_name("flask"))
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


class Report(NamedTuple):
    """What the command printed, by subject, and its exit status."""

    status: int
    verdicts: dict[str, str]
    text: str


def doctor(database_url: str, *arguments: str, before: tuple[str, ...] = ()) -> Report:
    command = [*before, FLASK, "taskapi", "doctor", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(database_url), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    found = [line.split(maxsplit=2)[:2] for line in done.stdout.splitlines() if not line.startswith(" ")]
    return Report(done.returncode, {subject: verdict for verdict, subject in found}, done.stdout)


def test_an_installation_that_works_is_said_to(server: Server, database_url: str, engine: sa.Engine) -> None:
    insert(engine, "a", status="running")

    report = doctor(database_url, "--url", f"http://127.0.0.1:{server.port}", "--token", make_token())

    assert {subject for subject, verdict in report.verdicts.items() if verdict == "wrong"} <= {"vacuum"}, report.text
    wanted = {
        "server",
        "keys",
        "limits",
        "database",
        "schema",
        "writing",
        "clock",
        "feed",
        "maintenance",
        "url",
        "token",
    }
    assert {subject for subject, verdict in report.verdicts.items() if verdict == "ok"} >= {*wanted, "stream"}
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT task_id FROM user_tasks").scalars().all() == ["a"]


@only_postgresql
def test_triggers_that_are_off_are_noticed(database_url: str, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE user_tasks DISABLE TRIGGER ALL")
    try:
        report = doctor(database_url)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE user_tasks ENABLE TRIGGER ALL")

    assert (report.status, report.verdicts["triggers"]) == (1, "wrong")


def test_tables_that_are_not_there_are_noticed(fresh_url: str) -> None:
    if fresh_url.startswith("sqlite"):
        Path(fresh_url.removeprefix("sqlite:///")).touch()

    report = doctor(fresh_url)

    assert (report.status, report.verdicts["schema"]) == (1, "wrong")
    assert "flask db upgrade" in report.text


@only_sqlite
def test_a_worker_that_died_where_no_server_runs_is_noticed(database_url: str, engine: sa.Engine) -> None:
    insert(engine, "dead", status="running", lease_expires_at="2020-01-01 00:00:00+00:00")

    report = doctor(database_url)

    assert report.verdicts["maintenance"] == "wrong"


@only_postgresql
@pytest.mark.skipif(not shutil.which("faketime"), reason="faketime is not installed")
def test_a_clock_that_is_wrong_is_noticed(database_url: str) -> None:
    report = doctor(database_url, before=("faketime", "-f", "-1h"))

    assert report.verdicts["clock"] == "wrong"
    assert "3600 s ahead of this machine's" in report.text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed")
def test_a_transaction_pooler_is_noticed(start_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = start_cluster()
    with transaction_pooler(cluster, tmp_path / "log") as url:
        subprocess.run([FLASK, "db", "upgrade"], cwd=ROOT, env=environment(cluster.url()), check=True)

        report = doctor(url)

    assert report.verdicts["feed"] == "wrong"
    assert "transaction pooler" in report.text


# What is in front of the server.

BUFFERED = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"
COMPRESSED = "gzip on; gzip_min_length 0; gzip_types text/event-stream; gzip_proxied any; gzip_http_version 1.0;"


@pytest.fixture
def behind(server: Server, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Put an nginx with a mistake in front; its URL."""
    started: list[subprocess.Popen[bytes]] = []

    def put(mistake: str) -> str:
        port, config = free_port(), tmp_path / "nginx.conf"
        paths = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
            f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; location / {{"
            f"proxy_pass http://127.0.0.1:{server.port}; {mistake} }} }} }}"
        )
        started.append(subprocess.Popen([str(NGINX), "-p", str(tmp_path), "-c", str(config)]))
        wait_until((tmp_path / "pid").exists)
        return f"http://127.0.0.1:{port}"

    yield put
    for process in started:
        process.terminate()
        process.wait()


@only_sqlite
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize(
    ("mistake", "subject", "words"),
    [
        (COMPRESSED, "stream", "compresses"),
        ("proxy_set_header Authorization '';", "token", "Does the proxy pass the Authorization header on"),
        ("return 302 /login;", "url", "a login page"),
        pytest.param(BUFFERED, "stream", "buffers", marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_in_front_of_the_server_is_noticed(
    behind: Callable[[str], str], engine: sa.Engine, database_url: str, mistake: str, subject: str, words: str
) -> None:
    insert(engine, "a", status="running")

    report = doctor(database_url, "--url", behind(mistake), "--token", make_token())

    assert report.verdicts[subject] == "wrong", report.text
    assert words in report.text
    assert make_token() not in report.text


@only_sqlite
def test_an_address_where_nobody_is_is_noticed(database_url: str) -> None:
    report = doctor(database_url, "--url", f"http://127.0.0.1:{free_port()}")

    assert (report.status, report.verdicts["url"]) == (1, "wrong")


def test_a_role_that_may_not_write_is_noticed(postgres_url: str) -> None:
    role = f"taskapi_reader_{os.getpid()}"
    engine = sa.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON user_tasks TO {role}")
    try:
        report = doctor(postgres_url.replace("postgres@", f"{role}@"))
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")
        engine.dispose()

    assert (report.status, report.verdicts["writing"]) == (1, "wrong")
    assert "permission denied" in report.text
