"""One metered stream of a model: passed on piece by piece, held for as it goes on, settled whatever
ends it.

    all that it can cost is held   the provider's own limit ends it
    a slice of it is held          more is held before it is used up; where there is no room, we cut

After a cut, or where the caller goes away, the call ends upstream, and what came by then is settled
as an estimate that a later report of the provider corrects. An org never pays more than was held
for it because we held a slice alone: what a stream cost beyond it, after a cut that came too late,
is the platform's loss (models/slices.py says how much that can be).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.ledger.background import Background
from tenantplane.dataplane.ledger.calls import Receipt, Usage
from tenantplane.dataplane.ledger.meter import OpenCall
from tenantplane.dataplane.models.answer import Answer
from tenantplane.dataplane.models.calls import Completed, ModelCall, Piece
from tenantplane.dataplane.models.prices import CallBound, TokenCount
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.models.slices import Cover, Slices
from tenantplane.dataplane.models.usage import (
    audited,
    beyond_its_limit,
    usage_of_abort,
    usage_of_answer,
    usage_of_failure,
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class MeteredStream:
    """`bound` is of all that may be written. `took` is told what was used, unless the call failed,
    `was_cut` after how many tokens we cut it."""

    providers: Providers
    background: Background
    standing: Callable[[], Snapshot]
    slices: Slices
    call: ModelCall
    bound: CallBound
    cover: Cover
    opened: OpenCall
    answer: Answer
    took: Callable[[TokenCount, Receipt], None]
    was_cut: Callable[[int], None]
    _extending: asyncio.Task[None] | None = field(default=None, init=False)

    async def pieces(self) -> AsyncGenerator[Piece | Completed, None]:
        """The provider's pieces, then `Completed` once the outcome is durable.

        To be asked for once. Raises what `Providers.stream` raises.
        """
        answer = self.answer
        try:
            upstream = self.providers.stream(self.call.grant, self.call.body(), self.cover.limit)
            async with upstream as arriving, aclosing(self._taken(arriving)) as taken:
                async for piece in taken:
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            tokens, usage = usage_of_abort(self.call.grant, self._held_bound(), answer)
            await self._close(tokens, usage, {"client_gone": True})
            raise
        except TenantplaneError as failed:
            await self._fail(failed)
            raise
        except Exception:
            # A fault of ours in mid-call: what the provider will bill is not known.
            await self.opened.abandon()
            raise
        tokens, usage = usage_of_answer(self.call.grant, self._held_bound(), answer)
        receipt = await self._close(tokens, usage, {})
        yield Completed(answer, tokens, receipt, {})

    async def _taken(
        self, arriving: AsyncIterator[list[dict[str, Any]]]
    ) -> AsyncGenerator[Piece, None]:
        async for chunks in arriving:
            left = len(chunks)
            for chunk in chunks:
                text = self.answer.add_chunk(chunk)
                if not await self._may_go_on():
                    self.answer.finish_reason = "length"
                    return
                left -= 1
                yield Piece(chunk, text, left > 0)

    async def _may_go_on(self) -> bool:
        produced, cover = self.answer.produced_tokens, self.cover
        if beyond_its_limit(self.answer, cover.limit):
            return False
        extending = self._extending is not None and not self._extending.done()
        if not extending and cover.wants_more(produced):
            self._extending = self.background.spawn(self._extend())
            extending = True
        if cover.allows(produced):
            return True
        if not extending:  # there was nothing a while ago: asked once more
            self._extending = self.background.spawn(self._extend())
        assert self._extending is not None
        await asyncio.shield(self._extending)
        if not cover.allows(produced):
            self.was_cut(produced)
            return False
        return True

    async def _extend(self) -> None:
        wanted, least = self.cover.ask(self.answer.produced_tokens)
        try:
            await self.opened.enlarge(
                self.bound.cost_of(wanted),
                least_nanousd=self.bound.cost_of(least),
                snapshot=self.standing(),
            )
        except TenantplaneError as refused:
            _log.info("a stream is not held for any longer: %s", refused.detail)
        self.cover.got(self.bound.covered_by(self.opened.held_nanousd))

    def _held_bound(self) -> CallBound:
        """What is not known is counted at the most that is held for."""
        return self.bound.within(self.cover.held)

    async def _fail(self, failed: TenantplaneError) -> None:
        bound, grant = self._held_bound(), self.call.grant
        if self.answer.content_chunks:
            _, usage = usage_of_answer(grant, bound, self.answer)
        else:
            usage = usage_of_failure(grant, bound, failed)
        usage, note = await self._within_what_was_promised(usage)
        await self.opened.fail(str(failed), usage)
        if note:
            _log.warning("a stream that failed cost the platform %s", note)

    async def _close(
        self, tokens: TokenCount, usage: Usage, note: Mapping[str, JsonValue]
    ) -> Receipt:
        if not usage.estimated:
            self.slices.learn(self.call.grant, tokens, self.answer.produced_bytes)
        usage, lost = await self._within_what_was_promised(usage)
        receipt = await self.opened.complete(
            usage, {**audited(self.answer, tokens), **note, **lost}
        )
        self.took(tokens, receipt)
        return receipt

    async def _within_what_was_promised(self, usage: Usage) -> tuple[Usage, dict[str, JsonValue]]:
        """The usage at what is held for it, where it kept the limit that the provider was told, and
        we held less. More than that limit is the provider's excess, and recorded as it is."""
        if not self.opened.held_nanousd < usage.cost_nanousd <= self.bound.worst_case_nanousd:
            return usage, {}
        if self._extending is not None and not self._extending.done():
            await asyncio.wait([self._extending])
        try:
            await self.opened.enlarge(usage.cost_nanousd, snapshot=self.standing())
        except TenantplaneError as refused:
            lost = usage.cost_nanousd - self.opened.held_nanousd
            _log.warning("the platform bears %d nano-dollars of a stream: %s", lost, refused.detail)
            held = replace(usage, cost_nanousd=self.opened.held_nanousd)
            return held, {"borne_by_platform_nanousd": lost}
        return usage, {}
