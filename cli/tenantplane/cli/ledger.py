"""`tenantplane ledger check | adopt`: runs the data plane's own command beside its database.

The books are the plane's: its database, its Valkey, its keys. So the command runs where those are,
with the plane's own variables, or with those of a local stack.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tenantplane.cli.context import Context
from tenantplane.cli.doctor import Plane, local_settings
from tenantplane.cli.local.secrets import StackSecrets
from tenantplane.cli.local.stack import state_folder
from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.valkey.embedded import EmbeddedValkey

app = typer.Typer(help="The ledger of a data plane.", no_args_is_help=True)

_LOCAL_PLANE = "shared-1"
LocalOption = Annotated[
    bool, typer.Option("--local", help="The plane of 'tenantplane dev', running here.")
]


@app.command("check")
def check(
    org: Annotated[str, typer.Argument(help="The tenant.")],
    local: LocalOption = False,
    repair: Annotated[bool, typer.Option(help="Put right what can be.")] = False,
    provider_report: Annotated[
        Path | None, typer.Option(help="CSV with call_id,cost_usd or day,model,cost_usd.")
    ] = None,
    without_control_plane: Annotated[
        bool, typer.Option(help="Where it cannot be reached.")
    ] = False,
) -> None:
    """Compare a tenant's books: Postgres, Valkey, control plane, provider; exits 1 where they differ.

    Without --local it is the plane of TENANTPLANE_…, its own variables.
    """
    arguments = ["check", org]
    arguments += ["--repair"] if repair else []
    arguments += ["--provider-report", str(provider_report)] if provider_report else []
    arguments += ["--without-control-plane"] if without_control_plane else []
    _run(arguments, local=local)


@app.command("adopt")
def adopt(local: LocalOption = False) -> None:
    """Bring back what a plane that was restored from a backup had reported before."""
    _run(["adopt"], local=local)


def _run(arguments: Sequence[str], *, local: bool) -> None:
    environment = os.environ | local_environment() if local else os.environ
    command = (sys.executable, "-m", "tenantplane.dataplane.main", "ledger", *arguments)
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


def local_environment() -> dict[str, str]:
    """The variables of the data plane of a running `tenantplane dev`. Raises ConfigurationRefused
    where none runs."""
    database = local_settings(Plane.DATA)
    folder = state_folder("dev")
    if not (folder / "context.json").exists():
        raise ConfigurationRefused(
            "The local stack has no context yet.", hint="Wait until 'tenantplane dev' is ready."
        )
    context = Context.model_validate_json((folder / "context.json").read_text())
    secrets = StackSecrets.of(folder / "secrets.json")
    prefix = "TENANTPLANE_DATABASE__"
    return {
        prefix + "APP_DSN": database.app_dsn.get_secret_value(),
        prefix + "SYSTEM_DSN": database.system_dsn.get_secret_value(),
        prefix + "CONTEXT_KEY_ID": database.context_key_id,
        prefix + "CONTEXT_KEY": database.context_key.get_secret_value(),
        "TENANTPLANE_VALKEY__URL": EmbeddedValkey(folder / "valkey").url,
        "TENANTPLANE_MASTER_KEY": secrets.data_master_key,
        "TENANTPLANE_CONTROL_PLANE_URL": context.control_plane_url,
        "TENANTPLANE_PLANE": _LOCAL_PLANE,
    }
