"""The body of POST /v1/chat/completions: what is accepted, and nothing besides.

Fields: platform.openai.com/docs/api-reference/chat/create. A field that is not here is refused and
not passed on: an unknown one could cost more than was held (audio, web search, predicted output),
or keep content at the provider (`store`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import from_json

from tenantplane.core.errors import FieldError, InvalidInput

# All texts, numbers, lists and objects of a body. A conversation has some thousands; two million
# zeros fit into the same bytes, and to look at each would hold up everybody's next step (R7).
MAX_VALUES = 50_000

AGENT_PREFIX = "agent/"
THREAD_KEY = "thread_id"
PROMPT_KEY = "prompt"

# Ours, or set by us on each call: never copied from the request.
_NOT_PASSED_ON = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "metadata",
    "store",
    "service_tier",
    "user",
}


class _Strict(BaseModel):
    # A text such as "NaN" becomes no number either.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    # The provider fetches an address, the plane never does; a picture of one's own comes as data.
    url: Annotated[str, Field(pattern=r"^(https://|data:image/(png|jpeg|webp|gif);base64,)")]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Content = str | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
_TEXT, _IMAGE = "text part", "image part"


def _kind_of_part(part: Any) -> str | None:
    match part:
        case TextPart() | {"type": "text"}:
            return _TEXT
        case ImagePart() | {"type": "image_url"}:
            return _IMAGE
        case _:
            return None


# By tags that are no fields of theirs: the path of an error leaves them out.
UserPart = Annotated[
    Annotated[TextPart, Tag(_TEXT)] | Annotated[ImagePart, Tag(_IMAGE)],
    Discriminator(_kind_of_part),
]
UserContent = str | Annotated[list[UserPart], Field(min_length=1, max_length=256)]


class FunctionCall(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    arguments: str


class ToolCall(_Strict):
    id: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["function"] = "function"
    function: FunctionCall


class InstructionMessage(_Strict):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(_Strict):
    role: Literal["user"]
    content: UserContent
    name: str | None = None


class AssistantMessage(_Strict):
    # Clients send back what they got: fields of an answer that say nothing are let through.
    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=128)] | None = None


class ToolMessage(_Strict):
    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(min_length=1, max_length=200)]


Message = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]

_MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message])


class FunctionDefinition(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


class FunctionTool(_Strict):
    type: Literal["function"]
    function: FunctionDefinition


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(_Strict):
    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=2000)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    metadata: (
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None
    ) = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: dict[str, JsonValue] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    tools: Annotated[list[FunctionTool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None

    @field_validator("stream_options")
    @classmethod
    def _need_stream(
        cls, options: StreamOptions | None, info: ValidationInfo
    ) -> StreamOptions | None:
        # `stream` comes first; it is absent where it was refused itself.
        if options is not None and not info.data.get("stream", True):
            raise ValueError("stream_options is allowed only with stream: true")
        return options

    @property
    def is_agent(self) -> bool:
        return self.model.startswith(AGENT_PREFIX)

    @property
    def grant_name(self) -> str:
        """The name of the model's grant, with or without a supervisor around it."""
        return self.model.removeprefix(AGENT_PREFIX)

    @property
    def thread_id(self) -> str | None:
        return (self.metadata or {}).get(THREAD_KEY)

    @property
    def prompt(self) -> str | None:
        """The name of a granted prompt, which an agent takes as its system message."""
        return (self.metadata or {}).get(PROMPT_KEY)

    @property
    def output_limit(self) -> int | None:
        """The smaller of the two fields, old name and new; None where neither is given."""
        given = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        return min(given, default=None)

    @property
    def wants_usage_chunk(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def wire_messages(self) -> list[dict[str, Any]]:
        dumped: list[dict[str, Any]] = _MESSAGES.dump_python(
            self.messages, mode="json", exclude_none=True
        )
        return dumped

    def wire_options(self) -> dict[str, Any]:
        """Sampling, tools and format, as the client set them."""
        if self.model_fields_set <= _NOT_PASSED_ON:
            return {}
        return self.model_dump(
            mode="json", exclude_unset=True, exclude_none=True, exclude=_NOT_PASSED_ON
        )


def parse_chat_request(body: bytes) -> ChatRequest:
    """Raises InvalidInput that lists every bad field."""
    found = [] if _is_small_and_finite(body) else _not_finite(body)
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as refused:
        found += [_field_error(dict(e)) for e in refused.errors(include_url=False)]
    if not found:
        return request
    # A field that may be one of two types fails as each: the first says enough.
    errors = tuple({e.path: e for e in reversed(found)}.values())[::-1]
    raise InvalidInput(
        "The request body is not valid: "
        + "; ".join(f"{e.path}: {e.message}" for e in errors[:5])
        + ("; …" if len(errors) > 5 else "")
        + ".",
        errors=errors,
    )


def _is_small_and_finite(body: bytes) -> bool:
    """Whether `_not_finite` has nothing to say, at a tenth of its time: each value but the outermost
    takes two bytes at least, its own and a separator's; and orjson refuses, of all that the other
    parser takes, numbers that are not finite (and lone surrogates, which are looked at again)."""
    if len(body) > 2 * MAX_VALUES:
        return False
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _not_finite(body: bytes) -> list[FieldError]:
    """Raises InvalidInput (`too_many_values`), before the second parsing and all that follows.

    Numbers that JSON does not have (RFC 8259 section 6), or that no double holds: the parser
    takes NaN, Infinity and 1e999, and providers and stores do not. Also where a schema of the
    client's own is free, which no type of ours describes."""
    try:
        document: JsonValue = from_json(body)
    except ValueError:
        return []  # no JSON at all: the model's own parsing says where
    if not _has_at_most(MAX_VALUES, document):
        raise InvalidInput(
            f"The request body has more than {MAX_VALUES:,} values.",
            hint="Send long content as text.",
            code="too_many_values",
        )
    message = "must be a finite number: NaN, Infinity and numbers beyond a double are no JSON"
    return [FieldError(".".join(path) or "body", message) for path in _paths_not_finite(document)]


def _has_at_most(limit: int, document: JsonValue) -> bool:
    """Whole containers are counted before any of their values is looked at."""
    seen = 1
    unseen = [document]
    while unseen:
        value = unseen.pop()
        if isinstance(value, dict | list):
            seen += len(value)
            if seen > limit:
                return False
            unseen.extend(value.values() if isinstance(value, dict) else value)
    return True


def _paths_not_finite(value: JsonValue) -> Iterator[tuple[str, ...]]:
    # The parser bounds how deep a document is.
    if isinstance(value, float):
        if not math.isfinite(value):
            yield ()
    elif isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in inner:
            for path in _paths_not_finite(part):
                yield (str(name), *path)


_ADVICE = {
    "n": "only n=1 is served; send one request for each answer",
    "store": "content is never stored at the provider; leave the field out",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
}
# Names that pydantic gives to the members of a union: no parts of the user's document.
_UNION_TAGS = frozenset({"system", "developer", "user", "assistant", "tool", "str", _TEXT, _IMAGE})


def _field_error(error: dict[str, Any]) -> FieldError:
    first, *rest = error["loc"] or ("body",)
    path = ".".join(str(part) for part in (first, *(p for p in rest if not _is_union_tag(p))))
    default = error["msg"]
    if error["type"] == "extra_forbidden":
        default = "this field is not served; remove it"
    return FieldError(path, _ADVICE.get(path, default))


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and (part in _UNION_TAGS or "[" in part)
