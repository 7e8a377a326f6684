"""The type of cursor that every repository works on."""

from __future__ import annotations

from psycopg import AsyncCursor
from psycopg.rows import DictRow

Cursor = AsyncCursor[DictRow]
