"""Which operator a backend test is about: the rows of the coverage page."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import onnx
import onnx.backend.test

DATA = Path(onnx.backend.test.__file__).parent / "data"
_FOLDERS = {
    "node": "",
    "simple": "Models",
    "pytorch-converted": "PyTorch",
    "pytorch-operator": "PyTorch",
}


@cache
def _folders() -> dict[str, tuple[Path, str]]:
    """Test name -> (folder, group); groups of node tests are told by their model."""
    return {
        path.name: (path, group)
        for kind, group in _FOLDERS.items()
        for path in (DATA / kind).iterdir()
        if path.is_dir()
    }


@cache
def family_of(name: str) -> str:
    """The operator of a node test ("Loop"), or the kind of any other ("Real networks")."""
    folders = _folders()
    if name not in folders:
        return "Real networks"
    plain = name.partition("_expanded")[0]
    folder, group = folders.get(plain, folders[name])
    if group:
        return group
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    if plain not in folders:  # an expansion without its original
        return plain.removeprefix("test_").partition("_")[0]
    operators = Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")
    if not operators:
        return "Constant"
    first = next(node for node in model.graph.node if node.op_type in operators)
    prefix = f"{first.domain}." if first.domain not in ("", "ai.onnx") else ""
    named = [op for op in operators if op.lower() in plain.replace("_", "")]
    return prefix + (max(named, key=len) if named else first.op_type)
