#!/usr/bin/env python3
"""Builds the documentation as web pages: ``python scripts/build_docs.py [build/docs]``.

``index.html`` is the README, ``docs/*.html`` the pages of docs/, ``api/`` the reference of the
installed package, from its docstrings. The exit status is 1 where a public name has no docstring
or a page links to a file that is not there.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import dlk
import markdown2
import pdoc

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("dlk", "!dlk.importers._pickle")
"""What pdoc documents: the package and, of its modules, those that are public."""
PAGES = (
    "README.md",
    "CHANGELOG.md",
    *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md")),
)
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:56em;margin:2em auto;padding:0 1em}"
    "pre,code{background:#f4f4f4;font-size:14px}pre{padding:.8em;overflow:auto}"
    "table{border-collapse:collapse}td,th{border:1px solid #ddd;padding:.2em .6em;text-align:left}"
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def undocumented() -> Iterator[str]:
    """Public names and public methods without a docstring."""
    for module in pdoc.extract.walk_specs(MODULES):
        for name, member in pdoc.doc.Module.from_name(module).members.items():
            yield from _without_text(member, f"{module}.{name}")


def _without_text(member: pdoc.doc.Doc, name: str) -> Iterator[str]:
    if isinstance(member, pdoc.doc.Variable) or name.rsplit(".", 1)[-1].startswith("_"):
        return
    if isinstance(member, pdoc.doc.Module):
        return
    if not member.docstring.strip() and not inspect.isbuiltin(member.obj):
        yield name
    if isinstance(member, pdoc.doc.Class):
        for inner in member.own_members:
            if inner.kind == "function":
                yield from _without_text(inner, f"{name}.{inner.name}")


def broken_links() -> Iterator[str]:
    """Relative links that lead nowhere."""
    for page in PAGES:
        path = ROOT / page
        for target in LINK.findall(path.read_text("utf-8")):
            if not (path.parent / target).exists():
                yield f"{page}: {target}"


def write_page(source: str, output: Path) -> None:
    text = (ROOT / source).read_text("utf-8")
    text = LINK.sub(
        lambda m: "](" + re.sub(r"\.md$", ".html", m[1].replace("README.md", "index.md")), text
    )
    body = markdown2.markdown(text, extras=["fenced-code-blocks", "tables", "header-ids"])
    target = output / source.replace("README.md", "index.md").replace(".md", ".html")
    up = "../" * (len(target.relative_to(output).parts) - 1)
    title = text.splitlines()[0].lstrip("# ")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}"
        f"</style><p><a href={up}index.html>dlk</a> · <a href={up}api/dlk.html>API</a></p>{body}\n",
        encoding="utf-8",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "build" / "docs")
    output: Path = parser.parse_args().output
    warnings.simplefilter("error")
    # Names that only type checkers import.
    warnings.filterwarnings("ignore", message="Error parsing type annotation")
    for name in dlk.__all__:
        getattr(dlk, name)  # is loaded when first used; pdoc looks at what is there
    problems = [f"no docstring: {name}" for name in undocumented()]
    problems += [f"no such file: {link}" for link in broken_links()]
    shutil.rmtree(output / "api", ignore_errors=True)
    pdoc.render.configure(docformat="google", search=False)
    pdoc.pdoc(*MODULES, output_directory=output / "api")
    for page in PAGES:
        write_page(page, output)
    print("\n".join(problems) or f"{output / 'index.html'}: {len(PAGES)} pages")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
