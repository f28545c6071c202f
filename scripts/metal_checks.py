#!/usr/bin/env python3
"""What can be proved of the Metal backend without Apple's tools; run by ``run_tests.py``.

    python scripts/metal_checks.py types    # for macOS, iOS and tvOS, against Apple's metal-cpp
    python scripts/metal_checks.py engine   # the engine against libc++ and Darwin's C headers
    python scripts/metal_checks.py link     # a Mach-O for arm64 macOS, and what it imports
    python scripts/metal_checks.py msl      # every kernel's text, and texts that must be refused

``link`` fails where the binary imports a library or a symbol, or the backend sends a selector, that
``tests/metal_checks/allowed_macos13.txt`` does not list, and where the list has one too many.
Needs PyPI's ``ziglang``, which carries clang, libc++ and Darwin's C headers. ``msl`` needs the
package dlk and ``metal_msl_check`` of a build with DLK_METAL_SIM (``--tool`` says where).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from macho import MachO
from metal_cpp import provide

ROOT = Path(__file__).resolve().parents[1]
CHECKS = ROOT / "tests" / "metal_checks"
BUILD = ROOT / "build" / "metal_checks"
ALLOWED = CHECKS / "allowed_macos13.txt"

TARGETS = (
    "arm64-apple-macos13.0",
    "x86_64-apple-macos13.0",
    "arm64-apple-ios16.0",
    "arm64-apple-tvos16.0",
)

# How zig sets up its libc++ for Darwin; without its driver, the headers ask for these.
LIBCXX = {
    "ABI_VERSION": "1", "ABI_NAMESPACE": "__1", "HAS_THREADS": "1", "HAS_MONOTONIC_CLOCK": "1",
    "HAS_TERMINAL": "1", "HAS_MUSL_LIBC": "0", "HAS_WIDE_CHARACTERS": "1", "HAS_FILESYSTEM": "1",
    "HAS_LOCALIZATION": "1", "HAS_RANDOM_DEVICE": "1", "HAS_UNICODE": "1",
    "HAS_TIME_ZONE_DATABASE": "0", "HAS_VENDOR_AVAILABILITY_ANNOTATIONS": "0",
    "HARDENING_MODE_DEFAULT": "2", "PSTL_BACKEND_SERIAL": "1", "HAS_THREAD_API_PTHREAD": "1",
    "HAS_THREAD_API_EXTERNAL": "0", "HAS_THREAD_API_WIN32": "0", "HAS_THREAD_API_C11": "0",
    "ASSERTION_SEMANTIC_DEFAULT": "2", "LIBC_PICOLIBC": "0", "LIBC_NEWLIB": "0",
    "LIBC_LLVM_LIBC": "0", "LIBC_APPLE": "1",
}  # fmt: skip

WARNINGS = [
    "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror",
]  # fmt: skip

TOOL = Path("build/tests/metal_sim/metal_msl_check")
JOBS = os.cpu_count() or 2


class Refused(RuntimeError):
    """A check failed; the message says what and where."""


def zig_folder() -> Path:
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise Refused("PyPI's ziglang is needed: pip install -r scripts/requirements-test.txt")
    return Path(found.origin).parent


def run(arguments: list[str], what: str) -> None:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"{what}:\n{done.stdout}{done.stderr}")


def version() -> str:
    return f'-DDLK_VERSION="{(ROOT / "VERSION").read_text().strip()}"'


def backend_sources() -> list[Path]:
    return sorted((ROOT / "backends" / "metal").glob("*.cpp"))


def engine_sources() -> list[Path]:
    """What the backend needs of the engine: the device layer, and where caches lie."""
    folders = ("core/base", "core/device")
    found = [path for folder in folders for path in sorted((ROOT / folder).glob("*.cpp"))]
    return [*found, ROOT / "core" / "kernel" / "disk_cache.cpp"]


def syntax_only(jobs: list[tuple[str, Path]], flags: list[str]) -> None:
    """Compiles (target, source) pairs without code, in parallel.

    Raises:
        Refused: with the compiler's words.
    """
    zig = zig_folder()
    common = [
        "-x", "c++", "-std=c++20", "-fblocks", "-fsyntax-only", "-nostdlibinc",
        *(f"-D_LIBCPP_{name}={value}" for name, value in LIBCXX.items()),
        "-I.", "-Icore/include",
        "-isystem", str(zig / "lib/libcxx/include"), "-isystem", str(zig / "lib/include"),
        "-isystem", str(CHECKS / "stubs/macos"),
        "-isystem", str(zig / "lib/libc/include/any-darwin-any"), version(), *flags,
    ]  # fmt: skip

    def check(job: tuple[str, Path]) -> None:
        target, source = job
        name = source.relative_to(ROOT)
        run([str(zig / "zig"), "clang", f"--target={target}", *common, str(name)],
            f"{name} for {target}")  # fmt: skip

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(check, jobs))


def check_types(headers: Path) -> str:
    """Every file of the backend, for every Apple system, with warnings as errors."""
    jobs = [(target, source) for target in TARGETS for source in backend_sources()]
    syntax_only(jobs, [*WARNINGS, "-isystem", str(headers)])
    return f"{len(backend_sources())} files for {', '.join(TARGETS)}"


def check_engine() -> str:
    """The engine itself for one Apple system: another C++ library than Linux's."""
    sources = sorted((ROOT / "core").rglob("*.cpp"))
    found = importlib.util.find_spec("nlohmann_json")
    json = Path(found.submodule_search_locations[0]) if found else Path("/usr/include")
    folder = json / "include" if found else json
    syntax_only([(TARGETS[0], source) for source in sources],
                ["-Wall", "-Wextra", "-isystem", str(folder)])  # fmt: skip
    return f"{len(sources)} files for {TARGETS[0]}"


