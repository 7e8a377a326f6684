"""docs/configuration.md says all that the code reads."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, SecretStr

from tools.docs import (
    CLI_VARIABLES,
    COMPONENTS,
    ROOT,
    TARGET,
    Component,
    Need,
    Setting,
    render,
    settings_of,
)

_READ = re.compile(r'environ(?:ment)?\.get\(\s*"([A-Z_]+)"')


class Inner(BaseModel):
    # Said by a description all the same.
    described: int = Field(default=1, description="as described")


class Sample(BaseModel):
    # Above, in two
    # lines.
    bounded: Annotated[int, Field(ge=1, le=2000)] = 5  # and “behind”
    key: SecretStr | None = None  # a secret
    inner: Inner
    needed: str  # here


def test_the_page_is_what_the_code_says() -> None:
    assert TARGET.read_text() == render(), "run python -m tools.docs"


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.title)
def test_every_setting_has_a_meaning(component: Component) -> None:
    mute = []
    for found in settings_of(component.settings, "TENANTPLANE_"):
        inner = [found] if isinstance(found, Setting) else settings_of(found.model, "")
        mute += [s.name for s in inner if isinstance(s, Setting) and not s.meaning]
    assert mute == []


def test_every_variable_that_the_command_line_reads_is_listed() -> None:
    sources = (ROOT / "cli").rglob("*.py")
    read = {name for source in sources for name in _READ.findall(source.read_text())}
    assert read == set(CLI_VARIABLES)


def test_planes_and_operator_read_settings_alone() -> None:
    parts = ("core", "operator", "controlplane", "dataplane")
    sources = [source for part in parts for source in (ROOT / part).rglob("*.py")]
    assert sources
    assert [str(s) for s in sources if re.search(r"os\.environ|getenv", s.read_text())] == []


def test_type_default_need_and_meaning_come_from_the_code() -> None:
    assert list(settings_of(Sample, "TP_")) == [
        Setting(
            "TP_BOUNDED",
            "integer, ≥ 1, ≤ 2,000",
            "`5`",
            Need.NO,
            False,
            "Above, in two lines. and “behind”",
        ),
        Setting("TP_KEY", "text", "none", Need.NO, True, "a secret"),
        Setting("TP_INNER__DESCRIBED", "integer", "`1`", Need.NO, False, "as described"),
        Setting("TP_NEEDED", "text", "", Need.YES, False, "here"),
    ]
