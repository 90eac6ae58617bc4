"""A thread inside a Flask view: the view answers 202 at once, and Location says where to look.

Not under gevent, whose threads would hold up all other requests while they compute. With the server's settings:
    gunicorn --worker-class gthread --threads 8 --bind 127.0.0.1:8001 thread:app
    curl -i -X POST -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8001/checksums
"""

import hashlib
import os
import pathlib
import threading

from flask import Flask
from flask_jwt_extended import JWTManager, get_jwt_identity, jwt_required

from taskapi.progress import Progress

app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = os.environ["TASKAPI_JWT_SECRET_KEY"]  # the same tokens as taskapi's
JWTManager(app)
progress = Progress()


def hash_modules(task_id: str) -> None:
    with progress.run(task_id) as task:  # keeps the traceback of an exception, for which nobody else waits
        task.stage("hashing_modules")
        files = sorted(pathlib.Path(hashlib.__file__).parent.rglob("*.py"))
        sums = {hashlib.sha256(file.read_bytes()).digest() for file in task.track(files)}
        task.result(f"{len(sums)} different modules")


@app.post("/checksums")
@jwt_required()
def start() -> tuple[dict[str, str], int, dict[str, str]]:
    task_id = progress.create(user_id=int(get_jwt_identity()), kind="hash_modules")
    threading.Thread(target=hash_modules, args=[task_id]).start()
    return {"task_id": task_id}, 202, {"Location": f"/api/tasks/{task_id}/status"}
