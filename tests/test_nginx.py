"""Behind nginx, with the configuration that the documentation gives."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness import ROOT, EventStream, Server, free_port, insert, make_token, update, wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Start = Callable[..., Server]


class Nginx:
    """nginx in front of a server that may come and go."""

    def __init__(self, backend: str, folder: Path, patience: str = "60s") -> None:
        self.port = free_port()
        self.access_log, self.error_log = folder / "taskapi.log", folder / "error.log"
        page = (ROOT / "taskapi" / "docs" / "deployment.md").read_text()
        [shown] = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
        site = shown.replace("127.0.0.1:8000", backend)
        site = site.replace("/var/log/nginx", str(folder)).replace("read_timeout 60s", f"read_timeout {patience}")
        site = re.sub(r"ssl_certificate[^\n]*", "", site)
        site = re.sub(r"listen 443 ssl http2;[^\n]*", f"listen 127.0.0.1:{self.port};", site)
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {self.error_log} info;\n"
            f"worker_rlimit_nofile 20000; events {{ worker_connections 10000; }}\n"
            f"http {{ access_log off;\n{paths}{site}}}\n"
        )
        self.process = subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)

    def stream(self, path: str, **headers: str) -> EventStream:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return EventStream(self.port, path, {"Authorization": f"Bearer {make_token()}", **names})

    def status(self, path: str) -> int:
        stream = self.stream(path)
        stream.close()
        return stream.status

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def behind_nginx(start_server: Start, tmp_path: Path, engine: sa.Engine) -> Iterator[tuple[Server, Nginx]]:
    server = start_server()
    nginx = Nginx(f"127.0.0.1:{server.port}", tmp_path)
    wait_until(lambda: nginx.process.poll() is not None or can_connect(nginx))
    yield server, nginx
    nginx.close()


def can_connect(nginx: Nginx, status: int = 200) -> bool:
    try:
        return nginx.status("/healthz") == status
    except OSError:
        return False


@only_sqlite
def test_a_stream_comes_through_nginx_frame_by_frame(behind_nginx: tuple[Server, Nginx], engine: sa.Engine) -> None:
    _, nginx = behind_nginx
    insert(engine, "a")
    stream = nginx.stream("/api/tasks/a/events")
    first = stream.next()

    update(engine, "a", progress=40)
    second = stream.next()
    update(engine, "a", status="completed")
    ending = stream.rest()
    again = nginx.stream("/api/tasks/a/events", Last_Event_ID=ending[0].id)
    stream.close()
    again.close()

    assert (first.json["progress"], second.json["progress"]) == (0, 40)
    assert [event.name for event in ending] == ["message", "done"]
    assert again.status == 204


@only_sqlite
def test_while_the_server_is_away_nginx_asks_the_browser_to_come_back(
    behind_nginx: tuple[Server, Nginx], engine: sa.Engine
) -> None:
    server, nginx = behind_nginx
    insert(engine, "a")
    server.stop()

    away = nginx.stream("/api/tasks/a/events")
    events = away.rest()
    away.close()

    assert (away.status, away.headers["Content-Type"]) == (200, "text/event-stream")
    assert [event.retry for event in events] == [1500]
    assert nginx.status("/api/tasks/a/status") == 503


@only_sqlite
def test_a_client_that_leaves_nginx_is_freed_by_the_server(
    start_server: Start, tmp_path: Path, engine: sa.Engine
) -> None:
    server = start_server(MAX_STREAMS_PER_USER=1)
    nginx = Nginx(f"127.0.0.1:{server.port}", tmp_path)
    wait_until(lambda: can_connect(nginx))
    insert(engine, "a")
    try:
        for _ in range(3):
            stream = wait_until(lambda: free_stream(nginx))
            stream.close()
    finally:
        nginx.close()


def free_stream(nginx: Nginx) -> EventStream | None:
    stream = nginx.stream("/api/tasks/a/events")
    if stream.next().name == "message":
        return stream
    stream.close()
    return None


@pytest.fixture(params=["refuses", "has no socket", "hangs up", "is silent"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a server that is away, each in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        if request.param == "hangs up":
            threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        elif request.param == "refuses":
            listener.close()
        yield f"unix:{tmp_path}/no.socket" if request.param == "has no socket" else address
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def hang_up(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_no_ticket_reaches_a_log_of_nginx_while_the_server_is_away(tmp_path: Path, away: str) -> None:
    nginx = Nginx(away, tmp_path, patience="1s")
    try:
        wait_until(lambda: can_connect(nginx, 503))
        streams = [nginx.stream(f"/api/tasks/{path}/events?ticket=hunter2") for path in ("a", "users/me")]
        retries = [[event.retry for event in stream.rest()] for stream in streams]
    finally:
        nginx.close()

    for stream in streams:
        stream.close()
    assert retries == [[1500], [1500]]
    assert "GET /api/tasks/users/me/events" in nginx.access_log.read_text()
    assert "GET /healthz" in nginx.error_log.read_text(), "why the server is away is still told"
    assert "hunter2" not in nginx.access_log.read_text() + nginx.error_log.read_text()
