"""Pages say how each of their commands is run, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fixtures.documents import ROOT, Block, Reader, Untagged, blocks_of, pages, parse

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", pages())
def test_every_block_says_how_it_is_run(page: str) -> None:
    blocks_of(page)


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_files(page: str) -> None:
    folder = (ROOT / page).parent
    dead = [
        link for link in _LINK.findall((ROOT / page).read_text()) if not (folder / link).exists()
    ]
    assert dead == []


def test_tags_and_output_are_read() -> None:
    text = "\n".join(
        [
            "Ask:",
            "<!-- run: embedded, exit 1 -->",
            "```sh",
            "false",
            "```",
            "",
            "```text",
            "a … c",
            "```",
            "<!-- not run: it asks for money -->",
            "",
            "```python",
            "pay()",
            "```",
            "```yaml",
            "plain: yes",
            "```",
        ]
    )
    assert parse("p.md", text) == [
        Block("p.md:3", "sh", "false", "embedded", 1, ("a … c",)),
        Block("p.md:12", "python", "pay()", None, 0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nls\n```",
        "<!-- run: somewhere -->\n```sh\nls\n```",
        "<!-- not run: -->\n```sh\nls\n```",
        "<!-- run: cluster -->\n```yaml\na: 1\n```\n```sh\nls\n```",
        "<!-- run: cluster -->\n```bash\nls\n```",
        "<!-- run: cluster -->\n```sh\nls\n",
    ],
)
def test_a_block_that_does_not_say_how_it_is_run_is_refused(text: str) -> None:
    with pytest.raises(Untagged):
        parse("p.md", text)


class TestReader:
    @pytest.fixture
    def reader(self, tmp_path: Path) -> Reader:
        return Reader(tmp_path, {"PATH": "/usr/bin:/bin"})

    @staticmethod
    def _block(text: str, *expected: str, exit_code: int = 0) -> Block:
        return Block("p.md:1", "sh", text, "embedded", exit_code, expected)

    def test_exports_reach_the_next_block_and_output_is_compared(self, reader: Reader) -> None:
        reader.run(self._block("export A='b  c'; false", exit_code=1))
        reader.run(self._block('echo "x $A y"; ls examples', "x b … y", "first"))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("false | cat", []),
            ("echo $unset", []),
            ("echo one", ["two"]),
            ("echo one; echo two", ["two", "one"]),
        ],
    )
    def test_what_does_not_hold_fails(self, reader: Reader, text: str, expected: list[str]) -> None:
        with pytest.raises(AssertionError, match=r"p\.md:1"):
            reader.run(self._block(text, *expected))
