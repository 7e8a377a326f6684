"""An OCI image archive of one layer, made without a container engine.

Formats: github.com/opencontainers/image-spec v1.0 (image-layout, manifest, config).
The same files give the same digest, so an import can be skipped by comparing it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_OCI = "application/vnd.oci.image"


def write_archive(
    target: Path,
    reference: str,
    layer: Path,
    *,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write ``target``: an image named ``reference`` whose one layer is the tar ``layer``."""
    digest, size = _digest_of(layer), layer.stat().st_size
    config = {
        "created": "1970-01-01T00:00:00Z",
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": list(entrypoint) or None,
            "Cmd": list(command) or None,
            "Env": [f"{name}={value}" for name, value in (environment or {}).items()],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }
    config_blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _descriptor(f"{_OCI}.config.v1+json", config_blob),
        "layers": [
            {"mediaType": f"{_OCI}.layer.v1.tar", "digest": f"sha256:{digest}", "size": size}
        ],
    }
    manifest_blob = json.dumps(manifest).encode()
    named = _descriptor(f"{_OCI}.manifest.v1+json", manifest_blob)
    named["annotations"] = {"org.opencontainers.image.ref.name": reference}
    index = {"schemaVersion": 2, "manifests": [named]}
    draft = target.with_suffix(".draft")
    with tarfile.open(draft, "w") as archive:
        _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(archive, "index.json", json.dumps(index).encode())
        for blob in (config_blob, manifest_blob):
            _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        info = tarfile.TarInfo(f"blobs/sha256/{digest}")
        info.size = size
        with layer.open("rb") as stream:
            archive.addfile(info, stream)
    draft.replace(target)


def write_program_image(target: Path, reference: str, program: Path, name: str) -> None:
    """An image of nothing but one static program, which it runs."""
    layer = target.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        _add(tar, name, program.read_bytes(), mode=0o755)
    write_archive(target, reference, layer, entrypoint=[f"/{name}"])
    layer.unlink()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    digest = hashlib.sha256(blob).hexdigest()
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}


def _digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
