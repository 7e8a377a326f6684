"""Reading in a process of its own, one for each document, which is killed when its time is over.

A thread could not be stopped, and a process that reads on for the next org would carry over what a
hostile document left in it. Starting one takes a second, so the next is made ready beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

from tenantplane.core.errors import DependencyUnavailable, Unprocessable
from tenantplane.core.turns import Turns
from tenantplane.dataplane.ledger.background import Background
from tenantplane.dataplane.sources.documents.chunking import Passage
from tenantplane.dataplane.sources.documents.media import Medium
from tenantplane.dataplane.sources.documents.reader import READY, ReadOrder
from tenantplane.dataplane.sources.documents.settings import DocumentsSettings

_log = logging.getLogger(__name__)

_READER = "tenantplane.dataplane.sources.documents.reader"
_START_SECONDS = 30.0
_RETRY_AFTER_SECONDS = 5.0
# JSON of a character: six bytes at most ("\u001f"); the texts overlap; headings come on top.
_BYTES_PER_CHAR = 12
_PIECE_BYTES = 1 << 16


class ReaderProcesses:
    """`close` at the end: a process that is kept ready ends then."""

    def __init__(self, settings: DocumentsSettings) -> None:
        self._settings = settings
        self._turns = Turns(
            each=1,
            at_once=settings.readers,
            wait_seconds=settings.reader_wait_seconds,
            busy=_readers_busy,
        )
        self._background = Background()
        self._spare: Process | None = None
        self._spare_ends: asyncio.TimerHandle | None = None
        self._closed = False

    async def read(self, org_id: str, data: bytes, medium: Medium) -> list[Passage]:
        """The passages of a document.

        Raises Unprocessable, which says what is wrong with it, and DependencyUnavailable.
        """
        async with self._turns.of(org_id):
            process = await self._take()
            try:
                async with asyncio.timeout(self._settings.read_seconds):
                    answer = await self._converse(process, data, medium)
            except TimeoutError:
                raise self._too_slow() from None
            finally:
                await asyncio.shield(self._background.spawn(_end(process)))
                self._background.spawn(self._prepare())
        return _passages(answer, self._too_slow())

    async def close(self) -> None:
        self._closed = True
        self._dismiss()
        await self._background.finish(_START_SECONDS)
        self._dismiss()
        await self._background.finish(_START_SECONDS)

    async def _converse(self, process: Process, data: bytes, medium: Medium) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        order = self._order(medium).model_dump_json().encode()
        # It may end before it has read all: then its answer says why, or there is none. (A pipe
        # that is closed already is a RuntimeError of uvloop's.)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            process.stdin.write(order + b"\n")
            process.stdin.write(data)
            await process.stdin.drain()
            process.stdin.close()
        limit = self._settings.text_chars * _BYTES_PER_CHAR + _PIECE_BYTES
        answer = bytearray()
        while piece := await process.stdout.read(_PIECE_BYTES):
            answer += piece
            if len(answer) > limit:
                _log.error("a reader wrote more than %d bytes", limit)
                return b""
        return bytes(answer)

    def _order(self, medium: Medium) -> ReadOrder:
        settings = self._settings
        return ReadOrder(
            media_type=medium.media_type,
            charset=medium.charset,
            pages=settings.pages,
            text_chars=settings.text_chars,
            chunks=settings.chunks,
            chunk_chars=settings.chunk_chars,
            chunk_overlap_chars=settings.chunk_overlap_chars,
            memory_bytes=settings.read_memory_bytes,
            # Above the time by the clock, which counts what waits too: a second line behind it.
            cpu_seconds=math.ceil(settings.read_seconds) + 5,
        )

    async def _take(self) -> Process:
        process = self._spare
        self._forget_spare()
        if process is not None and process.returncode is None:
            return process
        return await _start()

    async def _prepare(self) -> None:
        """Makes a process ready for the next document, and ends it where none comes for long."""
        if not self._wants_spare():
            return
        process = await _start()
        if not self._wants_spare():
            await _end(process)
            return
        self._spare = process
        self._spare_ends = asyncio.get_running_loop().call_later(
            self._settings.spare_reader_seconds, self._dismiss
        )

    def _wants_spare(self) -> bool:
        keeps = self._settings.spare_reader_seconds > 0
        return keeps and not self._closed and self._spare is None

    def _dismiss(self) -> None:
        process = self._spare
        self._forget_spare()
        if process is not None:
            self._background.spawn(_end(process))

    def _forget_spare(self) -> None:
        self._spare = None
        if self._spare_ends is not None:
            self._spare_ends.cancel()
            self._spare_ends = None

    def _too_slow(self) -> Unprocessable:
        return Unprocessable(
            f"The document took more than the {self._settings.read_seconds:g} s or the memory that"
            " one may take to be read.",
            hint="Send it in parts, or as plain text.",
            code="document_too_large",
        )


def _readers_busy() -> DependencyUnavailable:
    return DependencyUnavailable(
        "Too many documents are being read at the moment.",
        hint="Send the document again in a few seconds.",
        code="readers_busy",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


async def _start() -> Process:
    """A process that has said that it is ready. Raises DependencyUnavailable."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", _READER, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            if await process.stdout.readline() == READY:
                return process
        _log.error("a reader of documents did not start: exit code %s", process.returncode)
    except TimeoutError:
        _log.error("a reader of documents did not start in %g s", _START_SECONDS)
    except BaseException:
        await asyncio.shield(_end(process))
        raise
    await _end(process)
    raise DependencyUnavailable(
        "Documents cannot be read at the moment.",
        code="reader_unavailable",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


async def _end(process: Process) -> None:
    """Kills it, whatever it does, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()


def _passages(answer: bytes, nothing: Unprocessable) -> list[Passage]:
    """Raises what the reader refused, and `nothing` where it ended without an answer."""
    try:
        told = json.loads(answer)
    except ValueError:
        raise nothing from None
    if "refused" in told:
        raise Unprocessable(**told["refused"])
    return [Passage(text, heading) for text, heading in told["passages"]]