class Allowed:
    """``allowed_macos13.txt``: libraries, symbols and selectors with their first macOS."""

    def __init__(self, text: str) -> None:
        self.libraries: set[str] = set()
        self.symbols: dict[str, str] = {}
        self.selectors: dict[str, str] = {}
        self.weak: set[str] = set()
        library = ""
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if words[0] == "library" and len(words) == 2:
                library = words[1]
                self.libraries.add(library)
            elif words[0] in ("symbol", "weak") and len(words) == 2:
                self.symbols["_" + words[1]] = library
                if words[0] == "weak":
                    self.weak.add("_" + words[1])
            elif words[0] == "selector" and len(words) == 3:
                self.selectors[words[1]] = words[2]
            else:
                raise Refused(f"{ALLOWED.name}:{number}: not understood: {line}")

    def too_new(self) -> list[str]:
        """Selectors that macOS 13 lacks and that are not sent behind a question."""
        return [
            name for name, first in self.selectors.items()
            if first != "asked" and float(first) > 13.0
        ]  # fmt: skip


def text_stub(library: str, symbols: list[str]) -> str:
    names = ", ".join(sorted(symbols))
    exports = f"exports:\n  - targets: [ arm64-macos ]\n    symbols: [ {names} ]\n"
    return (
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n"
        f"install-name: '{library}'\n{exports if names else ''}...\n"
    )


def write_stubs(allowed: Allowed, folder: Path) -> list[str]:
    """Text stubs with the allowed symbols alone; returns the linker's arguments."""
    shutil.rmtree(folder, ignore_errors=True)
    arguments = []
    for library in sorted(allowed.libraries):
        symbols = [name for name, owner in allowed.symbols.items() if owner == library]
        if ".framework/" in library:
            name = re.findall(r"(\w+)\.framework", library)[0]
            stub = folder / f"{name}.framework" / f"{name}.tbd"
            arguments += ["-framework", name]
        elif "libSystem" in library:
            continue  # zig's own
        else:
            name = Path(library).name.split(".")[0]
            stub = folder / f"{name}.tbd"
            arguments.append(f"-l{name.removeprefix('lib')}")
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(text_stub(library, symbols), encoding="utf-8")
    return ["-F", str(folder), "-L", str(folder), *arguments]


def compile_objects(headers: Path, folder: Path) -> list[Path]:
    zig = zig_folder()
    sources = [*backend_sources(), *engine_sources(), CHECKS / "macho_program.cpp"]
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> Path:
        name = source.relative_to(ROOT)
        target = folder / (name.as_posix().replace("/", "_") + ".o")
        run(
            [
                str(zig / "zig"), "c++", "-target", "aarch64-macos.13.0", "-std=c++20", "-O1",
                "-fblocks", "-I.", "-isystem", str(CHECKS / "stubs/macos"),
                "-isystem", str(headers), version(), "-c", str(name), "-o", str(target),
            ],
            f"{name} for arm64 macOS",
        )  # fmt: skip
        return target

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(compile_one, sources))


def selector_names(headers: Path) -> dict[str, str]:
    """metal-cpp's accessor of each selector -> the selector."""
    names: dict[str, str] = {}
    for path in sorted(headers.rglob("*.hpp")):
        text = path.read_text(encoding="utf-8", errors="replace")
        pattern = r'_(?:NS|MTL)_PRIVATE_DEF_SEL\(\s*(\w+)\s*,\s*"([^"]+)"\s*\)'
        names.update(re.findall(pattern, text))
    return names


