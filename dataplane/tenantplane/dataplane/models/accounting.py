"""Each call of a run is held and intended before it is made, and settled whatever becomes of it.

    open (hold, intent) → provider → outcome committed → the caller sees the end of the answer

What if the process dies between two of these: before the intent no call was made; after it the
sweeper settles the worst case. A client that goes away in mid-stream ends the call upstream, and
what was received is settled; a call that does not stream goes on to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.events import CallKind
from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.money import MAX_CAP
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.ledger.calls import NOTHING_USED, CallRequest, Receipt, Usage
from tenantplane.dataplane.ledger.meter import Meter, OpenCall
from tenantplane.dataplane.models import embeddings, prices
from tenantplane.dataplane.models.answer import Answer
from tenantplane.dataplane.models.prices import CallBound, TokenCount
from tenantplane.dataplane.models.providers import Providers, may_have_billed

_log = logging.getLogger(__name__)

T = TypeVar("T")

# The hold outlives the provider's time-out by this: outcome and settling come after the call.
SETTLING_SECONDS = 15.0
# More pieces or bytes than a limit of tokens can have: the provider ignores the limit (F30).
_PIECES_PER_TOKEN = 4
_BYTES_PER_TOKEN = 64
_SLACK = 1024


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model: messages and options as they go upstream."""

    grant: ModelGrant
    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    output_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a stream as the provider sent it, and the text that it adds."""

    chunk: Mapping[str, Any]
    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """An answer whose outcome is durable."""

    answer: Answer
    tokens: TokenCount
    receipt: Receipt
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """One call of an embedding model.

    `audited` is what the record keeps in place of the texts, which may be a document's: a record
    outlives the document, so it says which texts they were and not what they say.
    """

    grant: ModelGrant
    texts: Sequence[str]
    audited: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A vector for each text, whose outcome is durable."""

    vectors: list[list[float]]
    tokens: TokenCount
    receipt: Receipt


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
    cost_nanousd: int = 0
    _calls: int = 0

    async def complete(self, call: ModelCall) -> Completed:
        """Raises what `Meter.open` and `Providers.complete` raise.

        A caller that is cancelled meanwhile leaves the call to its end, which is bounded: only
        that says what it used.
        """
        bound, opened = await self._open_model(call)
        return await _to_the_end(self._complete(call, bound, opened))

    async def stream(self, call: ModelCall) -> AsyncGenerator[Piece | Completed, None]:
        """The provider's pieces, then `Completed` once the outcome is durable.

        Close the generator to end the call early: what was received by then is settled.
        Raises as `complete`.
        """
        bound, opened = await self._open_model(call)
        answer = Answer()
        try:
            upstream = self.providers.stream(call.grant, self._body(call), bound.output_tokens)
            async with upstream as chunks:
                async for chunk in chunks:
                    text = answer.add_chunk(chunk)
                    if _beyond_its_limit(answer, bound):
                        answer.finish_reason = "length"
                        break
                    yield Piece(chunk, text)
        except (asyncio.CancelledError, GeneratorExit):
            await _to_the_end(self._abort(call, bound, opened, answer))
            raise
        except TenantplaneError as failed:
            await _to_the_end(self._broke_off(call, bound, opened, answer, failed))
            raise
        except Exception:
            # A fault of ours in mid-call: what the provider will bill is not known.
            await _to_the_end(opened.abandon())
            raise
        yield await self._completed(call, bound, opened, answer, {})

    async def embed(self, call: EmbeddingCall) -> Embedded:
        """Raises what `Meter.open`, `embeddings.require_texts` and `embeddings.embed` raise.

        A caller that is cancelled meanwhile leaves the call to its end, as `complete` does.
        """
        embeddings.require_texts(call.texts)
        bound = prices.bound_embedding(call.grant, call.texts)
        deadline = embeddings.timeout_seconds(call.grant, self.providers) + SETTLING_SECONDS
        opened = await self._open(
            "model",
            call.grant.name,
            bound.worst_case_nanousd,
            bound.tokens_estimate,
            deadline,
            dict(call.audited),
        )
        return await _to_the_end(self._embed(call, bound, opened))

    async def open_tool(self, name: str, arguments: JsonValue, deadline_seconds: float) -> OpenCall:
        """Opens a metered call of a tool; its outcome goes to `close_tool`."""
        return await self._open("tool", name, 0, 0, deadline_seconds, arguments)

    async def close_tool(
        self, opened: OpenCall, response: JsonValue, *, failed: str | None
    ) -> None:
        """The outcome of a tool call; tools are free of charge now."""
        closing = (
            opened.complete(NOTHING_USED, response)
            if failed is None
            else opened.fail(failed, NOTHING_USED)
        )
        self._take(await _to_the_end(closing))

    async def abandon_tool(self, opened: OpenCall) -> None:
        """The run ends in mid-call: the tool may have done its work, or not."""
        await _to_the_end(opened.abandon())

    async def _complete(self, call: ModelCall, bound: CallBound, opened: OpenCall) -> Completed:
        try:
            body = await self.providers.complete(call.grant, self._body(call), bound.output_tokens)
            answer = Answer()
            answer.add_whole(body)
        except TenantplaneError as failed:
            await opened.fail(str(failed), _usage_of_failure(call.grant, bound, failed))
            raise
        except Exception:
            await opened.abandon()  # as in `stream`
            raise
        return await self._completed(call, bound, opened, answer, body)

    async def _embed(self, call: EmbeddingCall, bound: CallBound, opened: OpenCall) -> Embedded:
        try:
            answer = await embeddings.embed(self.providers, call.grant, call.texts)
        except TenantplaneError as failed:
            await opened.fail(str(failed), _usage_of_failure(call.grant, bound, failed))
            raise
        except Exception:
            await opened.abandon()  # as in `stream`
            raise
        reported = prices.reported_embedding_tokens(answer.usage)
        tokens = reported or prices.worst_tokens(bound)
        usage = _usage(call.grant, tokens, estimated=reported is None)
        made: JsonValue = {"vectors": len(answer.vectors), "dimensions": len(answer.vectors[0])}
        receipt = await opened.complete(usage, made)
        self._add(tokens, receipt)
        return Embedded(answer.vectors, tokens, receipt)

    async def _open_model(self, call: ModelCall) -> tuple[CallBound, OpenCall]:
        bound = prices.bound_call(call.grant, call.messages, call.options, call.output_limit)
        deadline = self.providers.timeout_seconds(call.grant) + SETTLING_SECONDS
        audited: dict[str, Any] = {"messages": list(call.messages), **call.options}
        opened = await self._open(
            "model",
            call.grant.name,
            bound.worst_case_nanousd,
            bound.tokens_estimate,
            deadline,
            audited,
        )
        return bound, opened

    async def _open(
        self,
        kind: CallKind,
        resource: str,
        worst_case_nanousd: int,
        tokens_estimate: int,
        deadline_seconds: float,
        audited: JsonValue,
    ) -> OpenCall:
        number, self._calls = self._calls, self._calls + 1
        request = CallRequest(
            kind=kind,
            resource=resource,
            run_id=self.run_id,
            call_no=number,
            thread_id=self.thread_id,
            worst_case_nanousd=worst_case_nanousd,
            tokens_estimate=tokens_estimate,
            deadline_seconds=deadline_seconds,
            price_book_version=self.snapshot.price_book_version,
            count_request=number == 0,
            audit_request=audited,
        )
        if number:
            await self.meter.turns.turn(self.tenant.org_id)
        # Asked when the turn has come: a suspension may have come while this one waited.
        opened = await self.meter.open(self.tenant, self.standing(), request)
        self.record_ids.append(opened.receipt_id)
        return opened

    def _body(self, call: ModelCall) -> dict[str, Any]:
        return {**call.options, "messages": list(call.messages)}

    async def _completed(
        self,
        call: ModelCall,
        bound: CallBound,
        opened: OpenCall,
        answer: Answer,
        body: Mapping[str, Any],
    ) -> Completed:
        tokens, usage = _usage_of_answer(call, bound, answer)
        receipt = await _to_the_end(opened.complete(usage, answer.audit()))
        self._add(tokens, receipt)
        return Completed(answer, tokens, receipt, body)

    async def _abort(
        self, call: ModelCall, bound: CallBound, opened: OpenCall, answer: Answer
    ) -> None:
        if answer.content_chunks or answer.usage is not None:
            tokens, usage = _usage_of_answer(call, bound, answer)
        else:
            # Nothing came yet: the model may have thought, unseen and billed, all the while.
            tokens = prices.worst_tokens(bound)
            usage = _usage(call.grant, tokens, estimated=True)
        self._add(tokens, await opened.complete(usage, answer.audit() | {"client_gone": True}))

    async def _broke_off(
        self,
        call: ModelCall,
        bound: CallBound,
        opened: OpenCall,
        answer: Answer,
        failed: TenantplaneError,
    ) -> None:
        if answer.content_chunks:
            _, usage = _usage_of_answer(call, bound, answer)
        else:
            usage = _usage_of_failure(call.grant, bound, failed)
        await opened.fail(str(failed), usage)

    def _add(self, tokens: TokenCount, receipt: Receipt) -> None:
        self.input_tokens += tokens.input_tokens
        self.output_tokens += tokens.output_tokens
        self.cost_nanousd += receipt.cost_nanousd

    def _take(self, receipt: Receipt) -> None:
        self.cost_nanousd += receipt.cost_nanousd


