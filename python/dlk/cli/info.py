"""``dlk info``."""

from __future__ import annotations

import dataclasses
import json as json_module
from collections import Counter
from typing import Annotated, Any

import typer

import dlk
from dlk import _core, _progress
from dlk.cli.common import DeviceOption, DtypeOption, JsonOption, check_dtype, print_json
from dlk.importers.onnx.explain import explain as explained
from dlk.sources import load_structure
from dlk.summary import rows, summarize

__all__ = ["describe", "info"]


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model file or a zoo network.")],
    device: DeviceOption = "",
    dtype: DtypeOption = "float32",
    explain: Annotated[
        bool, typer.Option("--explain", help="List every operator: where it runs, what is missing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what a model is made of. With --device, also its plan there."""
    check_dtype(dtype)
    with _progress.shown():
        graph = load_structure(model)
        plan = dlk.Model(graph, device, check_dtype(dtype)).plan() if device else None
    facts = describe(graph)
    if plan is not None:
        facts["plan"] = {
            "device": dlk.Device(device).id,
            "dispatches": plan.dispatches,
            "pipelines": plan.pipelines,
            "host_ops": len(plan.host_ops),
            "arena_bytes": plan.arena_bytes,
            "peak_live_bytes": plan.peak_live_bytes,
            "weight_bytes": plan.weight_bytes,
        }
    if explain:
        facts["explain"] = [dataclasses.asdict(row) for row in explained(graph)]
    if json:
        print_json(facts)
        return
    if explain:
        for row in explained(graph):
            name = f"{row.domain}.{row.op}" if row.domain else row.op
            print(f"{row.count:6} {name:28} {row.runs}{': ' + row.note if row.note else ''}")
        return
    print(summarize(graph), end="")
    for key, text in facts["text"].items():
        print(f"{key}: {text}")
    if facts["missing"]:
        print(f"operators that dlk does not have: {', '.join(facts['missing'])}")
    if plan is not None:
        print(plan.table())


def describe(graph: _core.Graph) -> dict[str, Any]:
    """The facts about a graph, as `dlk info --json` prints them."""
    operators = Counter(f"{n.domain}.{n.op}" if n.domain else n.op for n in graph.nodes)
    missing = {f"{row.domain}.{row.op}" if row.domain else row.op
               for row in explained(graph) if not row.supported}  # fmt: skip
    table = rows(graph)
    values = [v for v in graph.values if v.data is not None]
    preprocessing = graph.info.preprocessing
    return {
        "inputs": [{"name": v.name, "dtype": v.dtype, "shape": v.shape} for v in graph.inputs],
        "outputs": graph.output_names,
        "operators": dict(sorted(operators.items())),
        "missing": sorted(missing),
        "parameters": sum(row.params for row in table),
        "macs": sum(row.macs for row in table),
        "weight_bytes": sum(v.data.nbytes for v in values if v.data is not None),
        "labels": len(graph.info.labels),
        "preprocessing": json_module.loads(preprocessing) if preprocessing else None,
        "text": graph.info.text.to_dict(),
    }
