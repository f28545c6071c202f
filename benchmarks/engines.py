"""dlk beside other portable engines at batch 1: every engine on every network, in one run.

    python benchmarks/engines.py --devices vulkan,opencl --networks resnet50 --output engines.json

Each engine runs each network in a process of its own with a time limit, on the same random weights
and the same random input. `median_ms` is host memory in to host memory out, waited for. Results are
compared with the first one, dlk's in float32; a wrong one, an engine that is not installed, cannot
run the network or takes too long is a row with an `error`. The other engines are

    onnxruntime, torch-cpu                on the CPU, float32
    torch-fp32, torch-tf32, torch-fp16    CUDA graphs
    ncnn, ncnn-cpu                        packages ncnn and pnnx; float16, its default
    ort-webgpu                            package onnxruntime-webgpu, float32 and float16
    tinygrad                              package tinygrad on OpenCL (DEV names another device)

With --packages FOLDER, FOLDER/ENGINE leads that engine's PYTHONPATH where it exists, since two
packages call themselves onnxruntime (`scripts/device_bundle --engines` makes such a folder).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

NETWORKS = "squeezenet1_1,mobilenet_v2,resnet50,inception_v3,vgg16,nin_imagenet"
DTYPES = {"ort-webgpu": ("float32", "float16"), "tinygrad": ("float32", "float16"),
          "ncnn": ("float16",), "ncnn-cpu": ("float16",), "torch-fp16": ("float16",)}  # fmt: skip
"""What an engine computes in; float32 alone where it is not named."""


def prepare(network: str, folder: Path) -> None:
    """Writes what the processes share: the network, as dlk's file and as ONNX, and the input."""
    import dlk
    import peers

    graph = dlk.zoo.build(network, weights="random")
    shape = (1, *graph.inputs[0].shape[1:])
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    np.save(folder / "input.npy", x)
    dlk._core.save_dlk(graph, str(folder / "network.dlk"))
    for dtype in ("float32", "float16"):
        (folder / f"{dtype}.onnx").write_bytes(peers.to_onnx(graph, dtype, x.shape))


def load(folder: Path) -> Any:
    """The network's graph."""
    from dlk import _core

    return _core.load_dlk(str(folder / "network.dlk"))


def runner(engine: str, dtype: str, network: str, folder: Path, threads: int) -> Any:
    """A function that runs an engine once and gives its result."""
    import peers
    import portable_peers

    x, model = np.load(folder / "input.npy"), folder / f"{dtype}.onnx"
    if engine == "onnxruntime":
        return peers.onnxruntime_cpu(model.read_bytes(), x, threads)
    if engine in ("ncnn", "ncnn-cpu"):
        float32 = folder / "float32.onnx"  # pnnx stores the weights in float16 by itself
        return portable_peers.ncnn(float32, x, dtype, threads, engine == "ncnn")
    if engine == "ort-webgpu":
        return portable_peers.ort_webgpu(model, x)
    if engine == "tinygrad":
        return portable_peers.tinygrad(model, x)
    if engine == "torch-cpu":
        return peers.torch_cpu(network, load(folder), x, threads)
    raise ValueError(f"there is no engine {engine!r}")


def run_one(engine: str, dtype: str, network: str, folder: Path, chosen: argparse.Namespace) -> Any:
    """In the process of one engine: its figures, and its result as a file."""
    import dlk
    import networks
    import peers
    from dlk.bench import QUEUED, in_turn, measure

    if engine.startswith("dlk "):
        x = np.load(folder / "input.npy")
        graph = load(folder)
        model = dlk.Model(graph, dlk.Device(engine.removeprefix("dlk ")), dtype)
        feeds = {next(iter(model.inputs)): x}
        figures = measure(model, feeds, seconds=chosen.seconds).to_dict()
        row = {key: figures[key] for key in ("median_ms", "device_ms", "pipelined_ms", "runs")}
        result = next(iter(model.run(feeds).values()))
    elif engine.startswith("torch-") and engine != "torch-cpu":
        x = np.load(folder / "input.npy")
        graph = load(folder)
        torch = peers.TorchGpu(network, graph, x, engine.removeprefix("torch-"))
        result = torch.result()
        row = {"median_ms": torch.median_ms(), "pipelined_ms": in_turn([torch.queued])[0] / QUEUED}
    else:
        run = runner(engine, dtype, network, folder, chosen.threads)
        result = run()
        row = {"median_ms": networks.median_ms(run, chosen.seconds)}
    np.save(result_path(folder, engine, dtype), np.asarray(result, np.float32))
    return row


