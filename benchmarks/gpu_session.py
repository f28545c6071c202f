"""Everything worth measuring on a GPU machine, in parts that can be chosen, each with a time limit.

    python benchmarks/gpu_session.py --output FOLDER --label h200 --budget 560
    python benchmarks/gpu_session.py --output FOLDER --parts tiles,engines --packages ENGINES
    python benchmarks/gpu_session.py --list

Each part is a program of its own whose results stand in FOLDER as soon as they are there, with all
that it prints in FOLDER/PART.log; with --archive, a .tar.gz of FOLDER is written anew after every
part. So a session that is cut off loses one part. A part is not begun with less than half of its
time left of --budget: the last line names what is left, for --parts of the next session.
--tiny runs every part on very little work, to try the session out. dlk has to be importable.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from all_speed import NETWORKS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TINY_NETWORKS = "squeezenet1_1"
TRAINED = "lenet,nin_imagenet,resnet50,inception_v3"


@dataclasses.dataclass(frozen=True)
class Session:
    """What the parts need to know."""

    output: Path
    label: str
    devices: str
    packages: Path | None
    tiny: bool
    workers: int

    def file(self, name: str) -> str:
        """The path of a result, named as scripts/acceptance_rows looks for it."""
        stem = f"{name}-{self.label}" if name.startswith("training") else f"{self.label}-{name}"
        return str(self.output / f"{datetime.date.today().isoformat()}-{stem}.json")

    @property
    def pack(self) -> Path:
        """Compiled kernels (``dlk pack``), which the parts after it take."""
        return self.output / f"kernels-{self.label}.pack"


Command = list[str]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part: the most seconds that it may take, what it is, and its commands."""

    seconds: int
    what: str
    commands: Callable[[Session], list[Command]]


def _program(name: str, *arguments: str) -> Command:
    return [sys.executable, str(HERE / name), *arguments]


def _packs(session: Session) -> list[Command]:
    if session.tiny:
        chosen = ["--networks", TINY_NETWORKS, "--dtypes", "float32"]
    else:
        chosen = ["--networks", NETWORKS, "--batches", "1,64", "--seconds", "150"]
    return [[sys.executable, "-m", "dlk", "pack", str(session.pack), "--devices", session.devices,
             *chosen]]  # fmt: skip


def _parity(session: Session) -> list[Command]:
    chosen = ["-k", "Relu"] if session.tiny else []
    return [[sys.executable, "-m", "pytest", "tests/parity", "-q", "-p", "no:cacheprovider",
             "-n", str(session.workers), *chosen]]  # fmt: skip


def _speed(part: str) -> Callable[[Session], list[Command]]:
    def commands(session: Session) -> list[Command]:
        tiny = ["--tiny"] if session.tiny else []
        return [_program("all_speed.py", "--output", str(session.output), "--label", session.label,
                         "--devices", session.devices, "--parts", part, *tiny)]  # fmt: skip

    return commands


def _engines(engines: str, networks: str, limit: str) -> Callable[[Session], list[Command]]:
    def commands(session: Session) -> list[Command]:
        name = "engines" if "," in engines else f"engines-{engines}"
        chosen = TINY_NETWORKS if session.tiny else networks
        command = _program("engines.py", "--devices", session.devices, "--output",
                           session.file(name), "--engines", engines, "--networks", chosen,
                           "--seconds", "0.5", "--limit", limit)  # fmt: skip
        if session.packages is not None:
            command += ["--packages", str(session.packages)]
        return [command]

    return commands


def _training(session: Session) -> list[Command]:
    if session.tiny:
        chosen = ["--networks", "lenet", "--batch", "2", "--runs", "2", "--dtypes", "float32"]
    else:
        chosen = ["--networks", TRAINED, "--runs", "10"]
    return [_program("training.py", "--devices", session.devices, *chosen, "--output",
                     session.file("training"))]  # fmt: skip


def _activity(session: Session) -> list[Command]:
    runs = "2" if session.tiny else "50"
    return [_program("training.py", "--devices", session.devices, "--networks", "activity",
                     "--dtypes", "float32", "--batch", "32", "--runs", runs, "--output",
                     session.file("training-activity"))]  # fmt: skip


def _memory(session: Session) -> list[Command]:
    networks, batch = ("squeezenet1_1", "2") if session.tiny else ("resnet50,inception_v3", "32")
    device = session.devices.split(",")[0]
    return [_program("training_memory.py", "--networks", networks, "--batch", batch, "--device",
                     device, "--output", session.file("training-memory-torch"))]  # fmt: skip


def _roofline(session: Session) -> list[Command]:
    network = TINY_NETWORKS if session.tiny else "resnet50"
    return [
        [sys.executable, "-m", "dlk", "bench", network, "--weights", "random", "--roofline",
         "--device", device, "--dtype", dtype, "--json", "--output",
         session.file(f"roofline-{device.replace(':', '-')}-{dtype}"),
         *(["--runs", "1"] if session.tiny else [])]
        for device in session.devices.split(",")
        for dtype in (("float32",) if session.tiny else ("float16", "float32"))
    ]  # fmt: skip


