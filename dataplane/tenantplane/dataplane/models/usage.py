"""What a call used, told from what came of it. Pure, but for a line in the log."""

from __future__ import annotations

import logging
from typing import Final

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.money import MAX_CAP
from tenantplane.dataplane.ledger.calls import NOTHING_USED, Usage
from tenantplane.dataplane.models import prices
from tenantplane.dataplane.models.answer import Answer
from tenantplane.dataplane.models.prices import CallBound, TokenCount
from tenantplane.dataplane.models.provider_errors import may_have_billed

_log = logging.getLogger(__name__)

# More pieces or bytes than a limit of tokens can have: the provider ignores the limit (F30).
_PIECES_PER_TOKEN: Final = 4
_BYTES_PER_TOKEN: Final = 64
_SLACK: Final = 1024


def usage_of_answer(
    grant: ModelGrant, bound: CallBound, answer: Answer
) -> tuple[TokenCount, Usage]:
    """The provider's word where it can be true; else the most that was produced, as estimated."""
    tokens = prices.reported_tokens(answer.usage, produced_bytes=answer.produced_bytes)
    if tokens is not None:
        price = prices.cost(grant, tokens, bound)
        if price <= MAX_CAP:  # else no invoice could carry it
            return tokens, Usage(tokens.input_tokens, tokens.output_tokens, price)
    if answer.usage is not None:
        _log.warning(
            "provider %s reported a usage that cannot be true for model %s; counted instead",
            grant.provider,
            grant.name,
        )
    tokens = prices.counted_tokens(bound, answer.produced_tokens)
    return tokens, usage_of(grant, bound, tokens, estimated=True)


def usage_of_abort(grant: ModelGrant, bound: CallBound, answer: Answer) -> tuple[TokenCount, Usage]:
    """Of a stream whose caller went away, or that we cut: what came by then."""
    if answer.content_chunks or answer.usage is not None:
        return usage_of_answer(grant, bound, answer)
    # Nothing came yet: the model may have thought, unseen and billed, all the while.
    tokens = prices.worst_tokens(bound)
    return tokens, usage_of(grant, bound, tokens, estimated=True)


def usage_of_failure(grant: ModelGrant, bound: CallBound, failed: TenantplaneError) -> Usage:
    if not may_have_billed(failed):
        return NOTHING_USED
    return usage_of(grant, bound, prices.worst_tokens(bound), estimated=True)


def usage_of(grant: ModelGrant, bound: CallBound, tokens: TokenCount, *, estimated: bool) -> Usage:
    price = prices.cost(grant, tokens, bound)
    return Usage(tokens.input_tokens, tokens.output_tokens, price, estimated)


def audited(answer: Answer, tokens: TokenCount) -> dict[str, JsonValue]:
    """The answer as its audit record keeps it, with the counts that its price was made of."""
    return {**answer.audit(), "usage": tokens.note()}


def beyond_its_limit(answer: Answer, limit: int) -> bool:
    """Whether the provider goes on past `limit` tokens that it was told to end at."""
    return (
        answer.content_chunks > limit * _PIECES_PER_TOKEN + _SLACK
        or answer.produced_bytes > limit * _BYTES_PER_TOKEN + _SLACK
    )
