"""asyncio: `arun` starts and ends the task in a thread, and counting is free, so the event loop is never held up.

$ python asyncio_worker.py 123 /usr/lib/python3  # with TASKAPI_DATABASE_URL set as for the server
"""

import asyncio
import pathlib
import sys
import zlib

from taskapi.progress import Progress, current_task


async def compress(file: pathlib.Path) -> int:
    size = await asyncio.to_thread(lambda: len(zlib.compress(file.read_bytes())))
    current_task().advance()  # of the block from which this was started
    return size


async def main(user_id: int, folder: str) -> None:
    progress, files = Progress(), sorted(pathlib.Path(folder).rglob("*.py"))
    task_id = await progress.acreate(user_id=user_id, kind="compress", total_items=len(files))
    async with progress.arun(task_id) as task, asyncio.TaskGroup() as group:
        sizes = [group.create_task(compress(file)) for file in files]
        task.result(f"{sum([await size for size in sizes])} bytes")


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
