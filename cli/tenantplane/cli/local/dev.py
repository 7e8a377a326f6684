"""`tenantplane dev`: the embedded stack, kept running, with what to try."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tenantplane.cli import apply as applying
from tenantplane.cli.local.demo import QUESTIONS
from tenantplane.cli.local.stack import STEPS, Stack, running
from tenantplane.cli.output import Steps, console
from tenantplane.core.apis.registry import ApiKeyRequest

_WATCH_SECONDS = 1.0


async def run(examples: Path, port: int) -> int:
    """Returns 0 after Ctrl-C or SIGTERM; data is kept for the next start."""
    started = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as exits:
        with Steps(STEPS) as steps:
            stack = await exits.enter_async_context(
                running("dev", steps, keep_data=True, port=port)
            )
            keys = await _keys(stack, steps, examples)
        _invite(stack, keys, time.monotonic() - started)
        while not stop.is_set():
            stack.processes.require_running()
            try:
                await asyncio.wait_for(stop.wait(), _WATCH_SECONDS)
            except TimeoutError:
                continue
        console.print("stopping")
    return 0


async def _keys(stack: Stack, steps: Steps, examples: Path) -> dict[str, str]:
    async with stack.context.registry() as registry:
        with steps.step(f"tenantplane apply -f {examples}"):
            await applying.apply(registry, examples, take_over=False, wait_seconds=15)
        with steps.step("an API key for each tenant"):
            request = ApiKeyRequest(name="dev", user_id="ada", expires_in_seconds=86_400)
            made = {org: await registry.create_key(org, request) for org in QUESTIONS}
            await applying.wait_applied(registry, list(made), 15)
    stack.context.write(stack.folder / "context.json")
    return {org: key.secret for org, key in made.items()}


def _invite(stack: Stack, keys: dict[str, str], seconds: float) -> None:
    console.print(f"\nReady in {seconds:.1f} s; {stack.provider.label} answers. Keys live a day.\n")
    lines = [
        "In another terminal:",
        f"  export TENANTPLANE_CONTEXT={stack.folder / 'context.json'}",
        f"  export OPENAI_BASE_URL={stack.data_plane_url}/v1",
        *(f"  export {org.upper()}_KEY={key}" for org, key in keys.items()),
        "",
        "Ask as a tenant:",
        '  curl -s $OPENAI_BASE_URL/chat/completions -H "authorization: Bearer $ACME_KEY" '
        "-H 'content-type: application/json' \\",
        '    -d \'{"model": "agent/assistant-1", "max_tokens": 300, "messages": '
        '[{"role": "user", "content": "What time is it?"}]}\'',
        "See what it cost:",
        f'  curl -s {stack.data_plane_url}/tp/v1/spend -H "authorization: Bearer $ACME_KEY"',
        "Change a plan, and see the tools change with no restart:",
        "  $EDITOR examples/first/plan-starter.yaml && .venv/bin/tenantplane apply -f examples/first/",
        "",
        f"Logs: {stack.folder / 'logs'}. Ctrl-C stops all of it; the data stays.",
    ]
    console.print("\n".join(lines), markup=False)
