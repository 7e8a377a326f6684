"""The data plane with a sampler in it: where its processor's time goes, by step of a request.

    python -m bench.gate_steps serve --port 8080      SIGUSR1 begins, SIGUSR2 writes BENCH_STEPS

Each two milliseconds of the process's own CPU the kernel sends SIGPROF (setitimer(2), ITIMER_PROF),
and the stack that is running counts for its innermost part that the table names. Time in the kernel
and in C counts for whoever called it, as far as that can be seen.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

from tenantplane.dataplane.main import main as serve

INTERVAL_SECONDS: Final = 0.002
# The signal's handler runs when Python does next: what uvloop and httptools spend in C counts for the
# gate and the server, whose code is the first that they call.
_SERVER: Final = "server_and_gate"
# The first that is part of a frame's file name says the step.
_STEPS: Final = (
    ("/redis/", "valkey"),
    ("/core/valkey/", "valkey"),
    ("/psycopg", "commits"),
    ("/ledger/commit.py", "commits"),
    ("/ledger/journal.py", "commits"),
    ("/core/audit/", "audit_record"),
    ("/core/keys/", "encryption"),
    ("/cryptography/", "encryption"),
    ("/ledger/", "meter"),
    ("/gate/admission.py", "meter"),
    ("/aiohttp/", "model_call"),
    ("/dataplane/models/", "model_call"),
    ("/core/identity/", "identity"),
    ("/gate/identity.py", "identity"),
    ("/gate/token_cache.py", "identity"),
    ("/gate/credentials.py", "identity"),
    ("/gate/entitlements.py", "identity"),
    ("/logging/", "log"),
    ("/gate/access_log.py", "log"),
    ("/dataplane/api/", "api"),
    ("/gate/", _SERVER),
    ("/uvicorn/", _SERVER),
    ("/dataplane/", "background"),
)
_counted: Counter[str] = Counter()


def step_of(frame: FrameType | None) -> str:
    """The step that a stack is in."""
    while frame is not None:
        name = frame.f_code.co_filename
        for part, step in _STEPS:
            if part in name:
                return step
        frame = frame.f_back
    return _SERVER


def shares(path: Path) -> Mapping[str, float]:
    """Of the samples that a run wrote, by step; they add up to 1."""
    counted: dict[str, int] = json.loads(path.read_text())
    total = sum(counted.values())
    return {step: count / total for step, count in sorted(counted.items())}


def _sample(_number: int, frame: FrameType | None) -> None:
    _counted[step_of(frame)] += 1


def _begin(_number: int, _frame: FrameType | None) -> None:
    _counted.clear()
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)


def _end(_number: int, _frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    path = Path(os.environ["BENCH_STEPS"])
    path.with_suffix(".part").write_text(json.dumps(_counted))
    path.with_suffix(".part").rename(path)  # whoever waits for it reads all of it


def main() -> int:
    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR1, _begin)
    signal.signal(signal.SIGUSR2, _end)
    return serve(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
