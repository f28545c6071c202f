#!/usr/bin/env python3
"""Sets up everything on a bare Debian or Ubuntu machine, then runs the demo or the tests.

    python3 scripts/bootstrap.py demo     # install, build, classify examples/images/coffee.png
    python3 scripts/bootstrap.py test     # install, build, run the tests (all of CI's with CI=true)
    python3 scripts/bootstrap.py build    # install and build only

Needs Python 3.10 or later and its standard library. System packages come from apt-get where root
or sudo is there. Without either, loaders and headers are unpacked into ``.deps/`` and PyPI's
``pocl-binary-distribution`` serves as OpenCL driver. Everything else goes into ``.venv/``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
DEPS = ROOT / ".deps"
LOG = ROOT / ".venv" / "bootstrap.log"

RUNTIME_PACKAGES = ("pocl-opencl-icd", "ocl-icd-libopencl1", "mesa-vulkan-drivers", "libvulkan1")
BUILD_PACKAGES = ("g++", "opencl-c-headers", "libvulkan-dev", "python3-dev", "python3-venv")
TEST_PACKAGES = (
    "vulkan-validationlayers", "oclgrind", "doctest-dev", "cmake", "ninja-build",
    "clang", "libclang-rt-14-dev", "g++-aarch64-linux-gnu", "qemu-user",
)  # fmt: skip
UNPACKED_PACKAGES = ("opencl-c-headers", "libvulkan-dev", "ocl-icd-libopencl1", "libvulkan1")


class Failure(RuntimeError):
    """Something the user can act on; printed without a traceback."""


def say(text: str) -> None:
    print(f"dlk: {text}", file=sys.stderr, flush=True)


class Stage:
    """A line on stderr that shows what is going on, how far it is and for how long."""

    def __init__(self, title: str) -> None:
        self.title, self.start, self.live = title, time.monotonic(), sys.stderr.isatty()

    def update(self, done: int, total: int, detail: str = "") -> None:
        if self.live:
            filled = int(24 * done / max(total, 1))
            bar = "#" * filled + "-" * (24 - filled)
            line = f"\r{self.title} [{bar}] {done}/{total} {detail}"
            print(line[:118].ljust(119), end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.live:
            print("\r" + " " * 119, end="\r", file=sys.stderr)
        say(f"{self.title}: {time.monotonic() - self.start:.0f} s")


def run(command: list[str], title: str, env: dict[str, str] | None = None) -> None:
    """Runs a command with a progress line from its ``[n/m]`` output; its output goes to the log."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    stage, tail = Stage(title), []
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, **(env or {})}, errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        for count, line in enumerate(process.stdout):
            log.write(line)
            tail = [*tail[-30:], line.rstrip()]
            found = re.match(r"\s*\[(\d+)/(\d+)\]", line)
            done, total = (int(found[1]), int(found[2])) if found else (count % 24, 24)
            stage.update(done, total, "" if found else line.strip()[:50])
        code = process.wait()
    stage.finish()
    if code:
        raise Failure(f"{title} failed (exit {code}); the end of {LOG}:\n" + "\n".join(tail))


def privileged() -> list[str] | None:
    """The prefix that makes a command root: [], ["sudo", "-n"], or None."""
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and not subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode
    ):
        return ["sudo", "-n"]
    return None


