"""The checks of scripts/metal_checks.py catch what they are there to catch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import macho  # noqa: E402
import metal_checks  # noqa: E402

ALLOWED = metal_checks.Allowed(metal_checks.ALLOWED.read_text(encoding="utf-8"))


def test_list_holds_for_macos_13() -> None:
    assert ALLOWED.too_new() == []
    assert "setMathMode:" in ALLOWED.selectors  # macOS 15; sent where the system says it has it
    assert ALLOWED.selectors["setMathMode:"] == "asked"


def test_a_selector_of_a_newer_system_is_refused() -> None:
    newer = metal_checks.Allowed("library /usr/lib/libobjc.A.dylib\nselector newTensor: 26.0\n")
    assert newer.too_new() == ["newTensor:"]


def test_a_selector_that_is_not_listed_is_refused() -> None:
    used = {*ALLOWED.selectors, "makeItSo:"}
    found = metal_checks.differences("selector", used, set(ALLOWED.selectors))
    assert found == ["selector makeItSo: is used and not in allowed_macos13.txt"]


def test_a_listed_selector_that_is_not_used_is_refused() -> None:
    used = set(ALLOWED.selectors) - {"commit"}
    found = metal_checks.differences("selector", used, set(ALLOWED.selectors))
    assert found == ["selector commit is in allowed_macos13.txt and not used"]


def test_lines_that_are_not_understood_are_refused() -> None:
    with pytest.raises(metal_checks.Refused, match="not understood"):
        metal_checks.Allowed("symbol a b c\n")


def test_files_that_are_no_mach_o_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "elf"
    path.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(ValueError, match="not a 64-bit Mach-O"):
        macho.MachO(path)
    path.write_bytes(b"\xcf\xfa")
    with pytest.raises(ValueError, match="cut short"):
        macho.MachO(path)


def test_a_symbol_that_is_not_listed_does_not_link(tmp_path: Path) -> None:
    zig = str(metal_checks.zig_folder() / "zig")
    stubs = metal_checks.write_stubs(ALLOWED, tmp_path / "stubs")
    for symbol, links in (("MTLCreateSystemDefaultDevice", True), ("MTLNoSuchThing", False)):
        source = tmp_path / f"{symbol}.c"
        source.write_text(f"void {symbol}(void);\nint main(void) {{ {symbol}(); }}\n")
        command = [zig, "cc", "-target", "aarch64-macos.13.0", "-o", str(tmp_path / "program"),
                   str(source), *stubs]  # fmt: skip
        if links:
            metal_checks.run(command, symbol)
            binary = macho.MachO(tmp_path / "program")
            assert f"_{symbol}" in binary.undefined()
        else:
            with pytest.raises(metal_checks.Refused, match=symbol):
                metal_checks.run(command, symbol)
