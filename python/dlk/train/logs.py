"""Logs of training: CSV, and TensorBoard's event files (written without TensorFlow)."""

from __future__ import annotations

import csv
import struct
import time
from collections.abc import Mapping
from pathlib import Path


class CsvLog:
    """A row an epoch; columns that are new later get a new header line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Appends a row."""
        columns = ["step", *sorted(row)]
        fresh = not self.path.exists() or columns != self._columns
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(columns)
            writer.writerow([step, *(f"{row[c]:.9g}" for c in columns[1:])])
        self._columns = columns


class TensorBoardLog:
    """Scalars in a TFRecord file of Event messages."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"events.out.tfevents.{int(time.time())}.dlk"
        self._append(_bytes_field(3, b"brain.Event:2"), 0)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Appends an event with all numbers of a row."""
        values = b"".join(
            _bytes_field(1, _bytes_field(1, name.encode()) + b"\x15" + struct.pack("<f", value))
            for name, value in row.items()
        )
        self._append(_bytes_field(5, values), step)

    def _append(self, body: bytes, step: int) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + _varint_field(2, step) + body
        length = struct.pack("<Q", len(event))
        with open(self.path, "ab") as file:
            file.write(length + struct.pack("<I", _masked_crc(length)))
            file.write(event + struct.pack("<I", _masked_crc(event)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _crc_table() -> list[int]:
    table = []
    for n in range(256):
        crc = n
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    """CRC-32C, rotated as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
