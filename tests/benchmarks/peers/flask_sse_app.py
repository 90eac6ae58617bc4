"""flask-sse as its documentation shows it: a blueprint, and Redis between publisher and streams."""

import os

from flask import Flask, request
from flask_sse import sse

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["REDIS_URL"]
app.register_blueprint(sse, url_prefix="/stream")


@app.post("/publish")
def publish():
    sse.publish({"task": request.get_data(as_text=True)})
    return "", 204
