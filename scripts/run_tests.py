#!/usr/bin/env python3
"""Runs dlk's tests in an environment that ``bootstrap.py`` made.

Always: the C++ unit tests and the Python tests (parity, models, importers, package). With CI=true
also the linters, the include rules, the sanitizers, the aarch64 cross build under qemu, OpenCL
kernels under oclgrind and a short run of the fuzzers. ``--only NAME`` runs single steps.
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
    return build("build/tests") and ctest("build/tests")


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
    "c_api", "device", "kernel_library", "model", "opencl", "vulkan", "vulkan_cache",
    "vulkan_external",
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
    return command(PYTHON, "scripts/run_fuzzers.py", "build/fuzz", "--seconds", "20")


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
    return command(PYTHON, "scripts/metal_checks.py", "types", "link")


STEPS: dict[str, tuple[Callable[[], bool], bool | None]] = {
    "lint": (lint, True),
    "unit": (unit_tests, False),
    "python": (python_tests, False),
    "sanitizers": (sanitizers, None),
    "fuzz": (fuzz, None),
    "threads": (threads, True),
    "aarch64": (aarch64, True),
    "metal": (metal_ladder, True),
}
"""Name: what it runs; True: in CI only, False: always, None: only when asked for by name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(STEPS), help="run this step")
    chosen = parser.parse_args()
    ci = os.environ.get("CI") == "true"
    names = chosen.only or [
        name for name, (_, only_ci) in STEPS.items() if only_ci is False or (ci and only_ci)
    ]
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
