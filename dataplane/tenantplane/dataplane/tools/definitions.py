"""What a tool is: functions that a model may call, with typed arguments, run for one tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from tenantplane.core.db.pool import Database
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.models.accounting import MeteredRun


class ToolArguments(BaseModel):
    """Root of arguments: what the schema does not name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs. `thread_id` is the stored form, `{org_id}::{uuid}`; `run` meters what
    the tool itself calls, and carries the snapshot that says what the org may use."""

    tenant: TenantContext
    thread_id: str
    database: Database
    run: MeteredRun


A = TypeVar("A", bound=ToolArguments)


@dataclass(frozen=True, slots=True)
class ToolFunction(Generic[A]):
    """One function; `run` returns the text that the model reads.

    It may raise ToolFailed with a message for the model; other errors are reported to it without
    their text.
    """

    name: str
    description: str
    arguments: type[A]
    run: Callable[[ToolContext, A], Awaitable[str]]
    # The tool that it belongs to, which has the price; set where tools are resolved.
    tool: str | None = None

    def schema(self) -> dict[str, Any]:
        """As OpenAI's `tools` parameter has it."""
        parameters = self.arguments.model_json_schema()
        parameters.pop("title", None)
        parameters.pop("description", None)
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": parameters,
            },
        }


@dataclass(frozen=True, slots=True)
class Tool:
    """What an entitlement names: it grants all its functions."""

    name: str
    functions: tuple[ToolFunction[Any], ...]


class ToolFailed(Exception):
    """A tool's own refusal; the text is for the model (never a secret in it)."""
