"""Reads the lists beside each backend: what is not supported there, and what is known to fail.

``backends/NAME/parity.json``::

    {"unsupported": {"fp64": "float64 data: ..."},
     "xfail": [{"match": "Op.case-dtype-layout", "device": "llvmpipe", "reason": "..."}]}

A key of `unsupported` is a Caps bit that devices of this backend may lack, with the reason. A
device without it may refuse a variant with NotImplementedError, but the message must name that bit;
what is not refused must be right. An `xfail` entry (`match` is a shell pattern over variant ids) is
strict: a variant that passes is a failure, so that the list stays true.
"""

from __future__ import annotations

import fnmatch
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def lists(backend: str) -> dict[str, Any]:
    """The lists of a backend; empty where it has no file."""
    path = ROOT / "backends" / backend / "parity.json"
    found: dict[str, Any] = {"unsupported": {}, "xfail": []}
    if path.exists():
        found |= json.loads(path.read_text())
    for bit, reason in found["unsupported"].items():
        if not reason:
            raise ValueError(f"{path}: {bit} must give a reason")
    for e in found["xfail"]:
        if not e.get("reason"):
            raise ValueError(f"{path}: {e} must give a reason")
    return found


def refusal_reason(caps: dict[str, Any], message: str) -> str | None:
    """Why a device may refuse with this message, or None where it must not."""
    for bit, reason in lists(caps["backend"])["unsupported"].items():
        if not caps[bit] and re.search(rf"\b{bit}\b", message):
            return f"needs {bit}: {reason}"
    return None


def xfail_reason(caps: dict[str, Any], variant_id: str) -> str | None:
    """Why the variant is known to fail on this device, or None."""
    for e in lists(caps["backend"])["xfail"]:
        if fnmatch.fnmatchcase(variant_id, e["match"]) and e.get("device", "") in caps["name"]:
            return str(e["reason"])
    return None
