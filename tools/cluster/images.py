"""Build images from Dockerfiles without a Docker engine, once per content."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.cluster import base_image
from tools.cluster.commands import locked, run, write
from tools.cluster.errors import ClusterError
from tools.cluster.settings import cache_root
from tools.cluster.steps import step


@dataclass(frozen=True)
class Build:
    """What an image is made of."""

    tag: str
    dockerfile: Path
    context: Path
    arguments: Mapping[str, str]

    @property
    def archive(self) -> Path:
        return cache_root() / "images" / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.tag)}.oci.tar"

    def check(self) -> None:
        """Raise ``ClusterError`` for what cannot be built."""
        if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?/[a-z0-9._/-]+:[A-Za-z0-9._-]+", self.tag):
            raise ClusterError(
                f"tag {self.tag!r}: give host, name and tag, such as localhost/my-image:1"
            )
        if not self.dockerfile.is_file():
            raise ClusterError(f"no Dockerfile at {self.dockerfile}")
        if not self.context.is_dir():
            raise ClusterError(f"no folder at {self.context}")

    def content_key(self) -> str:
        """A hash of everything the image can depend on."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.tag, dict(self.arguments)], sort_keys=True).encode())
        digest.update(self.dockerfile.read_bytes())
        for path in context_files(self.context):
            status = path.lstat()
            digest.update(f"\0{path.relative_to(self.context)}\0{status.st_mode:o}\0".encode())
            if stat.S_ISLNK(status.st_mode):
                digest.update(str(path.readlink()).encode())
            else:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def context_files(context: Path) -> Iterator[Path]:
    """Files of a context in a fixed order, without what its ``.dockerignore`` names."""
    ignore = context / ".dockerignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    yield from _walk(context, context, patterns)


def build_with_buildah(build: Build) -> bool:
    """Make the archive unless it is there from the same content; whether it was made."""
    build.check()
    if _takes_base(build) and "BASE" not in build.arguments:
        arguments = {**build.arguments, "BASE": base_image.REFERENCE}
        build = Build(build.tag, build.dockerfile, build.context, arguments)
    base = base_image.ensure() if base_image.REFERENCE in build.arguments.values() else None
    storage = cache_root() / "buildah"
    key_file = build.archive.with_suffix(".key")
    with locked(storage / ".lock"):
        key = f"{build.content_key()} {base.name if base else ''}"
        unchanged = key_file.exists() and key_file.read_text() == key
        if unchanged and build.archive.exists():
            return False
        if base:
            _ensure_base(storage, base)
        with step(f"building {build.tag}"):
            _bud(storage, build)
        write(key_file, key)
    return True


def _bud(storage: Path, build: Build) -> None:
    arguments = [f"--build-arg={name}={value}" for name, value in build.arguments.items()]
    log = build.archive.with_suffix(".log")
    log.unlink(missing_ok=True)
    environment = _environment(storage)
    run(
        [*_buildah(storage), "bud", "--layers=false", "--pull-never", "--isolation=chroot",
         *arguments, "-t", build.tag, "-f", str(build.dockerfile), str(build.context)],
        env=environment, log=log,
    )  # fmt: skip
    draft = build.archive.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    push = ["push", "--quiet", "--disable-compression", build.tag]
    run([*_buildah(storage), *push, f"oci-archive:{draft}:{build.tag}"], env=environment, log=log)
    draft.replace(build.archive)
    log.unlink()
    run([*_buildah(storage), "rmi", "--prune"], env=environment)  # vfs keeps whole copies


def _ensure_base(storage: Path, archive: Path) -> None:
    marker = storage / "base"
    if marker.exists() and marker.read_text() == archive.name:
        return
    with step("taking the base image into buildah's storage"):
        source = f"oci-archive:{archive}:{base_image.REFERENCE}"
        run([*_buildah(storage), "pull", source], env=_environment(storage))
    write(marker, archive.name)


def _buildah(storage: Path) -> list[str]:
    # vfs: overlay cannot stand on every file system that a home may be on.
    roots = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]
    return ["buildah", *roots, "--storage-driver", "vfs"]


def _environment(storage: Path) -> dict[str, str]:
    """chroot: nothing but the program's own namespaces. Network files of its own: not in /etc."""
    settings = storage / "containers.conf"
    write(settings, f'[network]\nnetwork_config_dir = "{storage}/cni"\n')
    return {"BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(settings)}


def _takes_base(build: Build) -> bool:
    return bool(re.search(r"^\s*ARG\s+BASE\b", build.dockerfile.read_text(), re.MULTILINE))


def _walk(context: Path, folder: Path, patterns: list[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _ignored(path.relative_to(context).as_posix(), patterns):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(context, path, patterns)
        elif path.is_file() or path.is_symlink():
            yield path


def _ignored(path: str, patterns: list[str]) -> bool:
    """The last pattern that speaks of a path decides. Folders with exceptions are walked."""
    ignored = False
    for pattern in patterns:
        exception = pattern.startswith("!")
        bare = pattern.lstrip("!").strip("/")
        if exception and bare.startswith(f"{path}/"):
            ignored = False
        elif re.fullmatch(_expression(bare), path):
            ignored = not exception
    return ignored


def _expression(pattern: str) -> str:
    """A ``.dockerignore`` pattern as a regular expression; it holds for all below a folder too."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    words = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(words.get(piece, re.escape(piece)) for piece in pieces) + "(/.*)?"
