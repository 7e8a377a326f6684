"""The OpenAI API: /v1/chat/completions, /v1/embeddings and /v1/models, plain ASGI behind the gate.

    model "assistant-1"        straight to the model: hold, intent, provider, outcome
    model "agent/assistant-1"  a supervisor with the org's tools; threads by metadata.thread_id

A stream's outcome is committed after its first token and before its `[DONE]`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from enum import Enum
from typing import Any

from tenantplane.core.apis.snapshot import ModelGrant, PromptGrant
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import InvalidInput, NotFound, TenantplaneError
from tenantplane.core.telemetry.attributes import RUN_ID
from tenantplane.core.telemetry.logging import Subject
from tenantplane.dataplane.api.asgi import (
    ClientGone,
    Receive,
    Scope,
    Send,
    read_body,
    send_json,
    send_piece,
    start,
    until_client_leaves,
)
from tenantplane.dataplane.api.chat_bodies import (
    Naming,
    agent_choice,
    finish_delta,
    model_list,
    run_headers,
    run_note,
    text_delta,
    usage_body,
)
from tenantplane.dataplane.api.embeddings import (
    embedding_call,
    embeddings_body,
    granted_model,
    parse_embeddings_request,
)
from tenantplane.dataplane.gate.allowed import allowed_model, allowed_prompt
from tenantplane.dataplane.gate.request import RequestTenant, request_run_id, request_tenant
from tenantplane.dataplane.gate.run_bounds import bounds_of, each_in_time, in_time
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.calls import Completed, ModelCall, Piece
from tenantplane.dataplane.models.chat import ChatRequest, parse_chat_request
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.models.slices import Slices
from tenantplane.dataplane.models.sse import DONE_EVENT, comment, event
from tenantplane.dataplane.runtime.memory import Memory
from tenantplane.dataplane.runtime.messages import from_client
from tenantplane.dataplane.runtime.settings import RuntimeSettings
from tenantplane.dataplane.runtime.supervisor import AgentAnswer, AgentRequest, Supervisor
from tenantplane.dataplane.runtime.threads import parse_thread_id
from tenantplane.dataplane.tools.definitions import Tool
from tenantplane.dataplane.tools.registry import BUILT_IN

CHAT_PATH = "/v1/chat/completions"
EMBEDDINGS_PATH = "/v1/embeddings"
MODELS_PATH = "/v1/models"


class Route(Enum):
    """All that is served here, by method and path: the isolation proofs enumerate it."""

    CHAT = ("POST", CHAT_PATH)
    EMBEDDINGS = ("POST", EMBEDDINGS_PATH)
    MODELS = ("GET", MODELS_PATH)
    MODEL = ("GET", MODELS_PATH + "/{name}")  # the name may contain slashes

    @classmethod
    def of(cls, method: str, path: str) -> Route:
        """Raises NotFound."""
        route = _FIXED.get((method, path))
        if route is not None:
            return route
        if method == "GET" and path.startswith(MODELS_PATH + "/"):
            return cls.MODEL
        raise NotFound(
            f"There is no {method} {path} here.",
            hint=f"Served are POST {CHAT_PATH}, POST {EMBEDDINGS_PATH} and GET {MODELS_PATH}.",
        )


_FIXED = {route.value: route for route in (Route.CHAT, Route.EMBEDDINGS, Route.MODELS)}


class OpenAIApi:
    """An ASGI application; the gate has set the tenant on each scope."""

    def __init__(
        self,
        *,
        meter: Meter,
        providers: Providers,
        database: Database,
        memory: Memory,
        settings: RuntimeSettings | None = None,
        tools: Sequence[Tool] = BUILT_IN,
        slices: Slices | None = None,
    ) -> None:
        """`memory` is started and stopped by who made it."""
        self._meter = meter
        self._slices = slices or Slices()
        self._providers = providers
        self._supervisor = Supervisor(database, memory, settings or RuntimeSettings(), tools)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant = request_tenant(scope)
        try:
            match Route.of(scope["method"], scope["path"]):
                case Route.CHAT:
                    await self._chat(scope, tenant, receive, send)
                case Route.EMBEDDINGS:
                    await self._embeddings(scope, tenant, receive, send)
                case Route.MODELS:
                    models = model_list(tenant.snapshot, tenant.context)
                    await send_json(send, 200, {"object": "list", "data": models}, {})
                case Route.MODEL:
                    await send_json(send, 200, _model(tenant, scope["path"]), {})
        except ClientGone:
            return

    async def _chat(
        self, scope: Scope, tenant: RequestTenant, receive: Receive, send: Send
    ) -> None:
        # Before the body is read: every chat begins with a call that counts as a request.
        self._meter.refusals.require_room(tenant.snapshot, tenant.context)
        request = parse_chat_request(await read_body(receive))
        grant = _grant(tenant, request)
        _check_combination(request)
        run = self._run(scope, tenant)
        answer = _Answer(send, request, run, Naming(run.run_id, request.model, int(time.time())))
        bounds = bounds_of(run.snapshot, run.tenant)
        with Subject({RUN_ID: run.run_id}):
            if request.is_agent:
                agent = _agent_request(request, grant, _prompt(run, request))
                events = each_in_time(self._supervisor.run(agent, run), bounds, run.clock)
                await until_client_leaves(receive, answer.agent(events))
            elif request.stream:
                pieces = each_in_time(run.stream(_model_call(request, grant)), bounds, run.clock)
                await until_client_leaves(receive, answer.stream(pieces))
            else:
                # Not ended when the client leaves: only its end says what it used.
                completed = run.complete(_model_call(request, grant))
                await answer.plain(in_time(completed, bounds, run.clock))

    async def _embeddings(
        self, scope: Scope, tenant: RequestTenant, receive: Receive, send: Send
    ) -> None:
        self._meter.refusals.require_room(tenant.snapshot, tenant.context)
        request = parse_embeddings_request(await read_body(receive))
        grant = granted_model(request, tenant.snapshot, tenant.context)
        run = self._run(scope, tenant)
        with Subject({RUN_ID: run.run_id}):
            try:
                made = await run.embed(embedding_call(request, grant))
            except TenantplaneError as refused:
                headers = _headers(run, with_cost=False) | refused.headers()
                await send_json(send, refused.status, refused.openai_error(), headers)
                return
        body = embeddings_body(request, made.vectors, made.tokens.input_tokens)
        await send_json(send, 200, body, _headers(run, with_cost=True))

    def _run(self, scope: Scope, tenant: RequestTenant) -> MeteredRun:
        return MeteredRun(
            self._meter,
            self._providers,
            tenant.context,
            tenant.snapshot,
            tenant.standing,
            run_id=request_run_id(scope),
            thread_id=None,
            slices=self._slices,
        )


class _Answer:
    """Answers one chat request; an error after the first byte becomes an event of the stream."""

    def __init__(self, send: Send, request: ChatRequest, run: MeteredRun, naming: Naming) -> None:
        self._send = send
        self._request = request
        self._run = run
        self._naming = naming
        self._started = False
        self._finished = False
        # Of a stream: what is written with the piece that follows.
        self._unsent: list[bytes] = []

    async def plain(self, call: Coroutine[Any, Any, Completed]) -> None:
        try:
            completed = await call
        except TenantplaneError as refused:
            await self._refuse(refused)
            return
        self._name_who_answers()
        body = self._naming.completion(completed.body["choices"], usage_body(self._run))
        await send_json(self._send, 200, body, _headers(self._run, with_cost=True))

    async def stream(self, pieces: AsyncGenerator[Piece | Completed, None]) -> None:
        try:
            async with aclosing(pieces):
                async for item in pieces:
                    if isinstance(item, Piece):
                        await self._pass_on(item)
                    else:
                        await self._end(item.answer.finish_reason or "stop")
        except TenantplaneError as refused:
            await self._refuse(refused)

    async def agent(self, events: AsyncGenerator[str | AgentAnswer, None]) -> None:
        try:
            async with aclosing(events):
                async for item in events:
                    if isinstance(item, AgentAnswer):
                        await self._end_agent(item)
                    elif item:
                        await self._chunk(text_delta(item, first=not self._started))
        except TenantplaneError as refused:
            await self._refuse(refused)

    async def _end_agent(self, answer: AgentAnswer) -> None:
        if self._request.stream:
            await self._end(answer.finish_reason)
            return
        body = self._naming.completion(
            agent_choice(answer.text, answer.finish_reason), usage_body(self._run)
        )
        body["tenantplane"] = run_note(self._run)
        await send_json(self._send, 200, body, _headers(self._run, with_cost=True))

    async def _pass_on(self, piece: Piece) -> None:
        choices = piece.chunk.get("choices")
        if not isinstance(choices, list) or not choices:
            return  # the chunk with usage alone: told at the end, and only to those who asked
        self._finished = self._finished or bool(piece.chunk["choices"][0].get("finish_reason"))
        await self._chunk(choices, more_now=piece.followed)

    async def _end(self, finish_reason: str) -> None:
        """What follows the last token; the outcome of each call is durable by now."""
        note = run_note(self._run)
        if not self._finished:
            await self._chunk(finish_delta(finish_reason), tenantplane=note)
        if self._request.wants_usage_chunk:
            await self._chunk([], usage=usage_body(self._run), tenantplane=note)
        self._unsent.append(comment("tenantplane " + _compact(note)) + DONE_EVENT)
        await self._flush(more=False)

    async def _chunk(self, choices: Any, *, more_now: bool = False, **fields: Any) -> None:
        if not self._started:
            self._started = True
            self._name_who_answers()
            headers = _headers(self._run, with_cost=False)
            await start(
                self._send, 200, "text/event-stream", {"cache-control": "no-store", **headers}
            )
        if self._request.wants_usage_chunk:
            fields.setdefault("usage", None)
        self._unsent.append(event(self._naming.chunk(choices) | fields))
        if not more_now:
            await self._flush()

    async def _flush(self, *, more: bool = True) -> None:
        unsent, self._unsent = b"".join(self._unsent), []
        await send_piece(self._send, unsent, more=more)

    def _name_who_answers(self) -> None:
        """A fallback answers in its own name; an agent is one whichever model it asks."""
        answered_by = self._run.answered_by
        if answered_by is None or self._request.is_agent:
            return
        if answered_by != self._naming.model:
            self._naming = self._naming._replace(model=answered_by)

    async def _refuse(self, refused: TenantplaneError) -> None:
        if not self._started:
            headers = _headers(self._run, with_cost=False) | refused.headers()
            await send_json(self._send, refused.status, refused.openai_error(), headers)
            return
        # No [DONE] follows: the official clients raise on an event with `error`.
        body = refused.openai_error() | {"tenantplane": run_note(self._run)}
        self._unsent.append(event(body))
        await self._flush(more=False)


def _headers(run: MeteredRun, *, with_cost: bool) -> dict[str, str]:
    return run_headers(run, with_cost=with_cost, openai=True)


def _grant(tenant: RequestTenant, request: ChatRequest) -> ModelGrant:
    grant = allowed_model(tenant.snapshot, tenant.context, request.grant_name)
    if grant is None or grant.kind != "chat":
        raise _no_such_model(request.model)
    return grant


def _model(tenant: RequestTenant, path: str) -> dict[str, Any]:
    name = path.removeprefix(MODELS_PATH + "/")
    for model in model_list(tenant.snapshot, tenant.context):
        if model["id"] == name:
            return model
    raise _no_such_model(name)


def _no_such_model(name: str) -> NotFound:
    # OpenAI's own answer: it does not tell a model that is not there from one not on the list.
    return NotFound(
        f"The model {name[:200]!r} does not exist or is not on your org's list.",
        hint=f"GET {MODELS_PATH} lists what is.",
        code="model_not_found",
    )


def _check_combination(request: ChatRequest) -> None:
    if request.is_agent:
        if request.tools is not None or request.tool_choice is not None:
            raise InvalidInput(
                "tools: an agent has the tools of its org's entitlements.",
                hint=f"Leave 'tools' out, or call model {request.grant_name!r} itself.",
            )
        return
    if request.metadata is None:
        return
    if request.prompt is not None:
        raise InvalidInput(
            "metadata.prompt: a plain model takes its system message from 'messages'.",
            hint=f"Call model 'agent/{request.grant_name}' for a prompt of your org's.",
        )
    if request.thread_id is not None:
        raise InvalidInput(
            "metadata.thread_id: a plain model keeps no thread.",
            hint=f"Call model 'agent/{request.grant_name}' for a conversation with state.",
        )


def _model_call(request: ChatRequest, grant: ModelGrant) -> ModelCall:
    return ModelCall(grant, request.wire_messages(), request.wire_options(), request.output_limit)


def _prompt(run: MeteredRun, request: ChatRequest) -> PromptGrant | None:
    """The one that is asked for. Raises NotFound, the same whether it is there or not."""
    if request.prompt is None:
        return None
    prompt = allowed_prompt(run.snapshot, run.tenant, request.prompt)
    if prompt is None:
        raise NotFound(
            f"The prompt {request.prompt[:200]!r} does not exist or is not on your org's list.",
            hint="Its plan can grant it: entitlements.prompts.",
            code="prompt_not_found",
        )
    return prompt


def _agent_request(
    request: ChatRequest, grant: ModelGrant, prompt: PromptGrant | None
) -> AgentRequest:
    thread_id = None if request.thread_id is None else parse_thread_id(request.thread_id)
    return AgentRequest(
        grant=grant,
        messages=from_client(request.messages),
        thread_id=thread_id,
        options=request.wire_options(),
        output_limit=request.output_limit,
        streaming=request.stream,
        prompt=prompt,
    )


def _compact(note: dict[str, Any]) -> str:
    return event(note).decode().removeprefix("data: ").rstrip("\n")
