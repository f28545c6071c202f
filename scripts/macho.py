"""Reads what a 64-bit Mach-O file imports: its libraries and its undefined symbols.

Enough of the format for checks on systems without Apple's tools: the header, LC_LOAD_DYLIB and the
symbol table.
"""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["MachO"]

_MAGIC = 0xFEEDFACF
_CPU_ARM64 = 0x0100000C
_LC_SYMTAB = 0x2
_LOAD_DYLIB = {0xC, 0x80000018, 0x8000001F, 0x80000023}  # plain, weak, re-exported, upward
_TYPE_MASK, _UNDEFINED, _EXTERNAL, _DEBUG = 0x0E, 0x00, 0x01, 0xE0
_WEAK_REFERENCE = 0x40
_KINDS = {1: "object", 2: "executable", 6: "dynamic library"}


class MachO:
    """One file.

    Raises:
        ValueError: not a little-endian 64-bit Mach-O for arm64, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        try:
            self._read(path)
        except struct.error as error:
            raise ValueError(f"{path}: a Mach-O file that is cut short") from error

    def _read(self, path: Path) -> None:
        magic, cpu, _, kind, count = struct.unpack_from("<5I", self._data)
        if magic != _MAGIC or cpu != _CPU_ARM64:
            raise ValueError(f"{path}: not a 64-bit Mach-O file for arm64")
        self._kind = kind
        self._libraries: list[str] = []
        self._symbols: list[tuple[str, int]] = []  # undefined ones, with their description
        at = 32
        for _ in range(count):
            command, size = struct.unpack_from("<2I", self._data, at)
            if command in _LOAD_DYLIB:
                (name,) = struct.unpack_from("<I", self._data, at + 8)
                self._libraries.append(self._text(at + name))
            elif command == _LC_SYMTAB:
                self._read_symbols(*struct.unpack_from("<4I", self._data, at + 8))
            at += size

    def _read_symbols(self, symbols: int, count: int, strings: int, _: int) -> None:
        for i in range(count):
            name, kind, _section, description, _value = struct.unpack_from(
                "<IBBHQ", self._data, symbols + 16 * i
            )
            if kind & _DEBUG or not kind & _EXTERNAL or (kind & _TYPE_MASK) != _UNDEFINED:
                continue
            self._symbols.append((self._text(strings + name), description))

    def _text(self, at: int) -> str:
        return self._data[at : self._data.index(b"\0", at)].decode()

    def kind(self) -> str:
        """For example ``"arm64 executable"``."""
        return f"arm64 {_KINDS.get(self._kind, 'file')}"

    def libraries(self) -> list[str]:
        """Install names, in order."""
        return list(self._libraries)

    def undefined(self) -> list[str]:
        """Names of undefined symbols, with their leading underscore."""
        return [name for name, _ in self._symbols]

    def imports(self) -> dict[str, str]:
        """Undefined symbol -> install name of the library that it is looked up in."""
        return {
            name: self._libraries[(desc >> 8) - 1] if 0 < desc >> 8 <= len(self._libraries) else ""
            for name, desc in self._symbols
        }

    def weak(self) -> set[str]:
        """Undefined symbols that may be missing when the program starts."""
        return {name for name, desc in self._symbols if desc & _WEAK_REFERENCE}
