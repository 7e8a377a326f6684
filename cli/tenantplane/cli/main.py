"""`tenantplane`: the command line."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tenantplane.cli import apply as applying
from tenantplane.cli import doctor, entitlements, keys, ledger, limits, prompts
from tenantplane.cli.context import with_registry
from tenantplane.cli.local import demo as local_demo
from tenantplane.cli.local import dev as local_dev
from tenantplane.cli.output import console, fail
from tenantplane.core.apis.registry import ApiKeyRequest, PlaneRequest
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.registry import RegistryClient

app = typer.Typer(
    help="Tenants of an AI product: apply them, key them, look at them.",
    epilog="example: tenantplane apply -f examples/first/ && tenantplane get tenants",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
keys_app = typer.Typer(help="API keys of a tenant.", no_args_is_help=True)
planes_app = typer.Typer(help="Data planes.", no_args_is_help=True)
doctor_app = typer.Typer(help="Checks of what is installed.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(planes_app, name="planes")
app.add_typer(doctor_app, name="doctor")
app.add_typer(entitlements.app, name="entitlements")
app.add_typer(ledger.app, name="ledger")
app.add_typer(limits.app, name="limits")
app.add_typer(prompts.app, name="prompts")


class Kind(StrEnum):
    TENANTS = "tenants"
    PLANS = "plans"
    PLANES = "planes"


class Deletable(StrEnum):
    TENANT = "tenant"
    PLAN = "plan"


class Policy(StrEnum):
    RETAIN = "Retain"
    PURGE = "Purge"


@app.command()
def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="A manifest, or a folder of them.")],
    take_over: Annotated[
        bool, typer.Option(help="Take objects over from another writer, such as the operator.")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the data planes; 0: none.")] = 15,
) -> None:
    """Make the registry agree with manifests, the same that kubectl takes."""
    with_registry(
        lambda registry: applying.apply(registry, file, take_over=take_over, wait_seconds=wait)
    )


@app.command()
def get(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List tenants, plans or planes."""
    work = {
        Kind.TENANTS: applying.get_tenants,
        Kind.PLANS: applying.get_plans,
        Kind.PLANES: applying.get_planes,
    }[kind]
    with_registry(work)


@app.command()
def delete(
    kind: Annotated[Deletable, typer.Argument()],
    name: Annotated[str, typer.Argument()],
    policy: Annotated[
        Policy, typer.Option(help="What becomes of a tenant's data.")
    ] = Policy.RETAIN,
) -> None:
    """Delete a tenant or a plan."""
    with_registry(lambda registry: applying.delete(registry, kind, name, policy))


@keys_app.command("create")
def keys_create(
    org: Annotated[str, typer.Argument(help="The tenant.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "cli",
    user: Annotated[str, typer.Option(help="The user that the key acts as.")] = "service",
    roles: Annotated[str, typer.Option(help="Its roles, with commas: support,member.")] = "",
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=365)] = None,
) -> None:
    """Make a key; its secret is printed this once and kept nowhere."""
    request = ApiKeyRequest(
        name=name,
        user_id=user,
        roles=tuple(role.strip() for role in roles.split(",") if role.strip()),
        expires_in_seconds=expires_in_days * 86_400 if expires_in_days else None,
    )
    with_registry(lambda registry: keys.create(registry, org, request))


@keys_app.command("list")
def keys_list(org: Annotated[str, typer.Argument(help="The tenant.")]) -> None:
    """List keys, without their secrets."""
    with_registry(lambda registry: keys.show(registry, org))


@keys_app.command("revoke")
def keys_revoke(
    org: Annotated[str, typer.Argument()], key_id: Annotated[str, typer.Argument()]
) -> None:
    """Revoke a key: it is refused within a second."""
    with_registry(lambda registry: keys.revoke(registry, org, key_id))


@planes_app.command("create")
def planes_create(
    name: Annotated[str, typer.Argument()],
    endpoint: Annotated[str, typer.Option(help="Base URL at which tenants reach the plane.")],
    region: Annotated[str, typer.Option()] = "local",
) -> None:
    """Register a data plane; prints the token with which it enrols, once."""

    async def create(registry: RegistryClient) -> None:
        plane = await registry.put_plane(name, PlaneRequest(region=region, endpoint=endpoint))
        console.print(f"plane {plane.name} in {plane.region}; start it with")
        console.print(f"  TENANTPLANE_ENROLMENT_TOKEN={plane.enrolment_token}", markup=False)

    with_registry(create)


@doctor_app.command("db")
def doctor_db(
    local: Annotated[
        doctor.Plane | None, typer.Option(help="A database of 'tenantplane dev', running here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a document.")] = False,
) -> None:
    """Check that a plane's database keeps its tenants apart; exits 1 where a service would refuse.

    Without --local it is the database of TENANTPLANE_DATABASE__…, the plane's own variables.
    """
    raise typer.Exit(asyncio.run(doctor.run(doctor.settings_of(local), as_json=as_json)))


@app.command()
def demo(
    examples: Annotated[Path, typer.Option(help="Manifests to apply.")] = Path("examples/first"),
) -> None:
    """The main job on embedded servers, shown line by line; exits 0 when all of it held."""
    raise typer.Exit(asyncio.run(local_demo.run(examples)))


@app.command()
def dev(
    examples: Annotated[Path, typer.Option(help="Manifests to apply.")] = Path("examples/first"),
    port: Annotated[int, typer.Option(help="Data plane; the control plane has the next.")] = 8480,
) -> None:
    """Keep the planes running on embedded servers, and say what to try; Ctrl-C ends it."""
    raise typer.Exit(asyncio.run(local_dev.run(examples, port)))


def main() -> None:
    try:
        app()
    except TenantplaneError as error:
        fields = "".join(f"\n  {e.path}: {e.message}" for e in error.errors)
        sys.exit(fail(f"{error}{fields}"))


if __name__ == "__main__":
    main()
