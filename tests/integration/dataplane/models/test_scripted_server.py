"""The scripted model as a process of its own, as the demo starts it."""

from __future__ import annotations

import asyncio
import sys

import openai
import pytest


async def test_it_serves_on_a_free_port_and_ends_on_request() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tenantplane.dataplane.models.scripted",
        "--tokens-per-second",
        "1000",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        base_url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
            assert [m.id async for m in client.models.list()] == ["scripted-1"]
            answer = await client.chat.completions.create(
                model="scripted-1", messages=[{"role": "user", "content": "Hello"}]
            )
            assert answer.choices[0].message.content == "Scripted answer to: Hello"
            with pytest.raises(openai.RateLimitError):
                await client.with_options(max_retries=0).chat.completions.create(
                    model="scripted-1", messages=[{"role": "user", "content": "[[fault:429]]"}]
                )
    finally:
        process.terminate()
        assert await process.wait() in {0, -15}
