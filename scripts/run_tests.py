#!/usr/bin/env python3
"""Runs dlk's tests in an environment that ``bootstrap.py`` made.

Always: the C++ unit tests and the Python tests (parity, models, importers, package). With CI=true
also the linters, the include rules, the unit tests under ASan and UBSan, a short run of the
fuzzers, ThreadSanitizer, the aarch64 cross build under qemu and the Metal backend without Apple's
tools: its checks, and its tests on a simulator. ``--only NAME`` runs single steps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
JOBS = str(os.cpu_count() or 2)

CMAKE_ARGUMENTS = ["-G", "Ninja", "-DDLK_BUILD_TESTS=ON", "-DDLK_WERROR=ON"]
# The simulated Metal is built once, with all the rest; it is nobody's device unless asked for.
METAL_SIM = ["-DDLK_METAL_SIM=ON"] if os.environ.get("CI") == "true" else []


def command(*arguments: str, env: dict[str, str] | None = None, timeout: int = 1800) -> bool:
    """Runs a command in the repository's root; True if it succeeded in time."""
    print(f"$ {' '.join(arguments)}", flush=True)
    try:
        done = subprocess.run(
            arguments, cwd=ROOT, env={**os.environ, **(env or {})}, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        print(f"timed out after {timeout} s", flush=True)
        return False
    return done.returncode == 0


def build(folder: str, *options: str, source: str = ".", targets: Sequence[str] = ("all",)) -> bool:
    return command("cmake", "-S", source, "-B", folder, *CMAKE_ARGUMENTS, *options) and command(
        "cmake", "--build", folder, "-j", JOBS, "-t", *targets
    )


def ctest(folder: str, *options: str, env: dict[str, str] | None = None) -> bool:
    return command("ctest", "--test-dir", folder, "--output-on-failure", *options, env=env)


def unit_tests() -> bool:
    return build("build/tests", *METAL_SIM) and ctest("build/tests", "-LE", "metal")


def python_tests() -> bool:
    passport = ["--passport", os.environ.get("DLK_PASSPORT", "build/passport.json")]
    return command(
        PYTHON, "-m", "pytest", "tests", "-q", "-n", JOBS, "--dist", "worksteal", *passport,
        env={"DLK_VULKAN_VALIDATION": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def lint() -> bool:
    sources = [
        str(path.relative_to(ROOT))
        for folder in ("core", "backends", "python/src", "tests", "examples")
        for pattern in ("*.h", "*.cpp", "*.c", "*.hpp")
        for path in sorted((ROOT / folder).rglob(pattern))
    ]
    results = [
        command("ruff", "check", "python", "tests", "scripts", "benchmarks"),
        command("ruff", "format", "--check", "python", "tests", "scripts", "benchmarks"),
        command("mypy", "python/dlk"),
        command("clang-format", "--dry-run", "--Werror", *sources),
        command(PYTHON, "scripts/check_structure.py"),
        command(PYTHON, "scripts/build_docs.py"),
    ]
    return all(results)


# Built once and thrown away: quick to compile, fast enough to run. Compilers warn without cause
# when they optimize little or instrument.
LEAN = (
    "-DDLK_WERROR=OFF",
    "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
    "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1",
    "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1",
    "-DDLK_PRECOMPILED_HEADERS=ON",
)
SUPPRESSIONS = ROOT / "tests" / "cpp" / "suppressions"

CONCURRENT_TESTS = (
    "background_kernels", "c_api", "device", "kernel_library", "model", "opencl", "vulkan",
    "vulkan_cache", "vulkan_external",
)  # fmt: skip
"""The C++ tests with threads, for ThreadSanitizer."""


def sanitizers() -> bool:
    """The C++ unit tests under ASan and UBSan, built by clang together with the fuzzers."""
    if not shutil.which("clang++"):
        print("clang++ is needed (Debian: clang, libclang-rt-dev)")
        return False
    compilers = ("-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++")
    return build("build/fuzz", *LEAN, *compilers, source="tests/fuzz") and ctest(
        "build/fuzz",
        env={
            "ASAN_OPTIONS": "detect_leaks=1",
            "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS / 'lsan.txt'}:print_suppressions=0",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        },
    )


def fuzz() -> bool:
    """Each fuzzer for a short while, on the build of the step before."""
    return command(PYTHON, "scripts/run_fuzzers.py", "build/fuzz", "--seconds", "10")


def threads() -> bool:
    """The tests that use threads, under TSan."""
    targets = [f"test_{name}" for name in CONCURRENT_TESTS]
    return build("build/tsan", *LEAN, "-DDLK_SANITIZE=thread", targets=targets) and ctest(
        "build/tsan",
        "-R", f"^({'|'.join(CONCURRENT_TESTS)})$",
        env={"TSAN_OPTIONS": f"halt_on_error=1:suppressions={SUPPRESSIONS / 'tsan.txt'}"},
    )  # fmt: skip


def aarch64() -> bool:
    """The engine on the null backend, cross-compiled, under qemu's user emulation."""
    if not shutil.which("aarch64-linux-gnu-g++") or not shutil.which("qemu-aarch64"):
        print("aarch64-linux-gnu-g++ and qemu-aarch64 are needed")
        return False
    return build(
        "build/aarch64",
        *LEAN,
        "-DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/aarch64-linux-gnu.cmake",
        "-DDLK_ENABLE_OPENCL=OFF",
        "-DDLK_ENABLE_VULKAN=OFF",
    ) and ctest("build/aarch64", env={"DLK_REQUIRE": ""})


def metal_ladder() -> bool:
    """What can be proved of the Metal backend without Apple's tools."""
    return command(PYTHON, "scripts/metal_checks.py", "types", "engine", "link", "msl")


# The GPUs that the simulator can play besides its default, an Apple7, each with another order of
# the threads between barriers.
METAL_PROFILES = {"apple9": "reverse", "paravirtual": "random", "discrete": "forward"}


# All node tests run on the simulator but six of the nine whole networks among them, which are large
# and would take more time than this step may.
METAL_NODES = "not (alexnet or densenet or inception or resnet50 or vgg19 or zfnet)"


# Barriers taken out of a plan, which Vulkan's validation layer must report; the simulator has
# seeded defects of its own.
VULKAN_ALONE = tuple(
    f"--deselect=tests/parity/test_seeded.py::{name}"
    for name in ("test_a_plan_has_the_barriers_it_needs",
                 "test_a_missing_barrier_of_a_plan_is_reported")
)  # fmt: skip


def metal_sim() -> bool:
    """The Metal backend on the simulator: its own tests, parity, node tests, and the demo."""
    report = ROOT / "build" / "metal_sim_report.txt"
    report.unlink(missing_ok=True)
    env = {
        "DLK_ENABLE_METAL_SIM": "1", "DLK_REQUIRE": "opencl,vulkan,metal-sim",
        "DLK_TEST_DEVICES": "metal-sim:0", "METAL_SIM_REPORT": str(report), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    pytest = [PYTHON, "-m", "pytest", "-q", "-n", JOBS, "--dist", "worksteal"]
    own = "build/passport-metal.json"
    results = [
        build("build/tests", "-DDLK_METAL_SIM=ON"),
        command(*pytest, "tests/parity", *VULKAN_ALONE, "--passport", own, env=env),
        command(*pytest, "tests/onnx", "-k", METAL_NODES, env=env),
        command(*pytest, "tests/models/test_real_networks.py", "-k", "efficientnet_lite0", env=env),
        command(PYTHON, "-m", "dlk", "classify", "examples/images/coffee.png", "--device",
                "metal-sim", env=env),
    ]  # fmt: skip
    for profile, order in METAL_PROFILES.items():
        played = {**env, "METAL_SIM_PROFILE": profile, "METAL_SIM_ORDER": order}
        results.append(command(*pytest, "tests/parity/test_parity.py", env=played))
    if report.exists():
        print(f"the simulator reports:\n{report.read_text()[:5000]}", flush=True)
        results.append(False)
    passport = os.environ.get("DLK_PASSPORT", "build/passport.json")
    if (ROOT / passport).exists():
        results.append(command(PYTHON, "-m", "tests.parity.passport", passport, own))
    results.append(ctest("build/tests", "-L", "metal", "-j", JOBS))
    return all(results)


STEPS: dict[str, tuple[Callable[[], bool], bool]] = {
    "lint": (lint, True),
    "unit": (unit_tests, False),
    "python": (python_tests, False),
    "sanitizers": (sanitizers, True),
    "fuzz": (fuzz, True),
    "threads": (threads, True),
    "aarch64": (aarch64, True),
    "metal": (metal_ladder, True),
    "metal-sim": (metal_sim, True),
}
"""Name: what it runs, and whether only CI runs it unasked."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(STEPS), help="run this step")
    chosen = parser.parse_args()
    ci = os.environ.get("CI") == "true"
    names = chosen.only or [name for name, (_, only_ci) in STEPS.items() if ci or not only_ci]
    results = {}
    for name in names:
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        results[name] = STEPS[name][0](), time.monotonic() - start
    print()
    for name, (passed, seconds) in results.items():
        print(f"{'passed' if passed else 'FAILED'}  {name}  {seconds:.0f} s")
    failed = sum(not passed for passed, _ in results.values())
    print(f"steps: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