def _usage_of_answer(call: ModelCall, bound: CallBound, answer: Answer) -> tuple[TokenCount, Usage]:
    """The provider's word where it can be true; else the most that was produced, as estimated."""
    tokens = prices.reported_tokens(answer.usage, produced_bytes=answer.produced_bytes)
    if tokens is not None and prices.cost(call.grant, tokens) <= MAX_CAP:
        return tokens, _usage(call.grant, tokens, estimated=False)
    if answer.usage is not None:
        _log.warning(
            "provider %s reported a usage that cannot be true for model %s; counted instead",
            call.grant.provider,
            call.grant.name,
        )
    tokens = prices.counted_tokens(bound, answer.produced_bytes)
    return tokens, _usage(call.grant, tokens, estimated=True)


def _usage_of_failure(grant: ModelGrant, bound: CallBound, failed: TenantplaneError) -> Usage:
    if not may_have_billed(failed):
        return NOTHING_USED
    return _usage(grant, prices.worst_tokens(bound), estimated=True)


def _usage(grant: ModelGrant, tokens: TokenCount, *, estimated: bool) -> Usage:
    return Usage(tokens.input_tokens, tokens.output_tokens, prices.cost(grant, tokens), estimated)


def _beyond_its_limit(answer: Answer, bound: CallBound) -> bool:
    return (
        answer.content_chunks > bound.output_tokens * _PIECES_PER_TOKEN + _SLACK
        or answer.produced_bytes > bound.output_tokens * _BYTES_PER_TOKEN + _SLACK
    )


_unfinished: set[asyncio.Task[Any]] = set()


async def _to_the_end(closing: Coroutine[Any, Any, T]) -> T:
    """Runs `closing` to its end although the caller may be cancelled meanwhile.

    Where the process dies before, or it fails, the sweeper finds the open intent.
    """
    task = asyncio.create_task(closing)
    _unfinished.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


def _ended(task: asyncio.Task[Any]) -> None:
    _unfinished.discard(task)
    # Said here too: whoever waited for it may be gone.
    if not task.cancelled() and (failed := task.exception()) is not None:
        _log.info("a call ended with %s: %s", type(failed).__name__, failed)
