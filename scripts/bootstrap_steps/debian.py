"""Debian's packages: installed by root, or unpacked into .deps/ by anybody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .console import Failure, run, say
from .place import DEPS, ROOT

__all__ = ["TEST_PACKAGES", "install_packages", "missing_packages", "privileged", "unpack"]

RUNTIME_PACKAGES = ("pocl-opencl-icd", "ocl-icd-libopencl1", "mesa-vulkan-drivers", "libvulkan1")
BUILD_PACKAGES = ("g++", "opencl-c-headers", "libvulkan-dev", "python3-dev", "python3-venv")
TEST_PACKAGES = (
    "vulkan-validationlayers", "oclgrind", "doctest-dev", "cmake", "ninja-build",
    "clang", "clang-19", "libclang-rt-dev", "g++-aarch64-linux-gnu", "qemu-user",
)  # fmt: skip
LOG = ROOT / "build" / "bootstrap.log"


def privileged() -> list[str] | None:
    """The prefix that makes a command root: [], ["sudo", "-n"], or None."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and not subprocess.run([*sudo, "true"], capture_output=True).returncode:
        return sudo
    return None


def missing_packages(for_tests: bool) -> list[str]:
    """What should be installed and is not."""
    names = RUNTIME_PACKAGES + BUILD_PACKAGES + (TEST_PACKAGES if for_tests else ())
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True, text=True,
    )  # fmt: skip
    installed = {
        line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")
    }
    missing = [name for name in names if name not in installed]
    if os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3"):
        missing = [name for name in missing if not name.startswith("python3-")]
    return missing


def install_packages(prefix: list[str], names: list[str]) -> None:
    """Installs them; `prefix` makes a command root."""
    env = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*prefix, "apt-get", "update"], "package lists", LOG)
    known = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *names], capture_output=True, text=True
    )
    found = {line.split()[1] for line in known.stdout.splitlines() if line.startswith("Package: ")}
    unknown = [name for name in names if name not in found]
    if unknown:
        say(f"this system has no package {', '.join(unknown)}; going on without")
    names = [name for name in names if name in found]
    wait = "DPkg::Lock::Timeout=600"  # a fresh machine is often busy with its first upgrade
    run([*prefix, *env, "apt-get", "-o", wait, "install", "-y", "--no-install-recommends", *names],
        f"Debian packages ({len(names)})", LOG)  # fmt: skip


def unpack(names: list[str]) -> Path:
    """Unpacks packages and what they depend on into .deps/, without being root.

    Returns the folder that stands for ``/``. Raises Failure where apt-get cannot fetch them.
    """
    state = DEPS / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "extended_states").touch()
    apt = [
        "apt-get", "-o", f"Dir::State={state}", "-o", f"Dir::Cache={state / 'cache'}",
        "-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Debug::NoLocking=1",
    ]  # fmt: skip
    if not any((state / "lists").glob("*_Packages*")):
        run([*apt, "update"], "package lists", LOG)
    plan = subprocess.run(
        [*apt, "install", "--simulate", "--no-install-recommends", *names],
        capture_output=True, text=True,
    )  # fmt: skip
    if plan.returncode:
        raise Failure(f"cannot fetch {', '.join(names)}: {plan.stderr.strip()[-300:]}")
    needed = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    needed = [name for name in needed if not (DEPS / f"{name}.unpacked").exists()]
    if needed:
        command = ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", str(DEPS), *apt, "download"]
        run([*command, *needed], f"Debian packages, unpacked ({len(needed)})", LOG)
    for name in needed:
        for package in DEPS.glob(f"{name}_*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(DEPS)], check=True)
            package.unlink()
        (DEPS / f"{name}.unpacked").touch()
    return DEPS
