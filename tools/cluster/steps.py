"""Say what is being done, and for how long, whenever it takes over two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_SECONDS = 2.0
"""Steps shorter than this are not worth a line."""

REPEAT_SECONDS = 15.0
"""Where no terminal shows a running clock, a line this often says we live."""


_shown_elsewhere: list[Callable[[str], None]] = []


@contextmanager
def shown_by(show: Callable[[str], None]) -> Iterator[None]:
    """Hand the names of steps and what is said to a caller that shows progress of its own."""
    _shown_elsewhere.append(show)
    try:
        yield
    finally:
        _shown_elsewhere.pop()


@contextmanager
def step(name: str) -> Iterator[None]:
    """Run a step; show its name once it has taken over two seconds."""
    if _shown_elsewhere:
        _shown_elsewhere[-1](name)
        yield
        return
    started = time.monotonic()
    finished = threading.Event()
    shown = threading.Event()

    def show() -> None:
        live = sys.stderr.isatty()
        wait = QUIET_SECONDS
        while not finished.wait(wait):
            shown.set()
            seconds = time.monotonic() - started
            line = f"  {name} … {seconds:.0f} s"
            print(f"\r{line}" if live else line, end="" if live else "\n", file=sys.stderr)
            sys.stderr.flush()
            wait = 1.0 if live else REPEAT_SECONDS

    watcher = threading.Thread(target=show, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        finished.set()
        watcher.join()
        if shown.is_set():
            print(f"\r  {name}: failed", file=sys.stderr, flush=True)
        raise
    finished.set()
    watcher.join()
    if shown.is_set():
        seconds = time.monotonic() - started
        print(f"\r  {name}: {seconds:.1f} s    ", file=sys.stderr, flush=True)


def say(line: str) -> None:
    """A line for the person who waits; stdout stays for what scripts read."""
    if _shown_elsewhere:
        _shown_elsewhere[-1](line)
        return
    print(line, file=sys.stderr, flush=True)
