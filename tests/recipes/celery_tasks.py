"""Celery with Redis: the web side makes the task, a worker process reports under its id.

Run in this folder, with TASKAPI_DATABASE_URL set as for the server (and REDIS_URL, if Redis is elsewhere):
    celery -A celery_tasks worker
    python -c "import celery_tasks; print(celery_tasks.start(123, '/usr/lib/python3'))"
"""

import ast
import os
import pathlib

from celery import Celery

from taskapi.progress import Progress

app = Celery("celery_tasks", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
progress = Progress()  # connects when it is first used, so Celery's forked processes may share it


@app.task(ignore_result=True)  # what came of it is in the task's row
def count_functions(task_id: str, folder: str) -> None:
    with progress.run(task_id) as task:
        task.stage("counting_functions")
        count = 0
        for file in task.track(sorted(pathlib.Path(folder).rglob("*.py"))):
            count += sum(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(file.read_bytes())))
        task.result(f"{count} functions")


def start(user_id: int, folder: str) -> str:
    """What a view calls. The row comes first: a worker may be faster than the next line."""
    task_id = progress.create(user_id=user_id, kind="count_functions", status="queued")
    try:
        count_functions.delay(task_id, folder)
    except count_functions.OperationalError:  # no broker
        with progress.run(task_id):
            raise  # leaves the task "failed", so that no bar waits for ever
    return task_id
