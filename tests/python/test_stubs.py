"""The types that _core.pyi declares are those of the module."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import dlk
import pytest
from dlk import _core

STUB = Path(dlk.__file__).with_name("_core.pyi")


def stub_tree() -> ast.Module:
    return ast.parse(STUB.read_text(encoding="utf-8"))


def stub_parameters(function: ast.FunctionDef) -> list[tuple[str, bool]]:
    """(name, has a default) of each parameter, without self."""
    names = [a.arg for a in function.args.args]
    first_default = len(names) - len(function.args.defaults)
    pairs = [(name, i >= first_default) for i, name in enumerate(names)]
    return [p for p in pairs if p[0] != "self"]


def real_parameters(doc: str) -> list[tuple[str, bool]]:
    """The same from the first line of a pybind11 docstring."""
    inside = doc.splitlines()[0]
    inside = inside[inside.index("(") + 1 : inside.rindex(") ->")]
    parts, depth, start = [], 0, 0
    for i, c in enumerate(inside):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(inside[start:i])
            start = i + 1
    parts.append(inside[start:])
    pairs = [(re.split(r"[:=]", p)[0].strip(), "=" in p) for p in parts if p.strip()]
    return [p for p in pairs if p[0] != "self"]


def public(names: object) -> set[str]:
    return {n for n in names if not n.startswith("_")}  # type: ignore[attr-defined]


def test_same_names() -> None:
    tree = stub_tree()
    declared = {n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    assert public(declared) == public(vars(_core))


@pytest.mark.parametrize(
    "node", [n for n in stub_tree().body if isinstance(n, ast.FunctionDef)], ids=lambda n: n.name
)
def test_functions(node: ast.FunctionDef) -> None:
    assert stub_parameters(node) == real_parameters(getattr(_core, node.name).__doc__)


@pytest.mark.parametrize(
    "node", [n for n in stub_tree().body if isinstance(n, ast.ClassDef)], ids=lambda n: n.name
)
def test_classes(node: ast.ClassDef) -> None:
    real = getattr(_core, node.name)
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    assert public(m.name for m in methods) == public(vars(real))
    for method in methods:
        is_property = any(
            (isinstance(d, ast.Name) and d.id == "property") or isinstance(d, ast.Attribute)
            for d in method.decorator_list
        )
        attribute = inspect.getattr_static(real, method.name)
        assert isinstance(attribute, property) == is_property, method.name
        if not is_property and method.name != "__init__" and not method.name.startswith("__"):
            doc = getattr(real, method.name).__doc__
            assert stub_parameters(method) == real_parameters(doc), method.name
        if method.name == "__init__":
            assert stub_parameters(method) == real_parameters(real.__init__.__doc__)


def test_package_lists_what_it_has() -> None:
    for name in dlk.__all__:
        assert getattr(dlk, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dlk.nonsense  # type: ignore[attr-defined]


def test_type_checkers_see_every_public_name() -> None:
    tree = ast.parse(Path(dlk.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module != "typing"
        for alias in statement.names
    }
    assert seen == dlk._HOMES