def result_path(folder: Path, engine: str, dtype: str) -> Path:
    return folder / f"{engine.replace(' ', '-').replace(':', '-')}-{dtype}.npy"


def last_object(text: str) -> dict[str, Any]:
    """The last line of a process's output that is a JSON object; engines print as they like.

    Raises:
        ValueError: there is none.
    """
    for line in reversed(text.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise ValueError("the process printed no result")


def call(engine: str, dtype: str, network: str, folder: Path, chosen: argparse.Namespace) -> Any:
    """The row of one engine on one network, measured in a process of its own."""
    row: dict[str, Any] = {"network": network, "engine": engine, "batch": 1, "dtype": dtype}
    environment = dict(os.environ)
    packages = chosen.packages / engine.removesuffix("-cpu") if chosen.packages else None
    if packages is not None and packages.is_dir():
        paths = [str(packages), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, str(Path(__file__).resolve()), "--networks", network,
               "--one", f"{engine}/{dtype}", "--folder", str(folder),
               "--seconds", str(chosen.seconds), "--threads", str(chosen.threads)]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=chosen.limit, env=environment,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            row["error"] = (lines[-1] if lines else f"the process ended with {done.returncode}")[
                :500
            ]
        else:
            row.update(last_object(done.stdout))
    except subprocess.TimeoutExpired:
        row["error"] = f"no result in {chosen.limit:g} s"
    except ValueError as error:
        row["error"] = str(error)
    return row


def compare(row: dict[str, Any], folder: Path, reference: Any) -> Any:
    """Adds how far a result is from the reference; returns the reference, or this first result."""
    import networks

    if "error" in row:
        return reference
    got = np.load(result_path(folder, row["engine"], row["dtype"]))
    if reference is None:
        return got
    if got.size != reference.size:
        row["error"] = f"wrong result: {got.size} numbers, not {reference.size}"
        return reference
    row["relative_error"] = networks.relative_error(got, reference)
    if not row["relative_error"] <= networks.TOLERANCE[row["dtype"]]:
        row["error"] = f"wrong result: relative error {row['relative_error']:.2e}"
    return reference


def least_ratios(rows: list[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    """Each peer's best median_ms over dlk's best: the least over the networks, and where it is."""
    best: dict[tuple[str, bool, str], float] = {}
    for row in rows:
        if "error" not in row:
            mine = row["engine"].startswith("dlk ")
            key = (row["network"], mine, "" if mine else row["engine"])
            best[key] = min(best.get(key, float("inf")), row["median_ms"])
    ratios: dict[str, tuple[float, str]] = {}
    for (network, mine, engine), ms in best.items():
        if mine or (network, True, "") not in best:
            continue
        ratio = ms / best[network, True, ""]
        if engine not in ratios or ratio < ratios[engine][0]:
            ratios[engine] = (ratio, network)
    return ratios


def arguments() -> argparse.ArgumentParser:
    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", type=words, default=words(NETWORKS))
    parser.add_argument("--devices", type=words, default=["vulkan", "opencl"], help="of dlk")
    parser.add_argument("--dtype", type=words, default=["float32", "float16"], help="of dlk")
    parser.add_argument("--engines", type=words, default=["onnxruntime", "ncnn", "ort-webgpu"])
    parser.add_argument("--packages", type=Path, help="a folder of packages for each engine")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timed runs for each")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each process")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of CPU engines")
    parser.add_argument("--output", type=Path, help="a .json path; the table goes beside it as .md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def main() -> int:
    chosen = arguments().parse_args()
    if chosen.one:
        engine, _, dtype = chosen.one.rpartition("/")
        print(json.dumps(run_one(engine, dtype, chosen.networks[0], chosen.folder, chosen)))
        sys.stdout.flush()
        os._exit(0)  # some engines' libraries crash when they are unloaded
    import networks
    from machine import machine

    todo = [(f"dlk {device}", dtype) for dtype in chosen.dtype for device in chosen.devices]
    todo += [(e, dtype) for e in chosen.engines for dtype in DTYPES.get(e, ("float32",))]
    result: dict[str, Any] = {"machine": machine(), "rows": []}
    for network in chosen.networks:
        reference = None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(network, folder)
            for engine, dtype in todo:
                row = call(engine, dtype, network, folder, chosen)
                reference = compare(row, folder, reference)
                result["rows"].append(row)
                print(json.dumps(row), flush=True)
                if chosen.output:  # after every row, so that an interrupted run loses one
                    networks.write(result, chosen.output)
    for engine, (ratio, network) in least_ratios(result["rows"]).items():
        print(f"{engine}: at least {ratio:.2f} times dlk's median_ms ({network})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
