"""What is said of one subject."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How it stands."""

    WELL = "ok"
    NOTE = "note"  # it works, and may be meant
    WRONG = "wrong"


class Finding(NamedTuple):
    """One sentence about a subject, and what to do."""

    subject: str
    verdict: Verdict
    sentence: str
    remedy: str = ""


def well(subject: str, sentence: str) -> Finding:
    """As it should be."""
    return Finding(subject, Verdict.WELL, sentence)


def note(subject: str, sentence: str, remedy: str) -> Finding:
    """It works, and may be meant."""
    return Finding(subject, Verdict.NOTE, sentence, remedy)


def wrong(subject: str, sentence: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(subject, Verdict.WRONG, sentence, remedy)
