"""What a machine lacks ends `make up` with one line that says which, and how to go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.release import Release


def _up(path: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.up", "--name", "missing"],
        env={**os.environ, "PATH": path, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_no_go_compiler_is_one_line(release: Release, tmp_path: Path) -> None:
    """After `release`, so that the Debian packages are there and Go is the first thing missing."""
    ended = _up("/usr/sbin:/usr/bin:/sbin:/bin", tmp_path)
    said = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode == 1
    assert len(said) == 1
    assert "no Go compiler: install Go" in said[0]
    assert "run again" in said[0]
