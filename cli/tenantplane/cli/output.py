"""What people see: steps with progress, tables, one-line errors."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Steps:
    """A bar over `total` named steps; plain lines with seconds where no terminal is attached."""

    def __init__(self, total: int) -> None:
        self._live = console.is_terminal
        self._name = ""
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._progress.stop()

    @property
    def live(self) -> bool:
        """Whether a terminal shows the bar."""
        return self._live

    def detail(self, text: str) -> None:
        """What the present step is at."""
        self._progress.update(self._task, description=f"{self._name} · {text}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step: its name on the bar while it runs, a line with its seconds when it is done."""
        self._name = name
        self._progress.update(self._task, description=name)
        started = time.monotonic()
        yield
        self._progress.advance(self._task)
        console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - started:.1f} s[/]")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table without frames, as kubectl prints it."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column.upper(), overflow="fold")
    for row in rows:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(grid)


def fail(message: str) -> int:
    """One line on standard error; returns the exit code 1."""
    errors.print(f"[red]error:[/] {message}", markup=True)
    sys.stderr.flush()
    return 1
