"""The note store: what a user asked to be kept, in a tenant table under RLS.

Notes belong to one user of one org; they outlive the thread in which they were made.
"""

from __future__ import annotations

from typing import Annotated, LiteralString

from pydantic import Field, StringConstraints

from tenantplane.core.ids import new_id
from tenantplane.dataplane.tools.definitions import (
    Tool,
    ToolArguments,
    ToolContext,
    ToolFunction,
)

# Filters beside RLS: under policies alone the planner does not use the key.
_WRITE: LiteralString = """
INSERT INTO dataplane.note (org_id, user_id, note_id, thread_id, body)
VALUES (%(org_id)s, %(user_id)s, %(note_id)s, %(thread_id)s, %(body)s)
"""
_READ: LiteralString = """
SELECT body, created_at FROM dataplane.note
 WHERE org_id = %(org_id)s AND user_id = %(user_id)s
   AND position(lower(%(contains)s) IN lower(body)) > 0
 ORDER BY note_id DESC LIMIT %(limit)s
"""


class WriteArguments(ToolArguments):
    text: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True, min_length=1, max_length=4000, pattern=r"^[^\x00]*$"
        ),
        Field(description="What to remember"),
    ]


class ReadArguments(ToolArguments):
    contains: Annotated[
        str, Field(max_length=200, pattern=r"^[^\x00]*$", description="Only notes with these words")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many, newest first")] = 10


async def write_note(context: ToolContext, arguments: WriteArguments) -> str:
    tenant = context.tenant
    async with context.database.tenant_tx(tenant.org_id) as cursor:
        await cursor.execute(
            _WRITE,
            {
                "org_id": tenant.org_id,
                "user_id": tenant.user_id,
                "note_id": new_id(),
                "thread_id": context.thread_id,
                "body": arguments.text,
            },
        )
    return f"Noted: {arguments.text}"


async def read_notes(context: ToolContext, arguments: ReadArguments) -> str:
    tenant = context.tenant
    async with context.database.tenant_tx(tenant.org_id) as cursor:
        await cursor.execute(
            _READ,
            {
                "org_id": tenant.org_id,
                "user_id": tenant.user_id,
                "contains": arguments.contains,
                "limit": arguments.limit,
            },
        )
        rows = await cursor.fetchall()
    if not rows:
        return "There are no notes."
    return "\n".join(f"- {row['body']} ({row['created_at']:%Y-%m-%d %H:%M} UTC)" for row in rows)


NOTES = Tool(
    "notes",
    (
        ToolFunction("notes_write", "Keeps a note for the user.", WriteArguments, write_note),
        ToolFunction("notes_read", "Reads the user's notes.", ReadArguments, read_notes),
    ),
)
