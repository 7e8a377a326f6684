from __future__ import annotations

import os
import sys

import pytest

from tools.cluster import requirements
from tools.cluster.errors import MissingRequirement


def test_who_is_not_root_is_told_the_ways_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingRequirement, match=r"not root: run again with sudo, or .*kubeconfig"):
        requirements.require_linux_root()


def test_another_system_is_told_the_ways_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingRequirement, match=r"darwin cannot run the bare node: .*kind"):
        requirements.require_linux_root()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingRequirement, match="nft"):
        requirements.require_programs({"nft": "nftables"}, install=False)
