"""`tenantplane prompts`: the catalogue's prompts and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from tenantplane.cli.context import with_registry
from tenantplane.cli.output import console, table
from tenantplane.core.apis.catalogue import CatalogueRequest, CatalogueView
from tenantplane.core.errors import InvalidInput
from tenantplane.core.registry import RegistryClient

app = typer.Typer(
    help="Prompts of the catalogue, in versions that never change.",
    epilog="example: tenantplane prompts put greeting -f greeting.txt",
    no_args_is_help=True,
)

PromptArgument = Annotated[str, typer.Argument(help="The prompt's name, such as support/greeting.")]


@app.command(epilog="example: tenantplane prompts put greeting -f greeting.txt")
def put(
    name: PromptArgument,
    file: Annotated[Path, typer.Option("-f", "--file", help="The text; at most 64 KiB.")],
    description: Annotated[str, typer.Option(help="What it is, for people.")] = "",
) -> None:
    """Make a new version, in force at once for all who may use the prompt."""
    request = _request(file, description)

    async def work(registry: RegistryClient) -> None:
        view = await registry.put_entry("prompt", name, request)
        word = "now" if view.changed else "unchanged,"
        console.print(f"prompt {name} is {word} version {view.version}")
        _next_step(view)

    with_registry(work)


@app.command("list", epilog="example: tenantplane prompts list")
def list_prompts() -> None:
    """List prompts with the version that is in force."""

    async def show(registry: RegistryClient) -> None:
        table(
            ("name", "version", "description"),
            [
                (e.name, e.version or "withdrawn", e.description)
                for e in await registry.entries("prompt")
            ],
        )

    with_registry(show)


@app.command(epilog="example: tenantplane prompts show greeting")
def show(name: PromptArgument) -> None:
    """Print the text in force, and who made which version when."""

    async def work(registry: RegistryClient) -> None:
        view = await registry.entry("prompt", name)
        table(
            ("version", "created", "by", "withdrawn"),
            [(v.version, v.created_at, v.created_by, v.withdrawn_at) for v in view.versions],
        )
        console.print(view.text or "", markup=False)

    with_registry(work)


@app.command(epilog="example: tenantplane prompts withdraw greeting --version 3")
def withdraw(
    name: PromptArgument,
    version: Annotated[int | None, typer.Option(min=1, help="This one; else all.")] = None,
) -> None:
    """Take a version out of force; the highest that is left takes its place."""

    async def work(registry: RegistryClient) -> None:
        view = await registry.withdraw_entry("prompt", name, version)
        left = f"version {view.version} is in force" if view.version else "none is in force"
        console.print(f"prompt {name}: {left}; tenants with a change: {view.signed}")

    with_registry(work)


def _next_step(view: CatalogueView) -> None:
    if view.signed:
        console.print(f"Tenants that have it within a second: {view.signed}")
    elif view.changed:
        console.print(
            f"No tenant got it: add {view.name} to entitlements.prompts of a plan, or to "
            "entitlements.prompts.allow of a tenant."
        )


def _request(file: Path, description: str) -> CatalogueRequest:
    """Raises InvalidInput."""
    try:
        return CatalogueRequest(description=description, text=file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}.", hint="Name a text file.") from None
    except ValidationError as error:
        raise InvalidInput(f"{file}: {error.errors()[0]['msg']}.") from None
