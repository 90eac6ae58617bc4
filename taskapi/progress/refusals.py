"""What a database will never take of a report, and what it may take instead."""

from __future__ import annotations

from collections.abc import Iterator

from ..database.failures import RefusedError
from ..database.store import Report

# Said of data: a sum past 64 bits, a text for which the database's encoding has no bytes.
REFUSALS = (RefusedError, OverflowError, UnicodeError)


def acceptable(report: Report) -> Iterator[Report]:
    """A report as it is, then what a database may take in its place: first its words in ASCII, then without numbers."""
    unnumbered = report._replace(total_items=None, completed_items=None, advance=0)
    yield from (report, _in_ascii(report), unnumbered, _in_ascii(unnumbered))


def _in_ascii(report: Report) -> Report:
    def ascii_of(text: str | None) -> str | None:
        return text and text.encode("ascii", "backslashreplace").decode()

    return report._replace(
        stage=ascii_of(report.stage),
        result_message=ascii_of(report.result_message),
        error_details=ascii_of(report.error_details),
    )
