"""Bodies of the OpenAI API as clients read them. Pure.

Shapes: platform.openai.com/docs/api-reference/chat/object, …/chat/streaming, …/models/object. What
is ours stands in one extra object, `tenantplane`, which the official clients keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import allowed_models
from tenantplane.dataplane.gate.rate_fields import openai_fields, window_fields
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.chat import AGENT_PREFIX


class Naming(NamedTuple):
    """How the answers of one request name themselves."""

    run_id: UUID
    model: str
    created_unix: int

    def completion(self, choices: JsonValue, usage: Mapping[str, JsonValue]) -> dict[str, Any]:
        return self._body("chat.completion", choices) | {"usage": usage}

    def chunk(self, choices: JsonValue) -> dict[str, Any]:
        return self._body("chat.completion.chunk", choices)

    def _body(self, kind: str, choices: JsonValue) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.run_id.hex}",
            "object": kind,
            "created": self.created_unix,
            "model": self.model,
            "choices": choices,
        }


def usage_body(run: MeteredRun) -> dict[str, JsonValue]:
    return {
        "prompt_tokens": run.input_tokens,
        "completion_tokens": run.output_tokens,
        "total_tokens": run.input_tokens + run.output_tokens,
    }


def run_note(run: MeteredRun) -> dict[str, JsonValue]:
    """The object `tenantplane`: what happened in this run, and where it is recorded."""
    note: dict[str, JsonValue] = {
        "run_id": str(run.run_id),
        "audit_records": [str(i) for i in run.record_ids],
        "cost_nanousd": run.cost_nanousd,
    }
    if run.failed_attempts:
        note["failed_attempts"] = [failure.note() for failure in run.failed_attempts]
        note["answered_by"] = run.answered_by
    if run.clamped_to is not None:
        note["output_clamped_to"] = run.clamped_to
    return note | ({"thread_id": run.thread_id} if run.thread_id else {})


def run_headers(run: MeteredRun, *, with_cost: bool, openai: bool = False) -> dict[str, str]:
    """Where a run's calls are recorded, and what the limits have left, for OpenAI's clients in its
    fields, too; none for a run that made no call."""
    if not run.record_ids:
        return {}
    headers = (openai_fields if openai else window_fields)(run.windows)
    headers["x-tenantplane-run-id"] = str(run.run_id)
    headers["x-tenantplane-audit-records"] = ",".join(map(str, run.record_ids))
    if run.clamped_to is not None:
        # A cap has no room for more: where the answer ends with `length`, that is why.
        headers["x-tenantplane-output-clamped-to"] = str(run.clamped_to)
    if run.thread_id:
        headers["x-tenantplane-thread-id"] = run.thread_id
    if with_cost:
        headers["x-tenantplane-cost-nanousd"] = str(run.cost_nanousd)
    return headers


def agent_choice(text: str, finish_reason: str) -> JsonValue:
    message: JsonValue = {"role": "assistant", "content": text, "refusal": None}
    return [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}]


def text_delta(text: str, *, first: bool) -> JsonValue:
    delta: dict[str, JsonValue] = {"role": "assistant"} if first else {}
    delta["content"] = text
    return [{"index": 0, "delta": delta, "finish_reason": None}]


def finish_delta(reason: str) -> JsonValue:
    return [{"index": 0, "delta": {}, "finish_reason": reason}]


def model_list(snapshot: Snapshot, tenant: TenantContext) -> list[dict[str, JsonValue]]:
    """Each model that the caller may use; those for chat also with a supervisor around them."""
    return [
        {
            "id": prefix + grant.name,
            "object": "model",
            "created": int(snapshot.issued_at.timestamp()),
            "owned_by": snapshot.org_id,
        }
        for grant in allowed_models(snapshot, tenant)
        for prefix in (("", AGENT_PREFIX) if grant.kind == "chat" else ("",))
    ]
