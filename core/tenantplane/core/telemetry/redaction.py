"""Redaction: what looks like a secret never reaches a log (R43).

The last line of defence, not the first: nothing should be handed a secret to begin with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REDACTED: Final = "[redacted]"
_MAX_DEPTH: Final = 6
# Longer texts are cut: a log is no place for them, and patterns over hostile text cost time.
MAX_CHARACTERS: Final = 32 * 1024

_SECRETS: Final = re.compile(
    r"""
      \b tp[a-z]_[A-Za-z0-9_-]{8,}                              # our keys and enrolment tokens
    | \b eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?   # JWT, whole or cut short
    | \b (?:sk|rk|pk|whsec)[-_][A-Za-z0-9_-]{12,}               # OpenAI, Anthropic, Stripe
    | \b AKIA[A-Z0-9]{16} \b                                    # AWS access key id
    | \b hvs\.[A-Za-z0-9_-]{16,}                                # Vault
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_AUTHORIZATION: Final = re.compile(r"\b(Bearer|Basic|DPoP)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_URL_PASSWORD: Final = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")
# key=value and "key": "value", as in DSNs, query strings and reprs
_NAMED: Final = re.compile(
    r"""(?ix) \b ((?:[a-z0-9]+[_-]){0,3} (?:authorization|password|passwd|secret|(?:api|master|private)[_-]?key|access[_-]?token
        |refresh[_-]?token|id[_-]?token|subject[_-]?token|client[_-]?assertion|enrolment[_-]?token|cookie))
        (["']?\s*[=:]\s*["']?) (?!\[redacted\]) [^\s"'&,;})\]]+ """
)
_SECRET_NAME: Final = re.compile(
    r"(?i)authorization|password|passwd|secret|api_?key|master_?key|private|cookie|assertion|dsn"
    r"|(^|_)token$|^jws$|^jwt$|credential"
)


def redact(text: str) -> str:
    """The text, cut to 32 Ki characters, without what looks like a secret of ours, a token, a password or a private key."""
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS] + "[…]"
    text = _SECRETS.sub(REDACTED, text)
    text = _AUTHORIZATION.sub(rf"\1 {REDACTED}", text)
    text = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text)
    return _NAMED.sub(rf"\1\2{REDACTED}", text)


def redact_value(name: str, value: object, depth: int = 0) -> object:
    """A JSON value for a log: by its name where the name says secret, else by what it looks like."""
    if _SECRET_NAME.search(name.replace("-", "_")):
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _MAX_DEPTH:
        return "[…]"
    if isinstance(value, Mapping):
        return {redact(str(k)): redact_value(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value("", item, depth + 1) for item in value]
    return redact(str(value))
