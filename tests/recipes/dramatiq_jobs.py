"""Dramatiq: the web side makes the task, a worker process reports under its id, and tries again what broke off.

Run in this folder, with TASKAPI_DATABASE_URL set as for the server (and BROKER_URL, if RabbitMQ is elsewhere):
    dramatiq dramatiq_jobs --processes 1
    python -c "import dramatiq_jobs; print(dramatiq_jobs.start(123, '/usr/lib/python3'))"
"""

import os
import pathlib

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import CurrentMessage

from taskapi.progress import Progress, TaskClosed

dramatiq.set_broker(RabbitmqBroker(url=os.environ.get("BROKER_URL", "amqp://guest:guest@127.0.0.1")))
dramatiq.get_broker().add_middleware(CurrentMessage())
progress = Progress()  # connects when it is first used, so Dramatiq's processes and threads may share it


@dramatiq.actor(max_retries=2, min_backoff=500, throws=TaskClosed)  # what has ended is not tried again
def count_instructions(task_id: str, folder: str) -> None:
    again = CurrentMessage.get_current_message().options.get("retries", 0) < 2  # the last attempt decides
    with progress.run(task_id, retry=again) as task:
        files = task.track(sorted(pathlib.Path(folder).rglob("*.py")))
        task.result(f"{sum(len(compile(file.read_bytes(), file, 'exec').co_code) for file in files)} bytes of code")


def start(user_id: int, folder: str) -> str:
    """What a view calls. The row comes first: a worker may be faster than the next line."""
    task_id = progress.create(user_id=user_id, kind="count_instructions", status="queued")
    try:
        count_instructions.send(task_id, folder)
    except BrokerConnectionError:  # no broker
        with progress.run(task_id):
            raise  # leaves the task "failed", so that no bar waits for ever
    return task_id
