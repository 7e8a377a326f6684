"""Each call of a run is held and intended before it is made, and settled whatever becomes of it.

    open (hold, intent) → provider → outcome committed → the caller sees the end of the answer

What if the process dies between two of these: before the intent no call was made; after it the
sweeper settles the worst case. A call that does not stream goes on to its end when its caller goes
away; streams are in models/streaming.py. Where there is no room under a cap for all that a call
could cost, it is held for less, and the model is told to end there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.events import CallKind
from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.money import ZERO, NanoUSD
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import WindowUse
from tenantplane.dataplane.gate.run_bounds import RunClock, bounds_of, require_room
from tenantplane.dataplane.ledger.calls import CallRequest, Receipt, Usage
from tenantplane.dataplane.ledger.meter import Meter, OpenCall
from tenantplane.dataplane.models import embeddings, prices
from tenantplane.dataplane.models.answer import Answer
from tenantplane.dataplane.models.calls import Completed, Embedded, EmbeddingCall, ModelCall, Piece
from tenantplane.dataplane.models.fallbacks import fallback_models
from tenantplane.dataplane.models.prices import CallBound, TokenCount
from tenantplane.dataplane.models.prompts import measure_prompt, measure_texts
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.models.resilience import Attempt, Attempts, FailedAttempt
from tenantplane.dataplane.models.slices import Cover, Slices
from tenantplane.dataplane.models.streaming import MeteredStream
from tenantplane.dataplane.models.usage import (
    audited,
    usage_of,
    usage_of_answer,
    usage_of_failure,
)

T = TypeVar("T")
_Call = TypeVar("_Call", ModelCall, EmbeddingCall)

# The hold outlives the provider's time-out by this: outcome and settling come after the call.
SETTLING_SECONDS = 15.0


@dataclass(slots=True)
class MeteredRun:
    """All calls of one user request: numbered, metered, summed up. Used by one task at a time.

    `snapshot` is the request's own, whose prices hold to its end; `standing` gives the one in
    force, whose limits hold for each next call, or raises where the run must not go on.
    """

    meter: Meter
    providers: Providers
    tenant: TenantContext
    snapshot: Snapshot
    standing: Callable[[], Snapshot]
    run_id: UUID
    thread_id: str | None
    record_ids: list[UUID] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: NanoUSD = ZERO
    # The fewest tokens that an answer of the run was cut to for want of room under a cap.
    clamped_to: int | None = None
    # How streams are held for; shared by all runs of a process.
    slices: Slices = field(default_factory=Slices)
    # What the limits of rates had left when the request was admitted.
    windows: tuple[WindowUse, ...] = ()
    clock: RunClock = field(default_factory=RunClock)
    # Attempts that a provider failed, and the model that answered last.
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    answered_by: str | None = None
    _calls: int = 0

    async def complete(self, call: ModelCall) -> Completed:
        """Raises what `Meter.open` and `Providers.complete` raise.

        A caller that is cancelled meanwhile leaves the call to its end, which is bounded: only
        that says what it used.
        """
        clamped_before = self.clamped_to
        async for attempt in self._attempts(call.grant):
            with attempt:
                tried = _tried(call, attempt)
                bound = await self._bound(tried)
                opened = await self._open_model(tried, bound)
                held = self._clamped(bound, bound.covered_by(opened.held_nanousd))
                completed = await self._to_its_end(attempt, self._complete(tried, held, opened))
                self.answered_by = attempt.grant.name
                return completed
            self.clamped_to = clamped_before
        raise AssertionError("attempts end with an answer or an error")

    async def stream(self, call: ModelCall) -> AsyncGenerator[Piece | Completed, None]:
        """The provider's pieces, then `Completed` once the outcome is durable.

        Close the generator to end the call early: what was received by then is settled.
        Raises as `complete`.
        """
        clamped_before = self.clamped_to
        async for attempt in self._attempts(call.grant):
            with attempt:
                tried = _tried(call, attempt)
                stream = await self._open_stream(tried)
                async with aclosing(stream.pieces()) as pieces:
                    async for item in pieces:
                        self.answered_by = attempt.grant.name
                        attempt.answers()
                        yield item
                return
            self.clamped_to = clamped_before

    async def embed(self, call: EmbeddingCall) -> Embedded:
        """Raises what `Meter.open`, `embeddings.require_texts` and `embeddings.embed` raise.

        A caller that is cancelled meanwhile leaves the call to its end, as `complete` does.
        """
        embeddings.require_texts(call.texts)
        async for attempt in self._attempts(call.grant):
            with attempt:
                return await self._embed_once(_tried(call, attempt), attempt)
        raise AssertionError("attempts end with vectors or an error")

    async def _embed_once(self, call: EmbeddingCall, attempt: Attempt) -> Embedded:
        vocabulary = self.providers.vocabulary(call.grant)
        size = await measure_texts(call.texts, vocabulary, call.grant.context_tokens)
        bound = prices.bound_embedding(call.grant, size)
        deadline = embeddings.timeout_seconds(call.grant, self.providers) + SETTLING_SECONDS
        opened = await self._open(
            "model",
            call.grant.name,
            bound.worst_case_nanousd,
            bound.tokens_estimate,
            deadline,
            dict(call.audited),
        )
        return await self._to_its_end(attempt, self._embed(call, bound, opened))

    async def open_tool(
        self, name: str, arguments: JsonValue, deadline_seconds: float, *, tool: str | None = None
    ) -> OpenCall:
        """Opens a metered call of a function; its outcome goes to `close_tool`. `tool` is what the
        price book calls it by; without it, and where the book has no price, it is free."""
        price = NanoUSD(self.snapshot.tool_nanousd.get(tool, 0)) if tool else ZERO
        return await self._open("tool", name, price, 0, deadline_seconds, arguments)

    async def close_tool(
        self, opened: OpenCall, response: JsonValue, *, failed: str | None, ran: bool = True
    ) -> None:
        """The outcome of a tool call, which costs its price whatever it answers, unless it was
        refused before it `ran`."""
        usage = Usage(0, 0, opened.held_nanousd if ran else ZERO)
        receipt = (
            await opened.complete(usage, response)
            if failed is None
            else await opened.fail(failed, usage)
        )
        self._charge(receipt)

    async def abandon_tool(self, opened: OpenCall) -> None:
        """The run ends in mid-call: the tool may have done its work, or not."""
        await opened.abandon()

    async def _complete(self, call: ModelCall, bound: CallBound, opened: OpenCall) -> Completed:
        try:
            body = await self.providers.complete(call.grant, call.body(), bound.output_tokens)
            answer = Answer()
            answer.add_whole(body)
        except TenantplaneError as failed:
            await opened.fail(str(failed), usage_of_failure(call.grant, bound, failed))
            raise
        except Exception:
            # A fault of ours in mid-call: what the provider will bill is not known.
            await opened.abandon()
            raise
        tokens, usage = usage_of_answer(call.grant, bound, answer)
        if not usage.estimated:
            self.slices.learn(call.grant, tokens, answer.produced_bytes)
        receipt = await opened.complete(usage, audited(answer, tokens))
        self._add(tokens, receipt)
        return Completed(answer, tokens, receipt, body)

    async def _embed(self, call: EmbeddingCall, bound: CallBound, opened: OpenCall) -> Embedded:
        try:
            answer = await embeddings.embed(self.providers, call.grant, call.texts)
        except TenantplaneError as failed:
            await opened.fail(str(failed), usage_of_failure(call.grant, bound, failed))
            raise
        except Exception:
            await opened.abandon()  # as in `_complete`
            raise
        reported = prices.reported_embedding_tokens(answer.usage)
        tokens = reported or prices.worst_tokens(bound)
        usage = usage_of(call.grant, bound, tokens, estimated=reported is None)
        made: JsonValue = {"vectors": len(answer.vectors), "dimensions": len(answer.vectors[0])}
        receipt = await opened.complete(usage, made)
        self._add(tokens, receipt)
        return Embedded(answer.vectors, tokens, receipt)

    def _attempts(self, grant: ModelGrant) -> Attempts:
        others = partial(fallback_models, self.snapshot, self.tenant, grant)
        return self.providers.attempts(
            self.tenant.org_id, grant, others, self.failed_attempts.append
        )

    async def _bound(self, call: ModelCall) -> CallBound:
        vocabulary = self.providers.vocabulary(call.grant)
        prompt = await measure_prompt(call.messages, call.options, vocabulary)
        return prices.bound_call(call.grant, prompt, call.output_limit)

    def _open_model(self, call: ModelCall, bound: CallBound) -> Awaitable[OpenCall]:
        deadline = self.providers.timeout_seconds(call.grant) + SETTLING_SECONDS
        asked: dict[str, Any] = {"messages": list(call.messages), **call.options, **call.audited}
        return self._open(
            "model",
            call.grant.name,
            bound.worst_case_nanousd,
            bound.tokens_estimate,
            deadline,
            asked,
            bound.least_nanousd,
        )

    async def _open_stream(self, call: ModelCall) -> MeteredStream:
        bound = await self._bound(call)
        first = self.slices.first(call.grant, call.options, bound.output_tokens)
        opened = await self._open_model(call, bound.within(first))
        held = bound.within(first).covered_by(opened.held_nanousd)
        cover = Cover.of(self.slices, limit=bound.output_tokens, first=first, held=held)
        return MeteredStream(
            providers=self.providers,
            background=self.meter.background,
            standing=self.standing,
            slices=self.slices,
            call=call,
            bound=self._clamped(bound, cover.limit),
            cover=cover,
            opened=opened,
            answer=Answer(self.providers.vocabulary(call.grant)),
            took=self._add,
            was_cut=self.clamp,
        )

    def _clamped(self, bound: CallBound, limit: int) -> CallBound:
        if limit < bound.output_tokens:
            self.clamp(limit)
        return bound.within(limit)

    async def _open(
        self,
        kind: CallKind,
        resource: str,
        worst_case_nanousd: NanoUSD,
        tokens_estimate: int,
        deadline_seconds: float,
        asked: JsonValue,
        least_nanousd: NanoUSD | None = None,
    ) -> OpenCall:
        number, self._calls = self._calls, self._calls + 1
        request = CallRequest(
            kind=kind,
            resource=resource,
            run_id=self.run_id,
            call_no=number,
            thread_id=self.thread_id,
            worst_case_nanousd=worst_case_nanousd,
            least_nanousd=least_nanousd,
            tokens_estimate=tokens_estimate,
            deadline_seconds=deadline_seconds,
            price_book_version=self.snapshot.price_book_version,
            count_request=number == 0,
            audit_request=asked,
        )
        if number:
            await self.meter.turns.turn(self.tenant.org_id)
        # Asked when the turn has come: a suspension may have come while this one waited.
        standing = self.standing()
        require_room(bounds_of(standing, self.tenant), number, self.clock.seconds())
        opened = await self.meter.open(self.tenant, standing, request)
        self.record_ids.append(opened.receipt_id)
        if number == 0:
            self.windows = opened.windows
        return opened

    def clamp(self, output_tokens: int) -> None:
        """An answer of the run was, or will be, cut to so many tokens for want of room."""
        self.clamped_to = min(output_tokens, self.clamped_to or output_tokens)

    def _add(self, tokens: TokenCount, receipt: Receipt) -> None:
        self.input_tokens += tokens.input_tokens
        self.output_tokens += tokens.output_tokens
        self._charge(receipt)

    def _charge(self, receipt: Receipt) -> None:
        self.cost_nanousd = NanoUSD(self.cost_nanousd + receipt.cost_nanousd)

    def _to_its_end(self, attempt: Attempt, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The result of `work`, which goes on when its caller is cancelled. Where the process dies
        before, or it fails, the sweeper finds the open intent."""
        return asyncio.shield(self.meter.background.spawn(attempt.to_its_end(work)))


def _tried(call: _Call, attempt: Attempt) -> _Call:
    """The call as this attempt makes it; its record says what failed before."""
    if attempt.is_first:
        return call
    return replace(call, grant=attempt.grant, audited={**call.audited, **attempt.note()})
