"""The model as the supervisor holds it: metered, with the org's tools bound and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import JsonValue

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.calls import Completed, ModelCall
from tenantplane.dataplane.runtime.messages import from_answer, to_wire
from tenantplane.dataplane.tools.registry import ResolvedTools


@dataclass(frozen=True, slots=True)
class SupervisedModel:
    grant: ModelGrant
    options: Mapping[str, Any]
    output_limit: int | None = None
    audited: Mapping[str, JsonValue] = field(default_factory=dict)

    def bind_tools(self, tools: ResolvedTools) -> SupervisedModel:
        """The same model, told of these functions alone."""
        if not tools:
            return self
        schemas = [function.schema() for function in tools.values()]
        return replace(self, options={**self.options, "tools": schemas})

    async def answer(
        self,
        run: MeteredRun,
        messages: Sequence[BaseMessage],
        emit: Callable[[str], None] | None,
    ) -> AIMessage:
        """One metered call; `emit` gets the text as it comes."""
        call = ModelCall(
            self.grant, to_wire(messages), self.options, self.output_limit, self.audited
        )
        if emit is None:
            return from_answer((await run.complete(call)).answer)
        async with aclosing(run.stream(call)) as stream:
            async for item in stream:
                if isinstance(item, Completed):
                    return from_answer(item.answer)
                emit(item.text)
        raise AssertionError("a metered stream ends with its outcome")
