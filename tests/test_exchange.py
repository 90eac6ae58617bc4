"""Questions to PostgreSQL under gevent, where a wait must stop nobody else."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = """
from gevent import monkey

monkey.patch_all()

import gevent, sys, time
from sqlalchemy.engine import make_url
from taskapi.database import connections, exchange
from taskapi.database.failures import DatabaseError
from taskapi.database.reader import Reader

exchange.ANSWER_SECONDS = 1.0
reader = Reader(connections.own_url(make_url(sys.argv[1])))
beats = []


def beat():
    while True:
        beats.append(time.monotonic())
        gevent.sleep(0.01)


gevent.spawn(beat)
for _ in range(15):
    reader.rows("SELECT pg_sleep(0.1)", {})
print("together longer than one may take")
try:
    reader.rows("SELECT pg_sleep(30)", {})
except DatabaseError:
    print("given up")
assert 50 < len(beats) and beats[-1] - beats[0] < 20
print(reader.rows("SELECT :word, CAST(:number AS bigint)", {"word": "ü:x", "number": 2**63 - 1}))
"""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_each_answer_has_its_own_time_and_other_greenlets_go_on(database_url: str) -> None:
    asked = subprocess.run([sys.executable, "-c", ASK, database_url], capture_output=True, text=True, timeout=60)

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines() == [
        "together longer than one may take",
        "given up",
        f"[('ü:x', {2**63 - 1})]",
    ]
