"""``pg-steadytext doctor``: look at every part, name what is wrong, and say what to do."""

from __future__ import annotations

from functools import partial

import typer

from pg_steadytext.cli import doctor_runtime, doctor_server
from pg_steadytext.cli.console import console, speaks_plainly
from pg_steadytext.cli.diagnosis import Check, Finding, carry_out
from pg_steadytext.cluster.installation import Installation


@speaks_plainly
def doctor() -> None:
    """Check packages, server, extension, services, models and disk; exit status 1 when something is wrong."""
    here = Installation.load()
    checks: dict[str, Check] = {
        "packages": partial(doctor_runtime.packages, here),
        "disk": partial(doctor_runtime.disk, here),
        "server": partial(doctor_server.server, here),
        "database": partial(doctor_server.database, here),
        "models": partial(doctor_runtime.models, here),
        "supervisor": partial(doctor_runtime.supervisor, here),
        "daemon": partial(doctor_runtime.daemon, here),
        "memory service": partial(doctor_runtime.memory, here),
        "enrichment queue": partial(doctor_runtime.enrichment_queue, here),
    }
    findings = list(carry_out(checks))
    for finding in findings:
        _show(finding)
    wrong = sum(not finding.ok for finding in findings)
    console.print(
        f"{wrong} of {len(findings)} checks found something wrong" if wrong else "everything is as it should be"
    )
    if wrong:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    mark, style = ("ok   ", "green") if finding.ok else ("WRONG", "red")
    console.print(mark, style=style, end=" ")
    console.print(f"{finding.subject}: {finding.detail}", markup=False, soft_wrap=True)
    if finding.remedy:
        console.print(f"      {finding.remedy}", markup=False, soft_wrap=True)
