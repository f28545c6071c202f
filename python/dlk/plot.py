"""Drawings of plans and profiles."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from dlk._atomic import atomic_path, write_text

if TYPE_CHECKING:
    from dlk.model import Model
    from dlk.profile import Profile

__all__ = ["plan", "profile"]


def plan(model: Model, path: str | os.PathLike[str]) -> None:
    """Draws a model's plan: ``.dot`` is Graphviz text; ``.svg``, ``.png`` and ``.pdf`` need `dot`.

    Raises:
        NotImplementedError: Graphviz's program `dot` is not installed.
    """
    text = model.plan().graphviz()
    kind = os.fspath(path).rpartition(".")[2].lower()
    if kind in ("dot", "gv"):
        write_text(path, text)
        return
    if kind not in ("svg", "png", "pdf"):
        raise ValueError(f"{os.fspath(path)}: end the name with .dot, .svg, .png or .pdf")
    if shutil.which("dot") is None:
        raise NotImplementedError(
            f"drawing a .{kind} needs Graphviz: install the package graphviz, or write a .dot file"
        )
    with atomic_path(path) as temporary:
        subprocess.run(
            ["dot", f"-T{kind}", "-o", str(temporary)], input=text, text=True, check=True
        )


def profile(measured: Profile, path: str | os.PathLike[str]) -> None:
    """Writes a bar chart of the milliseconds of each kind of operation; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotImplementedError("charts need matplotlib: pip install matplotlib") from None
    times = measured.by_op()
    figure = Figure(figsize=(7, 0.4 * len(times) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(list(times), list(times.values()))
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title(f"{measured.total_ms:.2f} ms on {measured.device_id}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
