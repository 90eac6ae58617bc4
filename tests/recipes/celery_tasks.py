"""Celery: the web side makes the task, a worker process reports under its id, and tries again what broke off.

Run in this folder, with TASKAPI_DATABASE_URL set as for the server (and BROKER_URL, if RabbitMQ is elsewhere):
    celery -A celery_tasks worker
    python -c "import celery_tasks; print(celery_tasks.start(123, '/usr/lib/python3'))"
"""

import ast
import os
import pathlib

from celery import Celery, Task

from taskapi.progress import Progress, TaskClosed

app = Celery("celery_tasks", broker=os.environ.get("BROKER_URL", "amqp://guest:guest@127.0.0.1"))
progress = Progress()  # connects when it is first used, so Celery's forked processes may share it
again = {"autoretry_for": (Exception,), "dont_autoretry_for": (TaskClosed,), "max_retries": 2, "retry_backoff": True}
redelivered = {"acks_late": True, "reject_on_worker_lost": True}  # to another worker, if this one is killed


@app.task(bind=True, ignore_result=True, **again, **redelivered)  # what came of it is in the task's row
def count_functions(self: Task, task_id: str, folder: str) -> None:
    with progress.run(task_id, retry=self.request.retries < self.max_retries) as task:
        task.stage("counting_functions")
        files = sorted(pathlib.Path(folder).rglob("*.py"))
        nodes = (node for file in task.track(files) for node in ast.walk(ast.parse(file.read_bytes())))
        task.result(f"{sum(isinstance(node, ast.FunctionDef) for node in nodes)} functions")


def start(user_id: int, folder: str) -> str:
    """What a view calls. The row comes first: a worker may be faster than the next line."""
    task_id = progress.create(user_id=user_id, kind="count_functions", status="queued")
    try:
        count_functions.delay(task_id, folder)
    except count_functions.OperationalError:  # no broker
        with progress.run(task_id):
            raise  # leaves the task "failed", so that no bar waits for ever
    return task_id