def sent_selectors(objects: list[Path], headers: Path) -> set[str]:
    """The selectors that the objects refer to; metal-cpp's own unit defines all of them."""
    names = selector_names(headers)
    sent: set[str] = set()
    for path in objects:
        if "metal_cpp" in path.name:
            sent.add("respondsToSelector:")
            continue
        for symbol in MachO(path).undefined():
            found = re.fullmatch(r"__ZN(?:2NS|3MTL)7Private8SelectorL?\d+s_k(\w+?)E", symbol)
            if found:
                sent.add(names[found[1]])
    return sent


def differences(what: str, used: set[str], allowed: set[str]) -> list[str]:
    return [
        f"{what} {name} is used and not in {ALLOWED.name}" for name in sorted(used - allowed)
    ] + [f"{what} {name} is in {ALLOWED.name} and not used" for name in sorted(allowed - used)]


def check_link(headers: Path) -> str:
    """Links the backend and a program for arm64 macOS, and compares what they import.

    Raises:
        Refused: it does not compile or link, or an import is not what the list says.
    """
    allowed = Allowed(ALLOWED.read_text(encoding="utf-8"))
    objects = compile_objects(headers, BUILD / "objects")
    program = BUILD / "macho_program"
    stubs = write_stubs(allowed, BUILD / "stubs")
    run([str(zig_folder() / "zig"), "c++", "-target", "aarch64-macos.13.0", "-o", str(program),
         *map(str, objects), *stubs], "the link for arm64 macOS")  # fmt: skip
    binary = MachO(program)
    # What libSystem has is the C library; the question is what is asked of Apple's frameworks.
    libraries = set(binary.libraries())
    imports = {
        name for name, library in binary.imports().items() if "libSystem" not in library
    }  # fmt: skip
    sent = sent_selectors(objects, headers)
    wrong = differences("library", libraries, allowed.libraries)
    wrong += differences("symbol", imports, set(allowed.symbols))
    wrong += differences("weak symbol", binary.weak() & imports, allowed.weak)
    wrong += differences("selector", sent, set(allowed.selectors))
    wrong += [f"selector {name} is newer than macOS 13" for name in allowed.too_new()]
    if wrong:
        raise Refused("\n".join(wrong))
    return (
        f"{binary.kind()}, {program.stat().st_size >> 10} KB: {len(libraries)} libraries, "
        f"{len(imports)} symbols, {len(sent)} selectors, all on the list"
    )


def emitted_texts(folder: Path) -> list[Path]:
    """Every kernel of the library as MSL: storage types, and tiles on simdgroup matrices."""
    from dlk import _core

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seen: set[str] = set()
    files = []
    for name in _core.kernel_names():
        for dtype in ("float32", "float16", "bfloat16"):
            for lowering in ("plain", "simdgroup"):
                types = {} if dtype == "float32" else {"T": dtype}
                try:
                    request = _core.KernelRequest(name, types=types, lowering=lowering)
                    text = _core.print_kernel(request, "msl")["code"]
                except (NotImplementedError, ValueError):
                    continue  # no type T, float64, or tiles that the lowering does not take
                except _core.Error as error:
                    if lowering == "plain":
                        raise Refused(f"{name} in {dtype}: {error}") from error
                    continue
                if text in seen:
                    continue
                seen.add(text)
                files.append(folder / f"{name}.{dtype}.{lowering}.metal")
                files[-1].write_text(text, encoding="utf-8")
    return files


def check_msl(tool: Path) -> str:
    """Every emitted text is taken, and each text that Metal's compiler would refuse is refused.

    Raises:
        Refused: with the tool's words.
    """
    if not tool.exists():
        raise Refused(f"{tool} is not there: build with -DDLK_METAL_SIM=ON")
    files = emitted_texts(BUILD / "msl")
    parts = [files[i::JOBS] for i in range(JOBS)]

    def check(part: list[Path]) -> None:
        run([str(tool), *map(str, part)], "emitted MSL")

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(check, filter(None, parts)))
    bad = sorted((CHECKS / "badmsl").glob("*.metal"))
    taken = [
        path.name for path in bad
        if subprocess.run([str(tool), str(path)], capture_output=True).returncode == 0
    ]  # fmt: skip
    if taken:
        raise Refused(f"not refused: {', '.join(taken)}")
    return f"{len(files)} emitted texts are taken, {len(bad)} bad ones refused"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=("types", "engine", "link", "msl"))
    parser.add_argument("--tool", type=Path, default=ROOT / TOOL, help="metal_msl_check")
    chosen = parser.parse_args()
    checks = {
        "types": lambda: check_types(provide(BUILD / "metal_cpp")),
        "engine": check_engine,
        "link": lambda: check_link(provide(BUILD / "metal_cpp")),
        "msl": lambda: check_msl(chosen.tool),
    }
    failed = 0
    for name in chosen.what:
        try:
            print(f"{name}: {checks[name]()}", flush=True)
        except RuntimeError as refused:
            print(f"{name}: {refused}", flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
