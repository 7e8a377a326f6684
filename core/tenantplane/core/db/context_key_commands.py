"""`context-key install | retire | list`: the commands of both planes that rotate the context key.

Run by an administrator with the owner's DSN; docs/how-to/rotate-the-context-key.md is the way.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, SecretStr

from tenantplane.core.db.proof import PROOF_LIFE_SECONDS
from tenantplane.core.errors import InvalidInput
from tenantplane.core.settings import ServiceSettings

if TYPE_CHECKING:
    from tenantplane.core.db.context_keys import ContextKeyRow

_HELP: Final = "install, retire and list the keys that sign tenant contexts, as owner"


class ContextKeySettings(ServiceSettings):
    """What `context-key` reads."""

    owner_dsn: SecretStr  # libpq DSN of the role owner, which the running service never has
    # Hex of the 32 bytes to install; for `context-key install` alone.
    new_context_key: Annotated[SecretStr | None, Field()] = None


def add_context_key_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Adds `context-key …` to a plane's commands; each sets `run`, a coroutine function of the
    parsed arguments. The database is the one of TENANTPLANE_OWNER_DSN."""
    parser = commands.add_parser("context-key", help=_HELP)
    parser.set_defaults(command="context-key")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    installing = actions.add_parser(
        "install", help="make the key in TENANTPLANE_NEW_CONTEXT_KEY valid, beside the others"
    )
    installing.add_argument("key_id", help="its name: a-z, 0-9, '_' and '-'")
    installing.set_defaults(run=_install)
    retiring = actions.add_parser("retire", help="end a key that no service signs with any more")
    retiring.add_argument("key_id")
    retiring.add_argument(
        "--after",
        type=float,
        default=PROOF_LIFE_SECONDS,
        metavar="SECONDS",
        help="when it ends; proofs that it made live %(default)s s (%(default)s)",
    )
    retiring.set_defaults(run=_retire)
    listing = actions.add_parser("list", help="all keys, and how long each is valid")
    listing.set_defaults(run=_list)


# psycopg is imported when a command runs: `--help` need not wait for it.


async def _install(chosen: argparse.Namespace) -> None:
    from tenantplane.core.db.context_keys import install_context_key  # noqa: PLC0415

    settings = ContextKeySettings.from_environment()
    try:
        given = settings.new_context_key.get_secret_value() if settings.new_context_key else ""
        await install_context_key(
            settings.owner_dsn.get_secret_value(), chosen.key_id, bytes.fromhex(given)
        )
    except ValueError as bad:
        raise InvalidInput(
            "The context key cannot be installed: its name takes 1 to 32 characters of a-z, 0-9, "
            "'_' and '-', its value is 64 hexadecimal digits.",
            hint="Set TENANTPLANE_NEW_CONTEXT_KEY to what `openssl rand -hex 32` prints.",
        ) from bad
    print(f"context key {chosen.key_id} is valid")


async def _retire(chosen: argparse.Namespace) -> None:
    from tenantplane.core.db.context_keys import retire_context_key  # noqa: PLC0415

    if not 0 <= chosen.after < float("inf"):
        raise InvalidInput("--after takes seconds from now, 0 or more.")
    settings = ContextKeySettings.from_environment()
    await retire_context_key(
        settings.owner_dsn.get_secret_value(), chosen.key_id, after=timedelta(seconds=chosen.after)
    )
    print(f"context key {chosen.key_id} ends in {chosen.after:.0f} s")


async def _list(_: argparse.Namespace) -> None:
    from tenantplane.core.db.context_keys import context_keys  # noqa: PLC0415

    settings = ContextKeySettings.from_environment()
    for key in await context_keys(settings.owner_dsn.get_secret_value()):
        print(f"{key.key_id:<32} installed {key.installed_at:%Y-%m-%d %H:%M:%S%z}  {until(key)}")


def until(key: ContextKeyRow) -> str:
    """How long a key is valid, in words."""
    if not key.valid:
        return "retired"
    if key.seconds_left is None:
        return "valid"
    return f"ends in {key.seconds_left:.0f} s"
