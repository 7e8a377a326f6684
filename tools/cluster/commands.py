"""Run a program to its end; files written whole; locks between processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools.cluster.errors import CommandFailed, MissingRequirement


def run(
    argv: list[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    timeout_seconds: float = 1800,
) -> str:
    """Run to the end and give stdout; ``CommandFailed`` when it ends with an error.

    With ``log`` all output goes to that file instead, and the empty string comes back.
    """
    try:
        if log is not None:
            with log.open("ab") as sink:
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
                    env=_environment(env), cwd=cwd, timeout=timeout_seconds, check=False,
                )  # fmt: skip
            if done.returncode:
                tail = log.read_text(errors="replace")[-2000:]
                raise CommandFailed(argv, done.returncode, f"{tail}\nlog: {log}")
            return ""
        captured = subprocess.run(
            argv, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True, text=True, env=_environment(env), cwd=cwd,
            timeout=timeout_seconds, check=False,
        )  # fmt: skip
    except FileNotFoundError as missing:
        raise MissingRequirement(f"{argv[0]} not found", "install it, then run again") from missing
    except subprocess.TimeoutExpired as late:
        raise CommandFailed(argv, -1, f"no end after {timeout_seconds:.0f} s") from late
    if captured.returncode:
        raise CommandFailed(argv, captured.returncode, captured.stderr or captured.stdout)
    return captured.stdout


def succeeds(argv: list[str]) -> bool:
    """Whether a program ends well; its output is not kept."""
    try:
        run(argv)
    except (CommandFailed, MissingRequirement):
        return False
    return True


def write(path: Path, text: str | bytes, mode: int = 0o644) -> bool:
    """Write a file whole (a crash leaves the old or the new); whether it changed."""
    data = text.encode() if isinstance(text, str) else text
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel lets go of it when its holder dies.

    The file goes with the last holder, so that locks leave nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # The holder before us may have removed the file: then lock the new one.
            if not path.exists() or os.fstat(stream.fileno()).st_ino != path.stat().st_ino:
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(extra or {})}
