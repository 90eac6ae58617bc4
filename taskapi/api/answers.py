"""What is answered most often: a task, or that it has not changed."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.datastructures import Headers


class Answer(Response):
    """A response whose headers are sent as they are, which Werkzeug would copy, and check once more one by one."""

    default_mimetype = None

    def get_wsgi_headers(self, _environ: Any) -> Headers:
        """The length of the body stands among them since there is a body; a 304 has no other headers of a body's."""
        return self.headers
