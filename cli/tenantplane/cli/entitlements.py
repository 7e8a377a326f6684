"""`tenantplane entitlements`: what a tenant may use, and why or why not."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tenantplane.cli.context import with_registry
from tenantplane.cli.output import console, table
from tenantplane.core.apis.access import ExplanationView
from tenantplane.core.registry import RegistryClient

app = typer.Typer(
    help="What a tenant may use, and why or why not.",
    epilog="example: tenantplane entitlements explain acme notes --user-roles support",
    no_args_is_help=True,
)


class Kind(StrEnum):
    TOOL = "tool"
    MODEL = "model"
    PROMPT = "prompt"
    DATA_SOURCE = "data_source"


@app.command("list", epilog="example: tenantplane entitlements list acme")
def list_entitlements(org: Annotated[str, typer.Argument(help="The tenant.")]) -> None:
    """List all that a tenant may use; where roles are named, their holders alone."""

    async def show(registry: RegistryClient) -> None:
        view = await registry.entitlements(org)
        table(
            ("kind", "name", "version", "roles"),
            [(i.kind, i.name, i.version, ",".join(i.roles)) for i in view.items],
        )
        console.print(f"tenant {org} is {view.status}, by plan {view.plan}, version {view.version}")
        console.print(f"Why something is there or not: tenantplane entitlements explain {org} NAME")

    with_registry(show)


@app.command(
    epilog="example: tenantplane entitlements explain acme assistant-1 --kind model --key KEY_ID"
)
def explain(
    org: Annotated[str, typer.Argument(help="The tenant.")],
    name: Annotated[str, typer.Argument(help="A tool, model, prompt or data source.")],
    kind: Annotated[Kind, typer.Option(help="What it is.")] = Kind.TOOL,
    user_roles: Annotated[
        str | None, typer.Option(help="Roles of who would ask, with commas; '' for none.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="A user, by the roles of their keys.")] = None,
    key: Annotated[str | None, typer.Option(help="An API key, by its id.")] = None,
) -> None:
    """Say whether something is allowed, by which rows, and what to change; exits 1 where it is
    not."""
    if sum(option is not None for option in (user_roles, user, key)) > 1:
        raise typer.BadParameter("name one of --user-roles, --user and --key")
    found: list[ExplanationView] = []

    async def ask(registry: RegistryClient) -> None:
        found.append(
            await registry.explain(
                org, kind.value, name, roles=_roles(user_roles), key_id=key, user_id=user
            )
        )

    with_registry(ask)
    _print(found[0])
    raise typer.Exit(0 if found[0].allowed else 1)


def _roles(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(role.strip() for role in text.split(",") if role.strip())


def _print(view: ExplanationView) -> None:
    console.print(f"{'allowed' if view.allowed else 'not allowed'}: {view.reason}")
    console.print(view.message, markup=False)
    for row in view.rows:
        roles = f" for {', '.join(row.roles)}" if row.roles else ""
        console.print(f"  {row.effect} {row.name}{roles}  ({row.where})", markup=False)
    if view.hint:
        console.print(view.hint, markup=False)
