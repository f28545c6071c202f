"""Reads the lists beside each backend: what is not supported there, and what is known to fail.

``backends/NAME/parity.json``::

    {"unsupported": [{"match": "*-float64-*", "caps": "fp64", "reason": "..."}],
     "xfail": [{"match": "Op.case-dtype-layout", "device": "llvmpipe", "reason": "..."}]}

`match` is a shell pattern over variant ids. An `unsupported` entry holds only where the device
lacks the named Caps bit; there the variant must raise NotImplementedError. An `xfail` entry is
strict: a variant that passes is a failure, so that the list stays true.
"""

from __future__ import annotations

import fnmatch
import json
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def _lists(backend: str) -> dict[str, list[dict[str, str]]]:
    path = ROOT / "backends" / backend / "parity.json"
    if not path.exists():
        return {"unsupported": [], "xfail": []}
    lists: dict[str, list[dict[str, str]]] = json.loads(path.read_text())
    for e in lists.get("unsupported", []):
        if not e.get("caps") or not e.get("reason"):
            raise ValueError(f"{path}: {e} must name the missing Caps bit and a reason")
    for e in lists.get("xfail", []):
        if not e.get("reason"):
            raise ValueError(f"{path}: {e} must give a reason")
    return lists


def unsupported_reason(caps: dict[str, Any], variant_id: str) -> str | None:
    """Why the variant must be refused on this device, or None."""
    for e in _lists(caps["backend"]).get("unsupported", []):
        if fnmatch.fnmatchcase(variant_id, e["match"]) and not caps[e["caps"]]:
            return f"needs {e['caps']}: {e['reason']}"
    return None


def xfail_reason(caps: dict[str, Any], variant_id: str) -> str | None:
    """Why the variant is known to fail on this device, or None."""
    for e in _lists(caps["backend"]).get("xfail", []):
        if fnmatch.fnmatchcase(variant_id, e["match"]) and e.get("device", "") in caps["name"]:
            return e["reason"]
    return None
