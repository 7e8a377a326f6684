"""Hostile files against the real reader process: each ends it, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.documents.media import Medium
from tenantplane.dataplane.sources.documents.processes import ReaderProcesses
from tenantplane.dataplane.sources.documents.settings import DocumentsSettings
from tests.fixtures.pdf import pdf_of, pdf_of_streams
from tests.fixtures.runtime import until

PDF, TEXT = Medium("application/pdf"), Medium("text/plain")
# Operators without end: each is worked off, none says anything.
SPINNING = pdf_of_streams([b"BT " + b"1 0 Td " * 100_000 + b"ET"] * 400)
LIMITS = DocumentsSettings(
    read_seconds=8, read_memory_bytes=192 * 1024 * 1024, spare_reader_seconds=30
)


@pytest.fixture
async def readers() -> AsyncIterator[ReaderProcesses]:
    made = ReaderProcesses(LIMITS)
    yield made
    await made.close()


async def until_spare(readers: ReaderProcesses) -> asyncio.subprocess.Process:
    async def is_there() -> bool:
        return readers._spare is not None

    await until(is_there, 20)
    assert readers._spare is not None
    return readers._spare


async def test_documents_of_several_orgs_each_in_a_process_of_its_own(
    readers: ReaderProcesses,
) -> None:
    first = await readers.read("acme", pdf_of("Vacation: 30 days"), PDF)
    assert [(p.text, p.heading) for p in first] == [("Vacation: 30 days", "page 1")]
    kept = (await until_spare(readers)).pid
    both = await asyncio.gather(
        readers.read("acme", b"of acme", TEXT), readers.read("globex", b"of globex", TEXT)
    )
    assert [p.text for passages in both for p in passages] == ["of acme", "of globex"]
    assert (await until_spare(readers)).pid != kept


async def test_it_has_no_environment(readers: ReaderProcesses) -> None:
    await readers.read("acme", b"text", TEXT)
    process = await until_spare(readers)
    environment = Path(f"/proc/{process.pid}/environ")
    assert await asyncio.to_thread(environment.read_bytes) == b""


async def test_a_refusal_comes_over_whole(readers: ReaderProcesses) -> None:
    with pytest.raises(Unprocessable) as refused:
        await readers.read("acme", pdf_of_streams([b"BT ET"], encrypted=True), PDF)
    assert refused.value.error_code == "document_encrypted"
    assert refused.value.hint == "Save it without a password."


async def test_a_document_that_spins_is_killed() -> None:
    readers = ReaderProcesses(LIMITS.model_copy(update={"read_seconds": 3}))
    began = time.monotonic()
    with pytest.raises(Unprocessable) as refused:
        await readers.read("acme", SPINNING, PDF)
    assert refused.value.error_code == "document_too_large"
    assert time.monotonic() - began < 3 + 10
    # The next one is read as if nothing had been.
    assert await readers.read("acme", b"text", TEXT)
    await readers.close()


@pytest.mark.parametrize(
    "packed",
    [
        pdf_of_streams([b" " * 400_000_000]),
        pdf_of_streams([b"BT /F1 12 Tf (" + b"A" * 60_000_000 + b") Tj ET"]),
    ],
    ids=["stream", "text"],
)
async def test_a_small_file_that_unpacks_to_much_is_refused(
    readers: ReaderProcesses, packed: bytes
) -> None:
    assert len(packed) < 1_000_000
    with pytest.raises(Unprocessable) as refused:
        await readers.read("acme", packed, PDF)
    assert refused.value.error_code == "document_too_large"


async def test_a_caller_that_leaves_leaves_no_process(readers: ReaderProcesses) -> None:
    await readers.read("acme", b"text", TEXT)
    process = await until_spare(readers)
    reading = asyncio.create_task(readers.read("acme", SPINNING, PDF))

    async def is_taken() -> bool:
        return readers._spare is None

    await until(is_taken)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert process.returncode is not None


async def test_one_that_is_not_needed_for_long_ends() -> None:
    made = ReaderProcesses(LIMITS.model_copy(update={"spare_reader_seconds": 0.2}))
    try:
        await made.read("acme", b"text", TEXT)
        process = await until_spare(made)
        async with asyncio.timeout(10):
            await process.wait()
    finally:
        await made.close()
