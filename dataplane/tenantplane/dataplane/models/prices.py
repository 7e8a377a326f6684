"""What a call may cost at most, and what it did cost. Pure; amounts in nano-dollars.

Prices are linear: so much for a token of the prompt, of it less where the provider had it cached,
so much for a token of the answer, of it another price where the model thought with it, so much for
an image. The tokens that a provider counts for an image are paid by the image's price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput
from tenantplane.core.money import MAX_CAP, NanoUSD, format_usd
from tenantplane.dataplane.models.prompts import PromptSize

# Without a limit of the client's own, what an answer is expected to be, for the rate window alone.
EXPECTED_OUTPUT_TOKENS: Final = 512
# An answer that is cut to less than this, for want of room under a cap, is of no use to anybody.
LEAST_OUTPUT_TOKENS: Final = 16
# No model reads or writes this much in one call: a larger number is not a report of usage.
ABSURD_TOKENS: Final = 20_000_000


class TokenCount(NamedTuple):
    """`cached_tokens` are some of the input, `reasoning_tokens` some of the output."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def note(self) -> dict[str, JsonValue]:
        """For the audit record."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }


class CallBound(NamedTuple):
    """Upper bounds of one call, fixed before it is made. `prompt_tokens` without the images'."""

    prompt_tokens: int
    images: int
    output_tokens: int  # sent upstream as the limit
    tokens_estimate: int
    prompt_nanousd: NanoUSD
    output_token_nanousd: NanoUSD  # of the dearest kind

    @property
    def worst_case_nanousd(self) -> NanoUSD:
        return self.cost_of(self.output_tokens)

    @property
    def least_nanousd(self) -> NanoUSD:
        """The smallest hold that is of use."""
        return self.cost_of(min(self.output_tokens, LEAST_OUTPUT_TOKENS))

    def cost_of(self, output_tokens: int) -> NanoUSD:
        """The most that the call can cost with an answer of so many tokens."""
        return NanoUSD(self.prompt_nanousd + output_tokens * self.output_token_nanousd)

    def covered_by(self, held_nanousd: NanoUSD) -> int:
        """How many tokens of an answer a hold pays for."""
        if self.output_token_nanousd == 0:
            return self.output_tokens
        room = max(0, held_nanousd - self.prompt_nanousd)
        return min(self.output_tokens, room // self.output_token_nanousd)

    def within(self, output_tokens: int) -> CallBound:
        """The bounds of the same call with a smaller limit."""
        if output_tokens >= self.output_tokens:
            return self
        return self._replace(output_tokens=output_tokens)


def bound_call(grant: ModelGrant, prompt: PromptSize, output_limit: int | None) -> CallBound:
    """The bounds of a call; a client's limit is clamped to the grant's.

    Raises InvalidInput for an image that has no price, and where the worst case is more than any
    cap can be.
    """
    if prompt.images and grant.image_nanousd is None:
        raise InvalidInput(
            f"The model {grant.name!r} takes no images: its plan has no price for them.",
            hint="Send text alone, or ask for a plan whose model has 'imageUSD'.",
            code="images_not_priced",
        )
    output = min(output_limit or grant.max_output_tokens, grant.max_output_tokens)
    expected = output if output_limit else min(output, EXPECTED_OUTPUT_TOKENS)
    # A provider refuses a prompt beyond the model's context: no more than that is ever read.
    most = min(prompt.most_tokens, grant.context_tokens)
    bound = _bound(grant, most, prompt.images, output, prompt.about_tokens + expected)
    return _below_any_cap(grant, bound, "Set max_completion_tokens lower.")


def bound_embedding(grant: ModelGrant, prompt: PromptSize) -> CallBound:
    """The bounds of one call of an embedding model: it reads each text, and writes nothing.

    Raises InvalidInput where the worst case is more than any cap can be.
    """
    bound = _bound(grant, prompt.most_tokens, 0, 0, prompt.about_tokens)
    return _below_any_cap(grant, bound, "Send fewer texts at once.")


def cost(grant: ModelGrant, tokens: TokenCount, bound: CallBound) -> NanoUSD:
    """Selling price of what a call used: linear, exact."""
    read, written, cached, thought = tokens
    if bound.images:
        # What is beyond the most that the text can be are the images', which have their own price.
        read = min(read, bound.prompt_tokens)
    cached = min(cached, read)
    nanousd = (read - cached) * grant.input_nanousd_per_token
    nanousd += (written - thought) * grant.output_nanousd_per_token
    if cached:
        nanousd += cached * _or(grant.cached_input_nanousd_per_token, grant.input_nanousd_per_token)
    if thought:
        nanousd += thought * _or(grant.reasoning_nanousd_per_token, grant.output_nanousd_per_token)
    return NanoUSD(nanousd + bound.images * (grant.image_nanousd or 0))


def reported_tokens(usage: object, *, produced_bytes: int) -> TokenCount | None:
    """A provider's `usage` object as counts; None where it is absent or cannot be true (F40).

    Not believed: negative, fractional, boolean or absurdly large numbers, a prompt of no tokens,
    no output where `produced_bytes` were received, more cached tokens than the prompt has, more
    tokens of thought than the answer has.
    """
    if not isinstance(usage, Mapping):
        return None
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    # bool is an int in Python, and NaN a float: neither is a count.
    if not (type(prompt) is type(output) is type(cached) is type(reasoning) is int):
        return None
    if not (1 <= prompt <= ABSURD_TOKENS and 0 <= output <= ABSURD_TOKENS):
        return None
    if not (0 <= cached <= prompt and 0 <= reasoning <= output):
        return None
    if output == 0 and produced_bytes > 0:
        return None
    return TokenCount(prompt, output, cached, reasoning)


def reported_embedding_tokens(usage: object) -> TokenCount | None:
    """An embedding provider's `usage` object as counts; None where it cannot be true (F40)."""
    if not isinstance(usage, Mapping):
        return None
    return reported_tokens({**usage, "completion_tokens": 0}, produced_bytes=0)


def counted_tokens(bound: CallBound, produced_tokens: int) -> TokenCount:
    """What was used where nothing is reported: the whole prompt's bound, and of the answer what
    was counted, as far as the bound goes. Never free."""
    return TokenCount(bound.prompt_tokens, min(produced_tokens, bound.output_tokens))


def worst_tokens(bound: CallBound) -> TokenCount:
    """For a call of which nothing is known."""
    return TokenCount(bound.prompt_tokens, bound.output_tokens)


def _bound(
    grant: ModelGrant, prompt_tokens: int, images: int, output_tokens: int, estimate: int
) -> CallBound:
    read = max(grant.input_nanousd_per_token, grant.cached_input_nanousd_per_token or 0)
    written = max(grant.output_nanousd_per_token, grant.reasoning_nanousd_per_token or 0)
    prompt = prompt_tokens * read + images * (grant.image_nanousd or 0)
    return CallBound(
        prompt_tokens, images, output_tokens, estimate, NanoUSD(prompt), NanoUSD(written)
    )


def _below_any_cap(grant: ModelGrant, bound: CallBound, hint: str) -> CallBound:
    if bound.worst_case_nanousd > MAX_CAP:
        worst = format_usd(bound.worst_case_nanousd)
        raise InvalidInput(
            f"One call of {grant.name!r} could cost {worst}, above any cap.", hint=hint
        )
    return bound


def _or(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price


def _detail(usage: Mapping[str, object], group: str, name: str) -> object:
    """A part of a count, 0 where the provider does not say it; None where it is no object."""
    details = usage.get(group)
    if details is None:
        return 0
    if not isinstance(details, Mapping):
        return None
    found = details.get(name)
    return 0 if found is None else found
