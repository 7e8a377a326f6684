"""Programs of Debian packages without installing them: tests need servers that no wheel carries.

    program = debian_program("pgbouncer", "pgbouncer")
    subprocess.Popen(program.argv("-q", "pgbouncer.ini"), env=program.environment())

What dpkg has installed is used as it is. Otherwise the package and whatever of its dependencies
this machine lacks are downloaded by apt-get and unpacked into a cache, as root or as anybody; no
maintainer script runs, no service starts. A machine without apt-get may have the program on PATH.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_DOWNLOAD_SECONDS: Final = 300
_COMPLETE: Final = ".complete"
# `Inst NAME [installed version] (candidate …)`, as `apt-get --simulate install` prints it.
_TO_INSTALL: Final = re.compile(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+)", re.MULTILINE)
# A second C library beside the running loader's own would crash every program.
_NEVER_UNPACKED: Final = frozenset({"libc6", "libc-bin", "base-files", "dpkg", "perl-base"})


class DebianProgramMissing(Exception):
    """The program is neither here nor to be had; the message says what to install."""


@dataclass(frozen=True, slots=True)
class DebianProgram:
    """An executable, and where the loader finds the libraries that came with it."""

    path: Path
    library_folders: tuple[Path, ...] = field(default=())

    def argv(self, *arguments: str | Path) -> list[str]:
        """The command line for `subprocess`."""
        return [str(self.path), *(str(argument) for argument in arguments)]

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """`base` (this process's environment where None) with the libraries' folders in it."""
        found = dict(os.environ if base is None else base)
        if self.library_folders:
            before = [found["LD_LIBRARY_PATH"]] if found.get("LD_LIBRARY_PATH") else []
            found["LD_LIBRARY_PATH"] = ":".join([*map(str, self.library_folders), *before])
        return found


def debian_program(package: str, program: str) -> DebianProgram:
    """The executable `program` of a Debian `package`; the first call may download it.

    Raises DebianProgramMissing, which names the package to install.
    """
    installed = _installed(package, program)
    if installed is not None:
        return DebianProgram(installed)
    refusal = "there is no apt-get here"
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        try:
            return _unpacked(package, program)
        except (OSError, subprocess.SubprocessError) as failed:
            refusal = _said(failed)
    on_path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if on_path is None:
        raise DebianProgramMissing(
            f"{program} is missing: apt-get install {package}, or have it on PATH. "
            f"Unpacking it without installing failed: {refusal}"
        )
    return DebianProgram(Path(on_path))


def cache_folder() -> Path:
    """Where packages are unpacked. Root's servers drop to a user who cannot enter root's home."""
    if os.geteuid() == 0:
        return Path("/var/cache/tenantplane/debian")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tenantplane" / "debian"


def _installed(package: str, program: str) -> Path | None:
    if shutil.which("dpkg-query") is None:
        return None
    listed = subprocess.run(
        ["dpkg-query", "--listfiles", package], capture_output=True, text=True, check=False
    )
    return _executable(map(Path, listed.stdout.splitlines()), program)


def _executable(paths: Iterator[Path], program: str) -> Path | None:
    for path in paths:
        is_program = path.name == program and path.parent.name in ("bin", "sbin")
        if is_program and path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def _unpacked(package: str, program: str) -> DebianProgram:
    cache = cache_folder()
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(cache):
        root = _newest_complete(cache, package) or _downloaded(cache, package)
    path = _executable(root.rglob(program), program)
    if path is None:
        raise FileNotFoundError(f"the package {package} has no program {program}")
    return DebianProgram(path, tuple(_library_folders(root)))


def _newest_complete(cache: Path, package: str) -> Path | None:
    complete = [mark.parent for mark in cache.glob(f"{package}_*/{_COMPLETE}")]
    return max(complete, key=lambda folder: folder.stat().st_mtime, default=None)


def _downloaded(cache: Path, package: str) -> Path:
    try:
        return _fetched(cache, package, ())
    except subprocess.SubprocessError:
        # No package lists, or lists so old that the mirror has moved on: fetch lists of our own.
        lists = _own_lists(cache)
        _run(["apt-get", *lists, "update", "-qq"])
        return _fetched(cache, package, lists)


def _fetched(cache: Path, package: str, options: Sequence[str]) -> Path:
    plan = _run(
        ["apt-get", *options, "--simulate", "--no-install-recommends", "install", package]
    ).stdout
    versions = {
        name: version for name, version in _TO_INSTALL.findall(plan) if name not in _NEVER_UNPACKED
    }
    if package not in versions:
        raise FileNotFoundError(f"apt-get would not install {package}")
    target = cache / f"{package}_{versions[package].replace(':', '%')}"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        archives, root = Path(scratch) / "archives", Path(scratch) / "root"
        archives.mkdir()
        root.mkdir(mode=0o755)
        wanted = [f"{name}={version}" for name, version in versions.items()]
        # Its sandbox user could not enter our folder.
        _run(["apt-get", *options, "-o", "APT::Sandbox::User=root", "download", *wanted], archives)
        for archive in sorted(archives.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(archive), str(root)])
        (root / _COMPLETE).touch()
        root.rename(target)
    return target


def _own_lists(cache: Path) -> list[str]:
    lists, apt = cache / "lists", cache / "apt"
    for folder in (lists / "partial", apt / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    settings = {"Dir::State::lists": lists, "Dir::Cache": apt, "APT::Sandbox::User": "root"}
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def _library_folders(root: Path) -> Iterator[Path]:
    for pattern in ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*"):
        yield from (folder for folder in sorted(root.glob(pattern)) if folder.is_dir())


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(argv: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        check=True,
        capture_output=True,
        text=True,
        timeout=_DOWNLOAD_SECONDS,
    )


def _said(failed: Exception) -> str:
    if isinstance(failed, subprocess.CalledProcessError):
        lines = str(failed.stderr or failed.stdout).strip().splitlines()
        return f"{' '.join(failed.cmd[:1])}: {' | '.join(lines[-2:])}"
    return str(failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tools.debian PACKAGE PROGRAM` prints the path."""
    package, program = arguments if arguments is not None else sys.argv[1:]
    print(debian_program(package, program).path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
