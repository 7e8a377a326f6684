"""Draws bench/results/gate.json: what the gate carries beside its peers, and where its time goes.

    python bench/gate_plot.py bench/results/gate.json docs/images/gate.svg

Runs in an environment of its own, which has matplotlib: see `draw`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

MATPLOTLIB: Final = "matplotlib==3.10.7"
_ROOT: Final = Path(__file__).parents[1]
_OURS, _OTHERS, _TEXT = "#1f6feb", "#b6bdc7", "#24292f"
_SUBJECTS: Final = {
    "bare_proxy": "bare ASGI proxy",
    "gate": "tenantplane's gate",
    "portkey": "Portkey's gateway",
    "litellm": "LiteLLM's proxy",
}
_STEPS: Final = {
    "server_and_gate": "server and gate",
    "identity": "identity",
    "api": "API",
    "meter": "meter",
    "valkey": "Valkey",
    "commits": "commits",
    "model_call": "model call",
    "audit_record": "audit record",
    "encryption": "encryption",
    "log": "log",
    "background": "background",
}


def draw() -> Path:
    """Draws the last results. Raises CalledProcessError where matplotlib cannot be had."""
    from bench import peers  # noqa: PLC0415 (not there where the drawing itself runs)

    picture = _ROOT / "docs/images/gate.svg"
    python = peers.python_environment(MATPLOTLIB) / "python"
    results = _ROOT / "bench/results/gate.json"
    subprocess.run([str(python), __file__, str(results), str(picture)], check=True)
    return picture


def _main(results: Path, picture: Path) -> None:
    mpl = import_module("matplotlib")  # by name: types are checked where it is not installed
    mpl.use("svg")
    # The same picture from the same numbers, byte for byte.
    mpl.rcParams.update({"svg.hashsalt": "gate", "font.size": 10, "text.color": _TEXT})
    pyplot = import_module("matplotlib.pyplot")
    value = {f["name"].removeprefix("gate."): f["value"] for f in _read(results)["figures"]}
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    names = [name for name in _SUBJECTS if f"{name}_rps" in value]
    rates = [value[f"{name}_rps"] for name in names]
    _bars(axes[0], names, rates, "requests a second, 16 connections")
    waits = [value[f"{name}_p99_ms"] for name in names]
    _bars(axes[1], names, waits, "p99 in ms, 16 connections (log)")
    axes[1].set_xscale("log")
    axes[1].set_xlim(1, max(waits) * 8)
    _steps(axes[2], value)
    figure.savefig(picture, metadata={"Date": None})


def _read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def _bars(axis: Any, names: list[str], values: list[float], title: str) -> None:
    colours = [_OURS if name == "gate" else _OTHERS for name in names]
    bars = axis.barh([_SUBJECTS[name] for name in names], values, color=colours, height=0.6)
    axis.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3)
    axis.set_xlim(right=max(values) * 1.2)
    _plain(axis, title)


def _steps(axis: Any, value: dict[str, float]) -> None:
    steps = {name: value.get(f"cpu_us_step_{name}", 0.0) for name in _STEPS}
    ordered = sorted((name for name in steps if steps[name] >= 1), key=steps.__getitem__)
    bars = axis.barh([_STEPS[n] for n in ordered], [steps[n] for n in ordered], color=_OURS)
    axis.bar_label(bars, [f"{steps[name]:,.0f}" for name in ordered], padding=3)
    axis.set_xlim(right=max(steps.values()) * 1.2)
    _plain(axis, f"CPU of a request in µs, {sum(steps.values()):,.0f} in all")


def _plain(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=10)
    axis.xaxis.set_visible(False)
    axis.tick_params(left=False)
    axis.spines[:].set_visible(False)
    if title.startswith(("requests", "p99")):
        axis.invert_yaxis()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
