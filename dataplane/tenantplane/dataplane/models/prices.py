"""What a call may cost at most, and what it did cost. Pure; amounts in nano-dollars.

The worst case holds for any tokenizer that works on bytes: no token is shorter than one byte of
UTF-8 (byte-level BPE: Sennrich et al. 2016, GPT-2 report section 2.2), so that the bytes of the
serialised prompt bound its tokens from above; what a provider wraps around the messages is bounded
by the overheads below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput
from tenantplane.core.money import MAX_CAP, format_usd

# Role markers and separators: OpenAI documents 3 to 4 tokens a message, 3 for the answer's start.
MESSAGE_OVERHEAD_TOKENS = 16
# Anthropic documents up to about 700 tokens of system prompt once tools are given.
TOOLS_OVERHEAD_TOKENS = 1024
# English text has about four bytes a token; only the rate window uses this, and settling corrects.
BYTES_PER_TOKEN_ESTIMATE = 4
# Without a limit of the client's own, what an answer is expected to be, for the rate window alone.
EXPECTED_OUTPUT_TOKENS = 512
# No model reads or writes this much in one call: a larger number is not a report of usage.
ABSURD_TOKENS = 20_000_000


@dataclass(frozen=True, slots=True)
class CallBound:
    """Upper bounds of one call, fixed before it is made."""

    prompt_tokens: int
    output_tokens: int  # sent upstream as the limit
    worst_case_nanousd: int
    tokens_estimate: int


@dataclass(frozen=True, slots=True)
class TokenCount:
    input_tokens: int
    output_tokens: int


def bound_call(
    grant: ModelGrant,
    messages: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    output_limit: int | None,
) -> CallBound:
    """The bounds of a call; a client's limit is clamped to the grant's.

    Raises InvalidInput where the worst case is more than any cap can be.
    """
    prompt_bytes = _bytes(messages) + sum(_bytes(value) for value in options.values())
    overhead = MESSAGE_OVERHEAD_TOKENS * (len(messages) + 1)
    if options.get("tools"):
        overhead += TOOLS_OVERHEAD_TOKENS
    # A provider refuses a prompt beyond the model's context: no more than that is ever read.
    prompt = min(prompt_bytes + overhead, grant.context_tokens)
    output = min(output_limit or grant.max_output_tokens, grant.max_output_tokens)
    worst = cost(grant, TokenCount(prompt, output))
    if worst > MAX_CAP:
        raise InvalidInput(
            f"One call of {grant.name!r} could cost {format_usd(worst)}, above any cap.",
            hint="Set max_completion_tokens lower.",
        )
    expected = output if output_limit else min(output, EXPECTED_OUTPUT_TOKENS)
    estimate = -(-prompt_bytes // BYTES_PER_TOKEN_ESTIMATE) + expected
    return CallBound(prompt, output, worst, estimate)


def bound_embedding(grant: ModelGrant, texts: Sequence[str]) -> CallBound:
    """The bounds of one call of an embedding model: it reads each text, and writes nothing.

    Raises InvalidInput where the worst case is more than any cap can be.
    """
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    # Each text is read by itself, as far as the model's context goes.
    prompt = sum(min(size + MESSAGE_OVERHEAD_TOKENS, grant.context_tokens) for size in sizes)
    worst = cost(grant, TokenCount(prompt, 0))
    if worst > MAX_CAP:
        raise InvalidInput(
            f"One call of {grant.name!r} could cost {format_usd(worst)}, above any cap.",
            hint="Send fewer texts at once.",
        )
    return CallBound(prompt, 0, worst, -(-sum(sizes) // BYTES_PER_TOKEN_ESTIMATE))


def cost(grant: ModelGrant, tokens: TokenCount) -> int:
    """Selling price of so many tokens: linear, exact."""
    return (
        tokens.input_tokens * grant.input_nanousd_per_token
        + tokens.output_tokens * grant.output_nanousd_per_token
    )


def reported_tokens(usage: object, *, produced_bytes: int) -> TokenCount | None:
    """A provider's `usage` object as counts; None where it is absent or cannot be true (F40).

    Not believed: negative, fractional, boolean or absurdly large numbers, a prompt of no tokens,
    no output where `produced_bytes` were received.
    """
    if not isinstance(usage, Mapping):
        return None
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    # bool is an int in Python, and NaN a float: neither is a count.
    if type(prompt) is not int or type(output) is not int:
        return None
    if not (1 <= prompt <= ABSURD_TOKENS and 0 <= output <= ABSURD_TOKENS):
        return None
    if output == 0 and produced_bytes > 0:
        return None
    return TokenCount(prompt, output)


def reported_embedding_tokens(usage: object) -> TokenCount | None:
    """An embedding provider's `usage` object as counts; None where it cannot be true (F40)."""
    if not isinstance(usage, Mapping):
        return None
    return reported_tokens({**usage, "completion_tokens": 0}, produced_bytes=0)


def counted_tokens(bound: CallBound, produced_bytes: int) -> TokenCount:
    """The most that can have been used where nothing is reported: fails closed, never free.

    The whole prompt's bound, and a token for each byte that was received.
    """
    return TokenCount(bound.prompt_tokens, min(produced_bytes, bound.output_tokens))


def worst_tokens(bound: CallBound) -> TokenCount:
    """For a call of which nothing is known."""
    return TokenCount(bound.prompt_tokens, bound.output_tokens)


def _bytes(value: Any) -> int:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))
