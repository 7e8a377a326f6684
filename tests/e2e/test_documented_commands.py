"""What README.md and docs/ tell a reader to type on a cluster does what they say."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.documents import Reader, blocks_of, pages_run_by, readers_variables
from tools.cluster import provider
from tools.release import Release


@pytest.fixture
def reader(release: Release, tmp_path: Path) -> Iterator[Reader]:
    """A shell with the cluster's kubectl and helm on its PATH, and its KUBECONFIG."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in (
        ("kubectl", provider.kubectl(release.name)),
        ("helm", provider.helm(release.name)),
    ):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)
    variables = readers_variables(KUBECONFIG=release.kubeconfig())
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    folder = tmp_path / "reader"
    folder.mkdir()
    made = Reader(folder, variables)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("page", pages_run_by("cluster"))
def test_a_page_holds_what_it_says(page: str, reader: Reader) -> None:
    for block in blocks_of(page):
        if block.runner == "cluster":
            reader.run(block)
