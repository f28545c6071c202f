"""The rows of issue 6: every network that dlk can run, dlk can train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .foundation import DEVICES, RESULTS, Row, at_most, device

ROOT = Path(__file__).resolve().parents[2]


def at_least(value: float, limit: float) -> Row:
    return value, f">= {limit}", value >= limit


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row: its name and what measures it."""
    for device_id in DEVICES:
        yield f"{device_id}: worst gradient error", lambda d=device_id: gradients(d)
        yield f"{device_id}: operators whose gradient was compared", lambda d=device_id: compared(d)
    for name in ("optimizers", "losses", "autodiff", "training", "data"):
        yield f"tests/train/test_{name}.py failures", lambda n=name: failures(n)
    for name, limit in (("mnist", 0.97), ("activity", 0.95), ("spam", 0.97), ("detector", 0.9)):
        yield f"example {name} on PoCL", lambda n=name, m=limit: example(n, m)
    yield "example fashion_mnist on PoCL", lambda: example("fashion_mnist", 0.91)
    yield "example fashion_mnist on PoCL, s", lambda: at_most(_run("fashion_mnist")["seconds"], 600)
    yield "operators without a gradient or a reason", lambda: at_most(len(unexplained()), 0)
    yield "H200 whole steps against PyTorch (committed)", lambda: committed("training-h200")


@cache
def _differences(device_id: str) -> dict[str, float]:
    sys.path.insert(0, str(ROOT))
    from tests.parity.gradients import differences, gradient_cases, refusal

    worst: dict[str, float] = {}
    for case in gradient_cases():
        if refusal(case):
            continue
        for d in differences(case, device(device_id)):
            error = abs(d.got - d.want) / d.scale
            worst[case.op] = max(worst.get(case.op, 0.0), error)
    return worst


def gradients(device_id: str) -> Row:
    return at_most(max(_differences(device_id).values()), 2e-4)


def compared(device_id: str) -> Row:
    return at_least(len(_differences(device_id)), 100)


def unexplained() -> list[str]:
    from dlk import _core

    from tests.parity.test_gradients import NOT_DIFFERENTIABLE

    return [
        op["name"]
        for op in _core.operators()
        if not op["gradient"] and not op["domain"] and op["name"] not in NOT_DIFFERENTIABLE
    ]


def failures(name: str) -> Row:
    command = [sys.executable, "-m", "pytest", "-q", f"tests/train/test_{name}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    return last, "0 failed", done.returncode == 0


@cache
def _run(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, f"examples/training/{name}.py", "--device", "opencl:0", "--json",
            "--folder", folder,
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=3600, env=dict(os.environ)
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def example(name: str, limit: float) -> Row:
    return at_least(float(np.round(_run(name)["value"], 4)), limit)


def committed(name: str) -> Row:
    found = sorted(RESULTS.glob(f"*{name}*.json"))
    if not found:
        return "no result is committed", "a dated file", False
    table = json.loads(found[-1].read_text())
    return found[-1].name, "every ratio within its limit", all(r["pass"] for r in table["rows"])
