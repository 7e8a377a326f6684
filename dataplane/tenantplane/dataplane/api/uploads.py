"""The body of an upload: the document itself, or a form with it. Never on disk."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.dataplane.sources.documents.service import Upload

_FORM: Final = "multipart/form-data"
_FIELDS: Final = frozenset({"file", "name", "embedding_model"})


class _InMemory(MultiPartParser):
    # The gate bounds the body, and a customer's document does not belong in a temporary file.
    spool_max_size = 1 << 40


async def read_upload(request: Request) -> Upload:
    """The parameters of the query go before the fields of the form. Raises InvalidInput."""
    try:
        return await _read(request)
    except ClientDisconnect as gone:
        # Nobody is left to be answered; the log says what happened.
        raise InvalidInput("The client left before it had sent all.", code="client_gone") from gone


async def _read(request: Request) -> Upload:
    declared = request.headers.get("content-type")
    name = request.query_params.get("name")
    model = request.query_params.get("embedding_model")
    if not (declared or "").lower().startswith(_FORM):
        return Upload(name, declared, await request.body(), model)
    parser = _InMemory(Headers(scope=request.scope), request.stream(), max_files=1, max_fields=2)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as broken:
        raise InvalidInput(
            "The form cannot be read.", hint="Send one file and nothing twice.", code="broken_form"
        ) from broken
    try:
        unknown = sorted(set(form) - _FIELDS)
        if unknown:
            raise _field(unknown[0][:100], f"unknown; there are {', '.join(sorted(_FIELDS))}")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise _field("file", "the document, as a file")
        return Upload(
            name or _text(form.get("name")) or file.filename,
            file.content_type,
            await file.read(),
            model or _text(form.get("embedding_model")),
        )
    finally:
        await form.close()


def _text(value: UploadFile | str | None) -> str | None:
    return value if isinstance(value, str) else None


def _field(path: str, message: str) -> InvalidInput:
    return InvalidInput(
        f"The form's field {path!r}: {message}.", errors=(FieldError(path, message),)
    )
