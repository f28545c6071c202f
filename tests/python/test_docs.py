"""The documentation says what is: examples load, commands exist."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from dlk import _core
from dlk.cli import main

ROOT = Path(__file__).resolve().parents[2]


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """By the page alone: header length, header, data; no padding, which readers do not ask for."""
    header, data = {}, b""
    for name, array in tensors.items():
        dtype = {"float32": "F32", "int64": "I64"}[array.dtype.name]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_the_format_page_describes_a_model_that_loads(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "model-format.md").read_text("utf-8")
    example = json.loads(page.split("## dlk.json")[1].split("```json\n")[1].split("```")[0])
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "dlk.json").write_text(json.dumps(example))
    tensors = {
        "conv.weight": np.ones((2, 3, 3, 3), np.float32),
        "runs": np.array(0, np.int64),
        "one": np.array(1, np.int64),
    }
    write_safetensors(tmp_path / "m" / "weights.safetensors", tensors)
    graph = _core.load_dlk(str(tmp_path / "m"))
    assert list(graph.info.labels) == example["labels"]
    (tmp_path / "again").mkdir()
    _core.save_dlk(graph, str(tmp_path / "again"))
    written = json.loads((tmp_path / "again" / "dlk.json").read_text())
    assert written["producer"].startswith("dlk ")
    assert {**written, "producer": ""} == {**example, "producer": ""}


def test_written_weights_are_laid_out_as_the_page_says(tmp_path: Path) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [3])
    for size in (3, 5):
        x = graph.add_node("Add", [x, graph.add_constant(f"c{size}", np.ones(3, np.float32))])[0]
    graph.add_output(x, "y")
    (tmp_path / "m").mkdir()
    _core.save_dlk(graph, str(tmp_path / "m"))
    data = (tmp_path / "m" / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert (8 + length) % 16384 == 0
    header = json.loads(data[8 : 8 + length])
    assert "__pad__12" in header
    for name, entry in header.items():
        if not name.startswith("__pad__"):
            assert entry["data_offsets"][0] % 256 == 0


def test_the_readme_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out.split("Commands:")[1]
    commands = set(re.findall(r"^  ([a-z]+)", listed, re.MULTILINE))
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## Command line")[1].split("\n## ")[0]
    assert commands <= set(re.findall(r"`dlk ([a-z]+)", section))
    used = set(re.findall(r"^dlk ([a-z]+)", readme, re.MULTILINE))
    assert used <= commands