PARTS: dict[str, Part] = {
    "parity": Part(150, "the parity suite on every API", _parity),
    "batch1": Part(100, "networks, batch 1, float16", _speed("batch1")),
    "batch64": Part(150, "networks, batch 64, float16", _speed("batch64")),
    "ops": Part(200, "gemm in float16, float32, int8; lstm; against PyTorch", _speed("ops")),
    "packs": Part(180, "compiled kernels of networks as a file for first starts", _packs),
    "start": Part(150, "first answers: empty cache, warm cache, bundle", _speed("start")),
    "batch64-fp32": Part(150, "networks, batch 64, float32", _speed("batch64-fp32")),
    "batch1-fp32": Part(100, "networks, batch 1, float32", _speed("batch1-fp32")),
    "tiles": Part(120, "twelve convolution shapes, every algorithm", _speed("tiles")),
    "engines": Part(
        400, "ncnn and onnxruntime's WebGPU provider, batch 1",
        _engines("ncnn,ort-webgpu", NETWORKS, "45"),
    ),
    "training": Part(240, "training steps against PyTorch", _training),
    "activity": Part(60, "a training step of the activity classifier", _activity),
    "training-memory": Part(120, "memory of training steps against PyTorch", _memory),
    "roofline": Part(60, "what share of the device's peaks each operation reaches", _roofline),
    "tinygrad": Part(
        240, "tinygrad, batch 1", _engines("tinygrad", "squeezenet1_1,resnet50", "90")
    ),
}  # fmt: skip
"""In the order of a session without --parts; the most wanted come first."""


def run_command(command: Command, seconds: float, log: Path, **environment: str) -> str:
    """Runs a program and all that it starts; "" where it ends well, else what happened."""
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
        try:
            code = process.wait(timeout=max(seconds, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {seconds:.0f} s"
    return "" if code == 0 else f"exit {code}"


def run_part(name: str, session: Session, seconds: float) -> dict[str, object]:
    """Runs the commands of a part one after another; what happened, for the session's record."""
    begin, problems = time.monotonic(), []
    log = session.output / f"{name}.log"
    packs = {"DLK_KERNEL_PACKS": str(session.pack)} if session.pack.exists() else {}
    for command in PARTS[name].commands(session):
        problem = run_command(command, seconds - (time.monotonic() - begin), log, **packs)
        if problem:
            problems.append(problem)
    taken = time.monotonic() - begin
    return {"part": name, "seconds": round(taken, 1), "problem": "; ".join(problems)}


def pack(folder: Path, archive: Path) -> None:
    """A .tar.gz of the folder, replaced whole."""
    temporary = archive.with_name(archive.name + ".part")
    with tarfile.open(temporary, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    temporary.replace(archive)


def chosen_parts(text: str) -> list[str]:
    """The names in a comma-separated list, or all.

    Raises:
        ValueError: there is no such part.
    """
    names = [name for name in text.split(",") if name] or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise ValueError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


def main() -> int:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--output", type=Path, help="folder for results and logs")
    parser.add_argument("--archive", type=Path, help="a .tar.gz of it, rewritten after every part")
    parser.add_argument("--label", default="h200", help="of the machine, in the files' names")
    parser.add_argument("--devices", default="vulkan,opencl")
    parser.add_argument("--parts", default="", help="comma-separated; default: all, in order")
    parser.add_argument("--budget", type=float, default=1700, help="seconds in all")
    parser.add_argument("--packages", type=Path, help="other engines, as for engines.py")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16))
    parser.add_argument("--tiny", action="store_true", help="little work, to try the session out")
    parser.add_argument("--list", action="store_true", help="list the parts and their limits")
    chosen = parser.parse_args()
    if chosen.list:
        for name, part in PARTS.items():
            print(f"{name:<16} {part.seconds:4d} s  {part.what}")
        return 0
    if chosen.output is None:
        parser.error("--output is missing")
    names = chosen_parts(chosen.parts)
    chosen.output.mkdir(parents=True, exist_ok=True)
    packages = chosen.packages.resolve() if chosen.packages else None
    session = Session(chosen.output.resolve(), chosen.label, chosen.devices, packages,
                      chosen.tiny, chosen.workers)  # fmt: skip
    begin, done, left = time.monotonic(), [], []
    for name in names:
        rest = chosen.budget - (time.monotonic() - begin)
        if rest < PARTS[name].seconds / 2:
            left.append(name)
            continue
        done.append(run_part(name, session, min(PARTS[name].seconds, rest)))
        print(json.dumps(done[-1]), flush=True)
        with (session.output / "session.jsonl").open("a") as record:
            record.write(json.dumps(done[-1]) + "\n")
        if chosen.archive is not None:
            pack(session.output, chosen.archive)
    print("left: " + (",".join(left) or "nothing"))
    return 1 if left or any(part["problem"] for part in done) else 0


if __name__ == "__main__":
    sys.exit(main())
