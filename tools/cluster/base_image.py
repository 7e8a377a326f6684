"""The base image, made from the machine's own Debian mirror: there is no registry.

It stands where a public build has ``python:3.11-slim-bookworm``: Debian 12 with
Python 3.11 and venv. Made once (40 s) and kept in the cache as an OCI archive;
remove ``images/base-*`` there to make it anew with today's packages.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from tools.cluster.commands import locked, run
from tools.cluster.errors import MissingRequirement
from tools.cluster.mounts import unmount_below
from tools.cluster.oci_archive import write_archive
from tools.cluster.settings import cache_root
from tools.cluster.steps import step

REFERENCE = "localhost/tenantplane-base:bookworm"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")

LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
)
"""Not needed to run, a third of the size; licences (usr/share/doc) stay."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


def archive() -> Path:
    """Where the base's archive stands, or will stand."""
    recipe = repr((SUITE, PACKAGES, LEFT_OUT, _ENVIRONMENT, 1))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:10]
    return cache_root() / "images" / f"base-{SUITE}-{key}.oci.tar"


def ensure() -> Path:
    """The base's archive, made if it has to be."""
    target = archive()
    with locked(cache_root() / "images" / ".base.lock"):
        if not target.exists():
            with step("making the base image with debootstrap (once, about 40 s)"):
                _make(target)
    return target


def mirror(sources: Iterable[str]) -> str:
    """The address that the machine's apt has for the suite; ``sources`` are its files' texts.

    Both formats of sources.list(5): one line each, and deb822 stanzas.
    """
    for text in sources:
        for line in text.splitlines():
            words = re.sub(r"\[[^]]*\]", "", line).split()
            if words[:1] == ["deb"] and SUITE in words[2:3] and "main" in words:
                return words[1]
        for stanza in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            ours = SUITE in fields.get("Suites", "").split()
            if ours and "deb" in fields.get("Types", "").split() and fields.get("URIs"):
                return str(fields["URIs"].split()[0])
    raise MissingRequirement(
        f"no apt source for Debian {SUITE}", "build images where apt has one, or with Docker"
    )


def _make(target: Path) -> None:
    source = mirror(_apt_sources())
    root = target.with_suffix(".rootfs")
    layer = target.with_suffix(".layer")
    log = target.parent / "debootstrap.log"
    _clear(root)
    try:
        include = f"--include={','.join(PACKAGES)}"
        run(["debootstrap", "--variant=minbase", include, SUITE, str(root), source], log=log)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        run(
            ["tar", "--numeric-owner", "--sort=name", *left_out, "-C", str(root),
             "-cf", str(layer), "."]
        )  # fmt: skip
        write_archive(target, REFERENCE, layer, command=["python3"], environment=_ENVIRONMENT)
    finally:
        _clear(root)
        layer.unlink(missing_ok=True)


def _clear(root: Path) -> None:
    if root.exists():
        unmount_below(root)  # debootstrap mounts /proc and may be cut off
        shutil.rmtree(root)


def _apt_sources() -> list[str]:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [file.read_text() for file in files if _is_source(file)]


def _is_source(file: Path) -> bool:
    return file.suffix in (".list", ".sources") and file.is_file()
