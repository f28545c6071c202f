"""What can be said of the Apple packages without Apple's tools: their sources parse, and fit.

No Swift compiler runs here: types are the business of ``.github/workflows/metal.yml``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_swift

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "Package.swift"
SWIFT = [PACKAGE, *sorted((ROOT / "apple").rglob("*.swift"))]
HEADER = ROOT / "core" / "include" / "dlk" / "dlk.h"
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def calls(node: tree_sitter.Node) -> Iterator[tuple[str, int]]:
    """Calls of the C interface under a node: the function, and how many arguments it gets."""
    if node.type == "call_expression" and node.children[0].type == "simple_identifier":
        name = (node.children[0].text or b"").decode()
        arguments = [n for part in node.children[1:] for n in part.children]
        values = [n for part in arguments for n in part.children if n.type == "value_argument"]
        if name.startswith("dlk_"):
            yield name, len(values)
    for child in node.children:
        yield from calls(child)


@pytest.mark.parametrize("path", SWIFT, ids=lambda p: p.name)
def test_swift_sources_parse(path: Path) -> None:
    assert not PARSER.parse(text(path).encode()).root_node.has_error


def test_the_parser_refuses_what_is_no_swift() -> None:
    assert PARSER.parse(b"let a = b(\n").root_node.has_error


def test_swift_calls_what_the_header_declares() -> None:
    bare = re.sub(r"/\*.*?\*/", "", text(HEADER), flags=re.DOTALL)
    # Parameters of a callback's type stand in parentheses of their own.
    flat = re.sub(r"\(\*\w+\)\([^)]*\)", "callback", bare)
    declared = {
        name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
        for name, arguments in re.findall(r"\b(dlk_\w+)\(([^)]*)\)", flat)
    }
    structures = set(re.findall(r"typedef struct (dlk_\w+) \{", bare))
    constants = set(re.findall(r"\bDLK_\w+\b", bare))
    found = 0
    for path in SWIFT[1:]:
        for name, count in calls(PARSER.parse(text(path).encode()).root_node):
            assert (count == 0) if name in structures else (declared.get(name) == count), (
                f"{path.name}: {name} with {count} arguments"
            )
            found += 1
        assert set(re.findall(r"\bDLK_\w+\b", text(path))) <= constants
    assert found > 15


def test_the_package_names_folders_and_modules_that_are_there() -> None:
    folders = re.findall(r'path: "([^"]+)"', text(PACKAGE))
    assert sorted(folders) == ["apple/swift/Sources/Classify", "apple/swift/Sources/Dlk"]
    assert all(any((ROOT / folder).glob("*.swift")) for folder in folders)
    modules = ROOT / "core" / "include" / "CDlk" / "module.modulemap"
    assert "module CDlk {" in text(modules)
    for named in re.findall(r'header "([^"]+)"', text(modules)):
        assert (modules.parent / named).resolve() == HEADER


def test_the_presets_are_ones_that_cmake_takes() -> None:
    cmake = shutil.which("cmake")
    assert cmake
    done = subprocess.run(
        [cmake, "--list-presets=all"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    presets = json.loads(text(ROOT / "CMakePresets.json"))
    named = {p["name"] for p in presets["configurePresets"] if not p.get("hidden")}
    assert {"macos", "macos-universal", "ios", "ios-simulator", "tvos"} <= named
    assert all(f'"{name}"' in done.stdout for name in named)


def test_the_workflow_uses_presets_and_programs_that_are_there() -> None:
    workflow = text(ROOT / ".github" / "workflows" / "metal.yml")
    presets = {p["name"] for p in json.loads(text(ROOT / "CMakePresets.json"))["configurePresets"]}
    used = set(re.findall(r"--preset (\w[\w-]*)", workflow))
    listed = re.search(r"preset: \[([^\]]+)\]", workflow)
    assert listed
    assert used
    assert {*used, *listed[1].replace(" ", "").split(",")} <= presets
    for program in re.findall(r"build/macos/tests/cpp/(\w+)", workflow):
        assert (ROOT / "tests" / "cpp" / f"{program}.cpp").exists()
