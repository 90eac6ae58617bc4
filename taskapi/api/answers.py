"""What is answered most often: a task, that it has not changed, its stream."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.datastructures import Headers


class Answer(Response):
    """A response whose headers are sent as they are, which Werkzeug would copy, and check once more one by one."""

    default_mimetype = None

    def get_wsgi_headers(self, _environ: Any) -> Headers:
        """What a body's length is, they say since it was given; and where there is none they say nothing of one."""
        return self.headers
