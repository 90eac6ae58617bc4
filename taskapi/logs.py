"""gunicorn's log, and ours in it, as a JSON object a line: `TASKAPI_LOG_FORMAT=json`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.orjson import OrjsonFormatter

# Of gunicorn's access log: what each is called there. No query: tickets travel there.
ACCESS = {"remote": "h", "method": "m", "path": "U", "status": "s", "bytes": "B", "microseconds": "D"}
# What tells a request from all others, and joins it with what others log of it: given by the proxy in front, or by
# whoever traces (W3C Trace Context). Both are the client's own words.
REQUEST = {"request_id": "X-Request-ID", "traceparent": "traceparent"}
WORD_LENGTH = 200


class JsonLogger(Logger):  # type: ignore[misc]
    """gunicorn's own, with other lines."""

    def setup(self, cfg: Any) -> None:
        """Set up what gunicorn does."""
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(JsonFormatter())


class JsonFormatter(OrjsonFormatter):
    """`timestamp`, `level`, `logger`, `process` and `message`, and of which request it is."""

    def __init__(self) -> None:
        names = {"levelname": "level", "name": "logger"}
        super().__init__("%(levelname)s %(name)s %(process)d %(message)s", rename_fields=names, timestamp=True)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Add the fields of the request: of the one that is answered, or the one that the access log tells of."""
        super().add_fields(log_data, record, message_dict)
        if record.name == "gunicorn.access" and isinstance(record.args, Mapping):
            atoms = record.args
            log_data["message"] = f"{atoms['m']} {atoms['U']} {atoms['s']}"
            log_data.update({name: atoms[atom] for name, atom in ACCESS.items()})
            given = {name: atoms[f"{{{header.lower()}}}i"] for name, header in REQUEST.items()}
            log_data.update({name: word for name, word in given.items() if word != "-"})
        else:
            log_data.update(_of_request())

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """A line, whatever is logged: the name of a file need not be UTF-8, and a number may have more than 64 bits."""
        try:
            line: str = super().jsonify_log_record(log_data)
        except TypeError:
            told = {_text(name): _text(value) for name, value in log_data.items()}
            line = super().jsonify_log_record({**told, "process": log_data["process"]})
        return line


def _text(value: Any) -> str:
    """What any encoding can hold."""
    return str(value).encode(errors="backslashreplace").decode()


def _of_request() -> dict[str, str]:
    flask = sys.modules.get("flask")  # which this module must not be the first to import: gevent has not patched yet
    if flask is None or not flask.has_request_context():
        return {}
    headers = flask.request.headers
    return {name: headers[header][:WORD_LENGTH] for name, header in REQUEST.items() if header in headers}
