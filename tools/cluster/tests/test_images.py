"""What an image's rebuild depends on, and where its base comes from."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tools.cluster import base_image, containerd
from tools.cluster.errors import ClusterError, MissingRequirement
from tools.cluster.images import Build, context_files
from tools.cluster.oci_archive import write_program_image


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in (
        "Dockerfile",
        "src/app.py",
        "src/notes.md",
        "README.md",
        "dist/a.whl",
        "dist/b.txt",
    ):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    return tmp_path


def names(context: Path) -> list[str]:
    return [str(file.relative_to(context)) for file in context_files(context)]


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("", ["Dockerfile", "README.md", "dist/a.whl", "dist/b.txt", "src/app.py", "src/notes.md"]),
        ("*.md", ["Dockerfile", "dist/a.whl", "dist/b.txt", "src/app.py", "src/notes.md"]),
        ("**/*.md", ["Dockerfile", "dist/a.whl", "dist/b.txt", "src/app.py"]),
        ("src\ndist/", ["Dockerfile", "README.md"]),
        ("*\n!dist/*.whl", ["dist/a.whl"]),
        ("*\n!src", ["src/app.py", "src/notes.md"]),
    ],
)
def test_dockerignore(context: Path, ignore: str, left: list[str]) -> None:
    (context / ".dockerignore").write_text(ignore)
    assert [name for name in names(context) if name != ".dockerignore"] == left


def build(context: Path, **arguments: str) -> Build:
    return Build("localhost/app:1", context / "Dockerfile", context, arguments)


def test_the_key_changes_with_content_mode_and_arguments_alone(context: Path) -> None:
    key = build(context).content_key()
    assert build(context).content_key() == key
    assert build(context, BASE="other").content_key() != key
    (context / "src/app.py").chmod(0o755)
    executable = build(context).content_key()
    assert executable != key
    (context / "src/app.py").write_text("changed")
    assert build(context).content_key() not in (key, executable)


@pytest.mark.parametrize("tag", ["app", "localhost/app", "app:1", "localhost/App:1"])
def test_a_tag_that_the_cluster_could_not_find_is_refused(context: Path, tag: str) -> None:
    with pytest.raises(ClusterError, match="give host, name and tag"):
        Build(tag, context / "Dockerfile", context, {}).check()


def test_mirror_of_one_line_sources() -> None:
    text = "deb [signed-by=/k.gpg] http://one/debian bookworm main\n"
    assert base_image.mirror(["deb http://no bookworm-updates main", text]) == "http://one/debian"


def test_mirror_of_deb822_sources() -> None:
    stanzas = (
        "Types: deb\nURIs: http://security/\nSuites: bookworm-security\nComponents: main\n\n"
        "Types: deb\nURIs: http://two/debian\nSuites: bookworm bookworm-updates\n"
    )
    assert base_image.mirror([stanzas]) == "http://two/debian"


def test_no_mirror_is_said() -> None:
    with pytest.raises(MissingRequirement, match="no apt source"):
        base_image.mirror(["deb http://other/ubuntu noble main"])


def test_an_archive_of_one_program_names_its_image_and_repeats_its_digest(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    found = []
    for name in ("one", "two"):
        archive = tmp_path / f"{name}.oci.tar"
        write_program_image(archive, "localhost/p:1", program, "p")
        found.append(containerd.archive_images(archive))
    assert found[0] == found[1]
    assert list(found[0]) == ["localhost/p:1"]
    with tarfile.open(archive) as tar:
        blobs = {name for name in tar.getnames() if name.startswith("blobs/")}
        index = tar.extractfile("index.json")
        assert index is not None
        manifest = json.load(index)["manifests"][0]
    assert f"blobs/sha256/{manifest['digest'].removeprefix('sha256:')}" in blobs
    assert len(blobs) == 3
