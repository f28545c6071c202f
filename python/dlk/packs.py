"""Kernel packs: files of compiled kernels from which first starts take what they need.

A pack maps the hash of a kernel's printed text to SPIR-V or PTX (``core/kernel/kernel_pack.h``).
The engine writes such kernels to the folder ``DLK_KERNEL_PACK_RECORD`` as it compiles them; here
networks are run for that, and a folder becomes a file.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TypeAlias

from dlk._atomic import atomic_path

__all__ = ["Kernels", "read_pack", "recorded", "run_networks", "write_pack"]

Kernels: TypeAlias = dict[str, bytes]
"""Compiled kernels by key, 32 hexadecimal digits."""

_LONGEST = 300.0
"""Seconds of one process."""
_MAGIC = b"dlk kernels 1\n"
_ENTRY = struct.Struct("<5Q")  # the key's halves; place, packed size and size
_RUN = """
import sys
import dlk
from dlk.cli.bench import batched_inputs
from dlk.sources import load_structure
source, device, dtype, batch = sys.argv[1:]
model = dlk.Model(load_structure(source), device, dtype)
model.run(batched_inputs(model, int(batch)))
"""


def recorded(folder: str | os.PathLike[str]) -> Kernels:
    """The kernels that programs wrote to their folder ``DLK_KERNEL_PACK_RECORD``."""
    return {
        path.stem: path.read_bytes()
        for path in sorted(Path(folder).glob("*.kernel"))
        if re.fullmatch("[0-9a-f]{32}", path.stem)
    }


def write_pack(path: str | os.PathLike[str], kernels: Mapping[str, bytes]) -> None:
    """Writes a pack, whole or not at all; the same kernels always make the same file."""
    index, places = [struct.pack("<Q", len(kernels))], dict[bytes, tuple[int, int]]()
    data: list[bytes] = []
    at = 0
    for key, code in sorted(kernels.items()):
        if code not in places:
            packed = zlib.compress(code, 9)
            places[code] = at, len(packed)
            data.append(packed)
            at += len(packed)
        index.append(_ENTRY.pack(int(key[:16], 16), int(key[16:], 16), *places[code], len(code)))
    plain = b"".join(index)
    packed = zlib.compress(plain, 9)
    with atomic_path(path) as temporary:
        temporary.write_bytes(
            b"".join([_MAGIC, struct.pack("<2Q", len(packed), len(plain)), packed, *data])
        )


def read_pack(path: str | os.PathLike[str]) -> Kernels:
    """The kernels of a pack.

    Raises:
        ValueError: the file is no pack, or a damaged one.
    """
    bytes_ = Path(path).read_bytes()
    try:
        if not bytes_.startswith(_MAGIC):
            raise ValueError("it starts with other bytes")
        size, _ = struct.unpack_from("<2Q", bytes_, len(_MAGIC))
        begin = len(_MAGIC) + 16
        index, data = zlib.decompress(bytes_[begin : begin + size]), bytes_[begin + size :]
        return {
            f"{high:016x}{low:016x}": zlib.decompress(data[at : at + packed])
            for high, low, at, packed, _ in _ENTRY.iter_unpack(index[8:])
        }
    except (struct.error, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is no kernel pack: {error}") from error


def run_networks(
    folder: str | os.PathLike[str],
    networks: Iterable[str],
    devices: Iterable[str],
    dtypes: Iterable[str] = ("float16", "float32"),
    batches: Iterable[int] = (1,),
    *,
    jobs: int = 0,
    seconds: float = float("inf"),
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Runs each network once for each device, dtype and batch and records its kernels.

    Each run is a process of its own without dlk's cache: drivers compile one kernel at a time in
    a process, and several in several. They begin in the order of batches, dtypes, networks and
    devices.

    Args:
        folder: where the kernels are written.
        networks: names of the zoo, which get random weights, or files.
        jobs: processes at once; 0: one for each processor, at most 12.
        seconds: what is not done by then is stopped.
        progress: ``progress(done, total)``.

    Returns:
        What failed, a line each; what the other runs recorded is in the folder.
    """
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "DLK_CACHE": "0",
        "DLK_KERNEL_PACK_RECORD": os.fspath(folder),
    }

    end = time.monotonic() + seconds

    def run(what: tuple[str, ...]) -> str:
        command = [sys.executable, "-c", _RUN, *what]
        left = min(end - time.monotonic(), _LONGEST)
        try:
            if left <= 0:
                raise subprocess.TimeoutExpired(command, left)
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=left,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"{' '.join(what)}: not done in time"
        if done.returncode == 0:
            return ""
        lines = done.stderr.strip().splitlines()
        return f"{' '.join(what)}: {lines[-1] if lines else f'exit status {done.returncode}'}"

    runs = [
        (network, device, dtype, str(batch))
        for batch, dtype, network, device in product(batches, dtypes, networks, devices)
    ]
    failures: list[str] = []
    with ThreadPoolExecutor(jobs or min(12, os.cpu_count() or 1)) as pool:
        for i, problem in enumerate(pool.map(run, runs)):
            if problem:
                failures.append(problem)
            if progress:
                progress(i + 1, len(runs))
    return failures
