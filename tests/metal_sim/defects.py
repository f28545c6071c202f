"""Builds the Metal backend with a seeded defect and looks whether the checks notice.

Nothing in the source tree is touched: the patched files stand in a folder of their own, what
depends on them is compiled with the commands of an existing build (configured with
``DLK_METAL_SIM=ON``), and the probe programs are linked with the new objects.

Exit status: 0 the defect was caught, 1 it was not, 2 it could not be tried.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROBES = ("metal_sim/metal_sim_probe", "tests/cpp/test_metal")
SETTINGS: tuple[dict[str, str], ...] = (
    {},
    {"METAL_SIM_MACOS": "13"},
    {"METAL_SIM_PROFILE": "discrete"},
)
TIMEOUT = 240


class CannotTryError(RuntimeError):
    """The defect could not be tried; the text says why."""


class Build:
    """An existing build folder: its compile and link commands, and what depends on what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "build.ninja").exists():
            raise CannotTryError(f"{folder} is no Ninja build; configure one with DLK_METAL_SIM=ON")
        listing = self.ninja("-t", "compdb")
        self.commands = {entry["output"]: entry for entry in json.loads(listing)}
        self.probes = [name for name in PROBES if name in self.commands]
        if not self.probes:
            raise CannotTryError(
                f"{folder} has no metal_sim_probe: configure with DLK_METAL_SIM=ON"
            )

    def ninja(self, *arguments: str) -> str:
        done = subprocess.run(
            ["ninja", "-C", str(self.folder), "--quiet", *arguments], capture_output=True, text=True
        )
        if done.returncode:
            raise CannotTryError(f"ninja {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def objects_that_need(self, paths: set[str]) -> set[str]:
        """Outputs that were compiled from a source file or read a header of `paths`."""
        wanted = {str(ROOT / path) for path in paths}
        found, output = set(), ""
        for line in self.ninja("-t", "deps").splitlines():
            if not line.startswith(" "):
                output = line.split(":")[0]
            elif os.path.normpath(self.folder / line.strip()) in wanted:
                found.add(output)
        # What clang compiles by custom commands has its dependencies in files of its own.
        for name in self.commands:
            listing = self.folder / (name + ".d")
            if name.startswith("metal_objects/") and listing.exists():
                moved = re.match(r"cd (\S+) && ", self.commands[name]["command"])
                base = Path(moved[1]) if moved else self.folder
                needs = listing.read_text().replace("\\\n", " ").split()
                if wanted & {os.path.normpath(base / need) for need in needs}:
                    found.add(name)
        return {name for name in found if name in self.commands}


class Overlay:
    """The patched files, and the objects made from them."""

    def __init__(self, build: Build, patch: Path, folder: Path) -> None:
        self.build, self.folder = build, folder
        text = patch.read_text()
        self.paths = {m[1] for m in re.finditer(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)}
        if not self.paths:
            raise CannotTryError(f"{patch} changes no file (paths start with a/ and b/)")
        for path in self.paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
        done = subprocess.run(
            ["patch", "-p1", "--batch", "-d", str(folder), "-i", str(patch.resolve())],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise CannotTryError(f"{patch} does not apply:\n{done.stdout}{done.stderr}")

    def run(self, command: str, what: str) -> None:
        done = subprocess.run(
            command, shell=True, cwd=self.build.folder, capture_output=True, text=True
        )
        if done.returncode:
            output = (done.stdout + done.stderr)[-3000:]
            raise CannotTryError(f"{what} does not build:\n{command[:400]}\n{output}")

    def embed_kernels(self) -> Path:
        """The generated source that holds all kernels, with the patched ones."""
        kernels = []
        for kernel in sorted((ROOT / "kernels").glob("*.k")):
            patched = self.folder / "kernels" / kernel.name
            kernels.append(str(patched if patched.exists() else kernel))
        output = self.folder / "embedded_kernels.cpp"
        self.run(
            f"cmake -DOUTPUT={output} {shlex.quote('-DSOURCES=' + ';'.join(kernels))} "
            f"-P {ROOT}/cmake/embed_kernels_script.cmake",
            "the kernels",
        )
        return output

    def objects(self) -> dict[str, Path]:
        """Compiles what the patch changes: the build's object and the new one."""
        made: dict[str, Path] = {}
        for output in sorted(self.build.objects_that_need(self.paths)):
            made[output] = self.compile(output, None)
        if any(path.startswith("kernels/") for path in self.paths):
            output = next(n for n in self.build.commands if n.endswith("embedded_kernels.cpp.o"))
            made[output] = self.compile(output, self.embed_kernels())
        if not made:
            raise CannotTryError(f"nothing in the build depends on {', '.join(sorted(self.paths))}")
        return made

    def compile(self, output: str, source: Path | None) -> Path:
        entry = self.build.commands[output]
        target = self.folder / "objects" / (hashlib.md5(output.encode()).hexdigest() + ".o")
        target.parent.mkdir(exist_ok=True)
        original = os.path.normpath(Path(entry["directory"]) / entry["file"])
        steps = [step for step in entry["command"].split(" && ") if " -c " in step]
        if len(steps) != 1:
            raise CannotTryError(f"no compile command for {output}")
        command = steps[0]
        words = shlex.split(command)
        if original.startswith(str(ROOT)):
            patched = self.folder / os.path.relpath(original, ROOT)
            source = source or (patched if patched.exists() else Path(original))
        words[words.index("-c") + 1] = str(source)
        words[words.index("-o") + 1] = str(target)
        words[words.index("-MF") + 1] = str(target) + ".d"
        first = next(i for i, word in enumerate(words) if word.startswith("-I"))
        words.insert(first, f"-I{self.folder}")
        if (compiler := shutil.which("ccache")) and words[0] == compiler:
            words = words[1:]
        self.run(shlex.join(words), str(source))
        return target

    def link(self, probe: str, objects: dict[str, Path]) -> Path:
        entry = self.build.commands[probe]
        program = self.folder / Path(probe).name
        replaced = {os.path.normpath(self.build.folder / k): str(v) for k, v in objects.items()}
        words = []
        for word in shlex.split(entry["command"].removeprefix(": && ").removesuffix(" && :")):
            word = replaced.get(os.path.normpath(self.build.folder / word), word)
            words.append(str(program) if word == probe else word)
        self.run(shlex.join(words), probe)
        return program


def run_probe(program: Path, settings: dict[str, str], report: Path) -> str:
    """What the program or the simulator found wrong; empty: nothing."""
    report.unlink(missing_ok=True)
    env = {
        **os.environ, "DLK_ENABLE_METAL_SIM": "1", "DLK_CACHE": "0", "DLK_REQUIRE": "metal-sim",
        "METAL_SIM_REPORT": str(report), **settings,
    }  # fmt: skip
    try:
        done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"{program.name} does not end within {TIMEOUT} s"
    problems = report.read_text() if report.exists() else ""
    if done.returncode:
        return problems or (done.stdout + done.stderr)[-1500:] or f"exit status {done.returncode}"
    return problems


def check_baseline(build: Build, folder: Path) -> None:
    """The probes must find nothing in the sources as they are; looked at once for a build."""
    for probe in build.probes:
        program = build.folder / probe
        if not program.exists():
            raise CannotTryError(f"{program} is not there: build it first")
        key = f"{probe} {program.stat().st_mtime_ns} {program.stat().st_size}"
        stamp = build.folder / "metal_sim" / (Path(probe).name + ".baseline")
        if stamp.exists() and stamp.read_text() == key:
            continue
        for settings in SETTINGS:
            if wrong := run_probe(program, settings, folder / "report"):
                raise CannotTryError(f"{probe} fails without any defect ({settings}):\n{wrong}")
        stamp.write_text(key)


def try_defect(build: Build, patch: Path) -> str:
    """What caught the defect; empty: it went unnoticed."""
    with tempfile.TemporaryDirectory(prefix="dlk-defect-") as name:
        folder = Path(name)
        check_baseline(build, folder)
        overlay = Overlay(build, patch, folder)
        objects = overlay.objects()
        for probe in build.probes:
            program = overlay.link(probe, objects)
            for settings in SETTINGS:
                if found := run_probe(program, settings, folder / "report"):
                    return f"{probe} {settings or ''}\n{found}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_defect", description=__doc__)
    parser.add_argument("patch", type=Path, help="a patch against the repository's root (-p1)")
    parser.add_argument(
        "--build", type=Path, default=Path(os.environ.get("DLK_BUILD", ROOT / "build" / "tests")),
        help="a build with DLK_METAL_SIM=ON (default: $DLK_BUILD, else build/tests)",
    )  # fmt: skip
    chosen = parser.parse_args()
    try:
        found = try_defect(Build(chosen.build.resolve()), chosen.patch)
    except CannotTryError as error:
        print(f"{chosen.patch.name}: cannot be tried: {error}", file=sys.stderr)
        return 2
    if not found:
        print(f"{chosen.patch.name}: NOT CAUGHT")
        return 1
    print(f"{chosen.patch.name}: caught by {found.strip()[:1000]}")
    return 0
