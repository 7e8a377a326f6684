"""State at rest: a value's type and bytes under the org's data key, bound to the place it stands in.

A ciphertext opens in its own row and column of its own org alone (F60). What does not open, plain
text above all, is refused as a checkpoint that was not written by this service.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol

from tenantplane.core.errors import Forbidden, InvalidInput
from tenantplane.core.keys.envelope import DataKey
from tenantplane.dataplane.runtime.serializer import refused

_FORM: Final = "state.1"
_TYPE_END: Final = b"\0"


def place(purpose: str, *parts: str | int) -> bytes:
    """Associated data of a row. In MessagePack each part goes with its type and length: ids that
    agents and their graphs choose hold any character, and no two places may read alike.

    Raises InvalidInput for text that is not Unicode.
    """
    try:
        return ormsgpack.packb((_FORM, purpose, *parts))
    except TypeError:
        raise InvalidInput("A name in an agent's state is not Unicode text.") from None


def seal(key: DataKey, serializer: SerializerProtocol, value: Any, at: bytes) -> bytes:
    encoding, body = serializer.dumps_typed(value)
    return key.encrypt(encoding.encode() + _TYPE_END + body, at)


def unseal(key: DataKey, serializer: SerializerProtocol, ciphertext: bytes, at: bytes) -> Any:
    """Raises Forbidden (`checkpoint_refused`): in clear, changed, moved, of another key, or of a
    type that is not on the serializer's list."""
    return serializer.loads_typed(_typed(opened(key, ciphertext, at)))


def opened(key: DataKey, ciphertext: bytes, at: bytes) -> bytes:
    """The plain text. Raises Forbidden (`checkpoint_refused`)."""
    try:
        return key.decrypt(ciphertext, at)
    except Forbidden as closed:
        raise refused("a value that does not open") from closed


def _typed(plain: bytes) -> tuple[str, bytes]:
    encoding, end, body = plain.partition(_TYPE_END)
    if not end:
        raise refused("a value of another form")
    return encoding.decode("ascii", "replace"), body