def missing_packages(names: tuple[str, ...]) -> list[str]:
    """Debian packages that are not installed."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True, text=True,
    )  # fmt: skip
    installed = {
        line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")
    }
    return [name for name in names if name not in installed]


def install_system_packages(for_tests: bool) -> dict[str, str]:
    """Installs what is missing; returns environment variables that the fallback needs."""
    wanted = RUNTIME_PACKAGES + BUILD_PACKAGES + (TEST_PACKAGES if for_tests else ())
    if not shutil.which("dpkg-query"):
        say("not a Debian system: OpenCL and Vulkan drivers and headers must be there already")
        return {}
    missing = missing_packages(wanted)
    if os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3"):
        missing = [name for name in missing if not name.startswith("python3-")]
    if not missing:
        return {}
    prefix = privileged()
    if prefix is None:
        return unpack_without_root(missing)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    run([*prefix, "apt-get", "update"], "package lists", env)
    run([*prefix, "apt-get", "install", "-y", "--no-install-recommends", *missing],
        f"Debian packages ({len(missing)})", env)  # fmt: skip
    return {}


def unpack_without_root(missing: list[str]) -> dict[str, str]:
    """Loaders and headers in .deps/, PoCL from PyPI."""
    say(f"no root and no sudo: cannot install {', '.join(missing)}")
    if not shutil.which("c++") and not shutil.which("g++"):
        raise Failure("no C++ compiler; ask the administrator to install g++")
    DEPS.mkdir(exist_ok=True)
    for name in UNPACKED_PACKAGES:
        if name in missing and not list(DEPS.glob(f"{name}_*.deb")):
            done = subprocess.run(
                ["apt-get", "download", name], cwd=DEPS, capture_output=True, text=True
            )
            if done.returncode:
                raise Failure(f"cannot download {name}: {done.stderr.strip()[-300:]}")
    for package in DEPS.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(DEPS)], check=True)
    library = DEPS / "usr/lib" / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    env = {
        "CMAKE_PREFIX_PATH": str(DEPS / "usr"),
        "CPATH": str(DEPS / "usr/include"),
    }
    if "ocl-icd-libopencl1" in missing:
        env["DLK_OPENCL_LIBRARY"] = str(library / "libOpenCL.so.1")
    if "libvulkan1" in missing:
        env["DLK_VULKAN_LIBRARY"] = str(library / "libvulkan.so.1")
    if "pocl-opencl-icd" in missing:
        say("using PyPI's pocl-binary-distribution: an old OpenCL CPU driver, slow, a last resort")
        env["DLK_BOOTSTRAP_POCL"] = "1"
    return env


def make_environment() -> None:
    if not (VENV / "bin" / "python").exists():
        stage = Stage("virtual environment")
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True
        )
        if made.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise Failure(f"cannot make a virtual environment: {made.stdout}{made.stderr}\n"
                          "install python3-venv, or use a Python that has ensurepip")  # fmt: skip
        stage.finish()


def python() -> str:
    return str(VENV / "bin" / "python")


def pip(arguments: list[str], title: str, env: dict[str, str]) -> None:
    run([python(), "-m", "pip", "install", "--disable-pip-version-check", *arguments], title, env)


def icd_folder(env: dict[str, str]) -> None:
    """Points the OpenCL loader at the PyPI driver."""
    if not env.pop("DLK_BOOTSTRAP_POCL", None):
        return
    pip(["pocl-binary-distribution"], "PyPI's PoCL", env)
    where = subprocess.run(
        [python(), "-c", "import pocl_binary_distribution as p; print(p.__path__[0])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    driver = next(Path(where).rglob("libpocl.so*"), None)
    if driver is None:
        raise Failure(f"no libpocl in {where}")
    folder = DEPS / "vendors"
    folder.mkdir(exist_ok=True)
    (folder / "pocl.icd").write_text(f"{driver}\n")
    env["OCL_ICD_VENDORS"] = str(folder)


def install(for_tests: bool) -> dict[str, str]:
    env = install_system_packages(for_tests)
    make_environment()
    icd_folder(env)
    requirements = ["-r", str(ROOT / "scripts" / "requirements-build.txt")]
    if for_tests:
        requirements += ["-r", str(ROOT / "scripts" / "requirements-test.txt")]
    pip(requirements, "Python packages", env)
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env["VIRTUAL_ENV"] = str(VENV)
    pip(["--no-build-isolation", "-v", "-C", "build-dir=build/python", str(ROOT)], "build dlk", env)
    return env


def demo(env: dict[str, str], arguments: list[str]) -> int:
    image = ROOT / "examples" / "images" / "coffee.png"
    command = [str(VENV / "bin" / "dlk"), "classify", str(image), *arguments]
    say(f"{' '.join(command)}")
    return subprocess.run(command, env={**os.environ, **env}).returncode


def test(env: dict[str, str], arguments: list[str]) -> int:
    return subprocess.run(
        [python(), str(ROOT / "scripts" / "run_tests.py"), *arguments],
        env={**os.environ, "DLK_REQUIRE": "opencl,vulkan", **env}, cwd=ROOT,
    ).returncode  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("demo", "test", "build"))
    chosen, rest = parser.parse_known_args()
    try:
        if sys.version_info < (3, 10):  # noqa: UP036
            raise Failure(f"Python 3.10 or later is needed, this is {sys.version.split()[0]}")
        env = install(chosen.what == "test")
        if chosen.what == "demo":
            return demo(env, rest)
        return test(env, rest) if chosen.what == "test" else 0
    except Failure as failure:
        say(str(failure))
        return 1


if __name__ == "__main__":
    sys.exit(main())
