"""The files that operators copy: alert rules, dashboard, units, containers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from harness import ROOT, environment, free_port, wait_until
from test_nginx import NGINX

from taskapi import metrics, prometheus

RECIPES = ROOT / "taskapi" / "docs" / "recipes"
BIN = Path(sys.executable).parent
OF_HISTOGRAMS = re.compile(r"_(bucket|sum|count)$")

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


@needs_promtool
def test_the_alert_rules_are_silent_while_all_is_well_and_speak_when_it_is_not(tmp_path: Path) -> None:
    for file in (RECIPES / "alerts.yml", ROOT / "tests" / "data" / "alerts_test.yml"):
        shutil.copy(file, tmp_path)

    checked = subprocess.run(["promtool", "check", "rules", tmp_path / "alerts.yml"], capture_output=True, text=True)
    tested = subprocess.run(["promtool", "test", "rules", tmp_path / "alerts_test.yml"], capture_output=True, text=True)

    assert (checked.returncode, tested.returncode) == (0, 0), checked.stderr + tested.stdout


def test_rules_and_dashboard_ask_for_nothing_that_is_not_there() -> None:
    exposed = prometheus.exposition([("deck", "queued", 1, 2.0)]).decode()
    assert metrics.polls  # by whose import all are there
    there = set(re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE))
    dashboard = json.loads((RECIPES / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    text = "\n".join([*asked, (RECIPES / "alerts.yml").read_text()])

    names = {OF_HISTOGRAMS.sub("", name) for name in re.findall(r"\btaskapi_[a-z_]+", text)}
    assert len(names) > 10
    assert names <= there


@needs_systemd
def test_the_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    for name in ("taskapi.service", "taskapi.socket"):
        unit = (RECIPES / name).read_text().replace("/opt/taskapi/bin", str(BIN))
        (tmp_path / name).write_text(unit)

    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_server_takes_a_socket_that_systemd_opened(database_url: str, engine: sa.Engine, tmp_path: Path) -> None:
    [command] = re.findall(
        r"^ExecStart=/opt/taskapi/bin/(.*)$", (RECIPES / "taskapi.service").read_text(), re.MULTILINE
    )
    address = f"127.0.0.1:{free_port()}"
    activate = ["systemd-socket-activate", "-l", address, *(f"-E{name}" for name in environment(database_url))]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*activate, str(BIN / command.split()[0]), *command.split()[1:]],
            cwd=ROOT, env=environment(database_url), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: _answers(address))
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    asked = subprocess.run(["curl", "-fsS", f"http://{address}/readyz"], capture_output=True, check=False)
    return asked.stdout == b'{"status":"ok"}'


def test_the_containers_start_what_the_package_has() -> None:
    compose: Any = yaml.safe_load((RECIPES / "compose.yaml").read_text())
    container = (RECIPES / "Containerfile").read_text()

    nodes = [service for service in compose["services"].values() if "build" in service]
    assert len(nodes) == 3
    for node in nodes:
        assert (RECIPES / node["build"]["context"]).resolve() == ROOT
        assert (ROOT / node["build"]["dockerfile"]).exists()
    for service in compose["services"].values():
        assert set(service.get("depends_on", [])) <= set(compose["services"])
    assert 'CMD ["gunicorn", "-c", "python:taskapi.gunicorn_conf", "taskapi.wsgi:app"' in container
    for name in re.search(r"^COPY ([^-].*) \./$", container, re.MULTILINE)[1].split():  # type: ignore[index]
        assert (ROOT / name).exists()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_the_containers_nginx_takes_its_configuration(tmp_path: Path) -> None:
    site = re.sub(r"node[12]:8000", "127.0.0.1:8000", (RECIPES / "compose-nginx.conf").read_text())
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid; events {{}} http {{ {site.replace('listen 80', 'listen 8080')} }}")

    done = subprocess.run([str(NGINX), "-t", "-p", tmp_path, "-c", config], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
