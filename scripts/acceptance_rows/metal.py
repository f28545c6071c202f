"""The rows of issue 4: a Metal backend that is right before it meets a Mac.

Rows that run on the simulator need a build with ``-DDLK_METAL_SIM=ON`` (its folder in
``DLK_METAL_SIM_BUILD``, else that of the tests) and a package that was built so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEVICES = ("opencl:0", "vulkan:0", "metal-sim:0")
MINUTES = 15
LEAST_DEFECTS = 20

Row = tuple[Any, Any, bool]


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row: its name and what measures it."""
    yield "metal-sim in CI (parity, node tests, demo): minutes on 2 cores", simulator_step
    yield "seeded defects that are caught", defects
    yield "type check against metal-cpp for macOS, iOS and tvOS", lambda: check("types")
    yield "Mach-O for arm64 macOS imports what the list permits", lambda: check("link")
    yield "MSL of every kernel taken, bad texts refused", lambda: check("msl")
    yield "parity variants that fail on PoCL, lavapipe or metal-sim", parity
    yield "the passport's Metal column is marked simulated", marked_simulated
    yield "metal-sim without DLK_ENABLE_METAL_SIM, and as default", never_by_chance
    yield "operators, parity tests and Python files that name Metal", named_elsewhere


def simulator_build() -> Path:
    """The build folder of the C++ tests on the simulator."""
    chosen = os.environ.get("DLK_METAL_SIM_BUILD")
    folders = [Path(chosen)] if chosen else [ROOT / "build/tests", ROOT / "build/metal-sim"]
    for folder in folders:
        if (folder / "metal_sim").is_dir():
            return folder
    raise FileNotFoundError(f"no build with DLK_METAL_SIM in {', '.join(map(str, folders))}")


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **(env or {})}
    )


def simulator_step() -> Row:
    start = time.monotonic()
    done = run(sys.executable, "scripts/run_tests.py", "--only", "metal-sim")
    minutes = (time.monotonic() - start) / 60
    print(done.stdout[-2000:], file=sys.stderr)
    return (
        round(minutes, 1),
        f"<= {MINUTES}, all passed",
        done.returncode == 0 and minutes <= MINUTES,
    )


def defects() -> Row:
    patches = sorted((ROOT / "tests/metal_sim/defects").glob("*.patch"))
    build = str(simulator_build())
    missed = [
        patch.stem for patch in patches
        if run("tests/metal_sim/run_defect", str(patch), "--build", build).returncode
    ]  # fmt: skip
    value = f"{len(patches) - len(missed)} of {len(patches)}" + (
        f"; not: {missed}" if missed else ""
    )
    return value, f">= {LEAST_DEFECTS}, all", not missed and len(patches) >= LEAST_DEFECTS


def check(what: str) -> Row:
    tool = ["--tool", str(simulator_build() / "metal_sim/metal_msl_check")] if what == "msl" else []
    done = run(sys.executable, "scripts/metal_checks.py", what, *tool)
    return done.stdout.strip()[-600:], "no breach", done.returncode == 0


@cache
def passport() -> dict[str, Any]:
    """The passport of one operator family on all three devices: the suite itself is row one."""
    path = ROOT / "build" / "passport-metal.json"
    done = run(
        sys.executable, "-m", "pytest", "tests/parity/test_parity.py", "-q", "-n", "2",
        "-k", os.environ.get("DLK_ACCEPTANCE_PARITY", "Softmax or Conv or MatMul or Relu"),
        "--passport", str(path),
        env={"DLK_ENABLE_METAL_SIM": "1", "DLK_TEST_DEVICES": ",".join(DEVICES)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    summary = re.search(r"(\d+) failed", done.stdout)
    found["failed"] = int(summary[1]) if summary else (0 if done.returncode == 0 else -1)
    return found


def parity() -> Row:
    text = json.dumps(passport())
    missing = [device for device in DEVICES if device not in text]
    failed = passport()["failed"]
    return f"{failed} failed; missing: {missing or 'none'}", "0", failed == 0 and not missing


def marked_simulated() -> Row:
    text = json.dumps(passport())
    return "simulated" in text.lower(), "True", "simulated" in text.lower()


def never_by_chance() -> Row:
    program = (
        "import dlk, os\n"
        "ids = [d.id for d in dlk.devices()]\n"
        "default = dlk.Device().id if ids else ''\n"
        "print(','.join(ids), default)\n"
    )
    outputs = {}
    for enabled in ("0", "1"):
        done = run(sys.executable, "-c", program,
                   env={"DLK_ENABLE_METAL_SIM": enabled, "DLK_DEVICE": ""})  # fmt: skip
        outputs[enabled] = done.stdout.strip()
    hidden = "metal-sim" not in outputs["0"]
    listed = "metal-sim:0" in outputs["1"].split()[0].split(",")
    never = not outputs["1"].endswith(" metal-sim:0")
    return outputs, "not there; listed, not the default", hidden and listed and never


def named_elsewhere() -> Row:
    """Only what chooses devices may know the backend's name."""
    folders = ("core/ops", "core/graph", "core/runtime", "tests/parity", "python/dlk")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".cpp", ".h", ".py", ".def")
        and re.search(r"[\"']metal(-sim)?[\"':]", path.read_text(encoding="utf-8"))
    ]
    return found or "none", "none", not found
