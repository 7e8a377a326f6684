"""How the API answers lists: an object, so that it can grow."""

from __future__ import annotations

from typing import Generic, TypeVar

from tenantplane.core.apis.common import Model

T = TypeVar("T")


class Listing(Model, Generic[T]):
    """A page; `next` is what to ask `after`, None where this is the end."""

    items: tuple[T, ...]
    next: str | None = None
