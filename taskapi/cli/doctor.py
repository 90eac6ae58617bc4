"""`doctor`: what is wrong with an installation, and what to do, in sentences."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..doctor import Finding, examine
from ..doctor.findings import Verdict
from ..state import current
from .lines import printable

COLORS = {Verdict.WELL: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "red"}


@click.command()
@click.option("--url", metavar="URL", help="The service as its clients reach it, to look at what is in between.")
@click.option("--token", envvar="TASKAPI_TOKEN", metavar="TOKEN", help="A bearer token for --url, or TASKAPI_TOKEN.")
@with_appcontext
def doctor(url: str | None, token: str | None) -> None:
    """Look at database, schema, grants, clock, change feed, keys and limits, and say what is wrong and what to do.

    Nothing is changed. With --url also at what is in front of the server: a login page, a proxy that buffers streams.
    Run it where the server runs, as the user that it runs as. The exit status is 1 if anything is wrong.
    """
    found = []
    for finding in examine(current(), url, token):
        found.append(finding.verdict)
        _print(finding)
    if Verdict.WRONG in found:
        raise SystemExit(1)


def _print(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict:<5}", fg=COLORS[finding.verdict])
    click.echo(f"{verdict}  {finding.subject:<11}  {printable(finding.sentence)}")
    if finding.remedy:
        click.echo(f"{'':20}{printable(finding.remedy)}")
