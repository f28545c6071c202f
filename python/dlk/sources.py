"""Where networks come from: files by their kind, and the zoo by name."""

from __future__ import annotations

import os
from pathlib import Path

from dlk import _core

__all__ = ["load_graph", "load_structure"]

_WEIGHTS = frozenset({".pth", ".pt", ".safetensors", ".bin", ".ckpt"})
_KINDS = frozenset({".onnx", ".dlk"}) | _WEIGHTS


def load_graph(source: str | os.PathLike[str], weights: str | None = None) -> _core.Graph:
    """The graph of a file (by suffix, then by content) or of a zoo network (by name).

    Args:
        weights: of a zoo network: ``"random"`` or a state dict's file; None: the pretrained ones.

    Raises:
        FileNotFoundError: neither a file nor a zoo name.
        ValueError: a damaged file, an unknown kind of file, or weights without a network.
    """
    path = Path(source)
    name = os.fspath(source)
    if not path.exists():
        return _from_zoo(name, path, weights)
    if weights:
        raise ValueError(f"{path} has its own weights; weights= is for networks of the zoo")
    kind = path.suffix.lower() if path.suffix.lower() in _KINDS else _sniff(path)
    if kind == ".onnx":
        from dlk.importers import onnx

        return onnx.load_graph(path)
    if kind == ".dlk":
        return _core.load_dlk(str(path))
    if kind in _WEIGHTS:
        raise ValueError(
            f"{path} holds weights, not a network; name the network that they are for: "
            "dlk.load(NAME, weights=PATH)"
        )
    raise ValueError(f"{path} is not a model that dlk reads; it reads .onnx and .dlk files")


def load_structure(source: str | os.PathLike[str]) -> _core.Graph:
    """As `load_graph`, but a zoo network gets random weights: nothing is fetched to look at it."""
    return load_graph(source, None if Path(source).exists() else "random")


def _from_zoo(name: str, path: Path, weights: str | None) -> _core.Graph:
    if path.suffix.lower() in _KINDS or len(path.parts) > 1:
        raise FileNotFoundError(2, "there is no such file", name)
    from dlk import zoo

    bare = name.removeprefix("zoo:")
    known = zoo.names()
    if bare not in known:
        raise FileNotFoundError(
            2, f"neither a file nor a network of the zoo; the zoo has {', '.join(known)}", name
        )
    return zoo.build(bare, weights or "pretrained")


def _sniff(path: Path) -> str:
    """A kind by the first bytes, for files with a strange suffix; "" when unknown."""
    if path.is_dir():
        return ".dlk" if (path / "dlk.json").is_file() else ""
    with path.open("rb") as file:
        head = file.read(64)
    if head[:2] == b"PK":
        return ".dlk" if b"dlk.json" in head else ".pth"
    if head[:2] == b"\x80\x02":
        return ".pth"
    if head[:1] == b"\x08" and len(head) > 2:  # ModelProto.ir_version
        return ".onnx"
    return ""
