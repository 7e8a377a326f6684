"""`tenantplane doctor db`: whether a plane's database keeps its tenants apart, check by check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import SecretStr
from rich.text import Text

from tenantplane.cli.local.secrets import StackSecrets
from tenantplane.cli.local.stack import state_folder
from tenantplane.cli.output import console, table
from tenantplane.core.db.doctor import CHECKS, Finding
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.db.postgres_cluster import Cluster
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.settings import ServiceSettings


class Verdict(StrEnum):
    """Of one check. A service starts with warnings, and never with a refusal."""

    OK = "OK"
    WARN = "WARN"
    REFUSE = "REFUSE"
    SKIPPED = "SKIPPED"


_STYLES = {
    Verdict.OK: "green",
    Verdict.WARN: "yellow",
    Verdict.REFUSE: "red",
    Verdict.SKIPPED: "dim",
}


_SEVERITY = (Verdict.OK, Verdict.SKIPPED, Verdict.WARN, Verdict.REFUSE)


class Plane(StrEnum):
    """Whose database, of a local stack; the value is the database's name."""

    CONTROL = "control"
    DATA = "data"


class DoctorSettings(ServiceSettings):
    """The database as the plane's own environment describes it: TENANTPLANE_DATABASE__…"""

    database: DatabaseSettings


def settings_of(local: Plane | None) -> DatabaseSettings:
    """The database of a local stack's plane, else that of the environment.

    Raises ConfigurationRefused.
    """
    return local_settings(local) if local else DoctorSettings.from_environment().database


async def run(settings: DatabaseSettings, *, as_json: bool) -> int:
    """Prints all checks; returns 0, or 1 where one refuses. Raises DependencyUnavailable."""
    findings = await examine(settings)
    verdicts = verdicts_of(findings)
    if as_json:
        console.print_json(json.dumps(as_document(findings, verdicts)))
    else:
        _print(findings, verdicts)
    return 1 if Verdict.REFUSE in verdicts.values() else 0


async def examine(settings: DatabaseSettings) -> list[Finding]:
    """All findings, of a database that a service would refuse too. Raises DependencyUnavailable."""
    database = Database(settings, name="database")
    try:
        return await database.examine()
    finally:
        await database.close()


def verdicts_of(findings: Sequence[Finding]) -> dict[str, Verdict]:
    """Of each check, in order. With a wrong role nothing else is looked at: it would confuse."""
    verdicts = dict.fromkeys(CHECKS, Verdict.OK)
    for finding in findings:
        if finding.severity == "refuse":
            verdicts[finding.check] = Verdict.REFUSE
        elif verdicts[finding.check] is Verdict.OK:
            verdicts[finding.check] = Verdict.WARN
    if verdicts["roles"] is Verdict.REFUSE:
        for check, verdict in verdicts.items():
            if verdict is Verdict.OK:
                verdicts[check] = Verdict.SKIPPED
    return verdicts


def as_document(findings: Sequence[Finding], verdicts: dict[str, Verdict]) -> dict[str, Any]:
    """What `--json` prints: the worst `verdict`, and `checks` by name, each with `verdict`,
    `meaning` and `findings`."""
    return {
        "verdict": max(verdicts.values(), key=_SEVERITY.index),
        "checks": {
            check: {
                "verdict": verdicts[check],
                "meaning": CHECKS[check],
                "findings": [
                    {"severity": f.severity, "subject": f.subject, "message": f.message}
                    for f in findings
                    if f.check == check
                ],
            }
            for check in CHECKS
        },
    }


def local_settings(plane: Plane) -> DatabaseSettings:
    """The database of a running `tenantplane dev`. Raises ConfigurationRefused where none runs."""
    folder = state_folder("dev")
    running = Cluster(folder / "postgres").running() if (folder / "postgres").exists() else None
    if running is None or not (folder / "secrets.json").exists():
        raise ConfigurationRefused(
            "No local stack runs here.", hint="Start it with 'tenantplane dev'."
        )
    secrets = StackSecrets.of(folder / "secrets.json")
    roles = secrets.control if plane is Plane.CONTROL else secrets.data
    server = EmbeddedPostgres(folder / "postgres", running.port, password="")
    return DatabaseSettings(
        app_dsn=SecretStr(server.dsn(f"tp_{plane}_app", roles.app, plane)),
        system_dsn=SecretStr(server.dsn(f"tp_{plane}_system", roles.system, plane)),
        context_key_id="k1",
        context_key=SecretStr(roles.context_key),
    )


def _print(findings: Sequence[Finding], verdicts: dict[str, Verdict]) -> None:
    table(
        ("check", "verdict", "what holds"),
        [
            (check, Text(verdict, style=_STYLES[verdict]), CHECKS[check])
            for check, verdict in verdicts.items()
        ],
    )
    for finding in findings:
        verdict = Verdict.REFUSE if finding.severity == "refuse" else Verdict.WARN
        line = Text(f"{verdict:<7}", style=_STYLES[verdict])
        console.print(line.append(f"{finding.subject} {finding.message}", style="default"))
