"""What README.md and docs/ tell a reader to type does what they say, on the embedded stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.documents import Reader, blocks_of, pages_run_by

# One stack for all pages, also where tests are spread over processes.
pytestmark = pytest.mark.xdist_group("documented commands")


@pytest.mark.parametrize("page", pages_run_by("embedded"))
def test_a_page_holds_what_it_says(
    page: str, documented_stack: dict[str, str], tmp_path: Path
) -> None:
    reader = Reader(tmp_path, documented_stack)
    try:
        for block in blocks_of(page):
            if block.runner == "embedded":
                reader.run(block)
    finally:
        reader.close()
