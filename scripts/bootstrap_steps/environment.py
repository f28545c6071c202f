"""The virtual environment with dlk in it, and the environment variables that it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from . import debian
from .console import Failure, run, say
from .place import DEPS, ROOT, VENV

__all__ = ["install", "python"]

LOG = debian.LOG
PYPI_LOADER = "nvidia-cuda-opencl"
PYPI_DRIVER = "pocl-binary-distribution"


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
    pip(["--no-build-isolation", "-v", str(ROOT)], "build dlk", {**path, **build})
    remember(runtime)
    return {**path, **build, **runtime}


def system_packages(for_tests: bool) -> list[str]:
    """Installs system packages where that is possible; returns what is still missing."""
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        say("not a Debian system: OpenCL and Vulkan drivers should be installed already")
        return [] if headers_are_there() else ["opencl-c-headers", "libvulkan-dev"]
    missing = debian.missing_packages(for_tests)
    prefix = debian.privileged() if missing else None
    if prefix is not None:
        debian.install_packages(prefix, missing)
        return []
    if missing:
        say(f"no root and no sudo: cannot install {', '.join(missing)}")
    return missing


def headers_are_there() -> bool:
    return all(Path("/usr/include", name).exists() for name in ("CL/cl.h", "vulkan/vulkan.h"))


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
    names = [
        name for name in ("opencl-c-headers", "libvulkan-dev", "ocl-icd-libopencl1", "libvulkan1")
        if name in missing
    ]  # fmt: skip
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if "python3-dev" in missing and not Path(sysconfig.get_path("include"), "Python.h").exists():
        names.append(f"lib{version}-dev")
    if "doctest-dev" in missing:
        names.append("doctest-dev")
    build: dict[str, str] = {}
    runtime: dict[str, str] = {}
    try:
        if names and not shutil.which("apt-get"):
            raise Failure("there is no apt-get")
        root = debian.unpack(names) / "usr"
        library = root / "lib" / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
        build = {"CMAKE_PREFIX_PATH": str(root), "CPATH": str(root / "include")}
        if f"lib{version}-dev" in names:
            build["SKBUILD_CMAKE_DEFINE"] = f"Python_INCLUDE_DIR={root / 'include' / version}"
        if "ocl-icd-libopencl1" in names:
            runtime["DLK_OPENCL_LIBRARY"] = str(library / "libOpenCL.so.1")
        if "libvulkan1" in names:
            runtime["DLK_VULKAN_LIBRARY"] = str(library / "libvulkan.so.1")
    except Failure as failure:
        say(f"{failure}: taking OpenCL's headers and loader from PyPI's {PYPI_LOADER}")
        pip([PYPI_LOADER], f"PyPI's {PYPI_LOADER}")
        loader = next(site_packages().glob("nvidia/*/lib/libOpenCL.so.1"), None)
        if loader is not None:
            runtime["DLK_OPENCL_LIBRARY"] = str(loader)
        if not Path("/usr/include/vulkan/vulkan.h").exists():
            say("no Vulkan headers: this build of dlk has OpenCL only")
            build["SKBUILD_CMAKE_DEFINE"] = "DLK_ENABLE_VULKAN=OFF"
    if "pocl-opencl-icd" in missing:
        runtime["OCL_ICD_VENDORS"] = str(pypi_driver())
    if "mesa-vulkan-drivers" in missing:
        say("no Vulkan driver could be installed: tests require OpenCL only")
        runtime["DLK_REQUIRE"] = "opencl"
    return build, runtime


def pypi_driver() -> Path:
    """PyPI's PoCL, and the folder that points an OpenCL loader at it."""
    say(f"using PyPI's {PYPI_DRIVER}: an old OpenCL CPU driver, slow, a last resort")
    pip([PYPI_DRIVER], f"PyPI's {PYPI_DRIVER}")
    driver = next(site_packages().glob("*/.libs/libpocl*.so*"), None)
    if driver is None:
        raise Failure(f"PyPI's {PYPI_DRIVER} holds no driver for this machine")
    folder = DEPS / "vendors"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pocl.icd").write_text(f"{driver}\n")
    return folder


def remember(variables: dict[str, str]) -> None:
    """Makes every Python of the environment know them, however it is started."""
    file = site_packages() / "dlk_bootstrap.pth"
    kept = {name: value for name, value in variables.items() if name != "DLK_REQUIRE"}
    if kept:
        line = f"import os; [os.environ.setdefault(k, v) for k, v in {json.dumps(kept)}.items()]\n"
        file.write_text(line)
    else:
        file.unlink(missing_ok=True)
