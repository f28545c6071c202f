"""The rows of issue 6: every network that dlk can run, dlk can train."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .foundation import RESULTS, Row, at_most, device

ROOT = Path(__file__).resolve().parents[2]
DEVICES = ("opencl:0", "vulkan:0", "metal-sim:0")
SPEED = (  # network, dtype, limit on the better API, limit on the other
    ("nin_imagenet", "float16", 1.25, 1.6),
    ("resnet50", "float16", 1.25, 1.6),
    ("inception_v3", "float16", 1.25, 1.6),
    ("nin_imagenet", "float32", 1.1, 1.6),
    ("resnet50", "float32", 1.1, 1.6),
    ("inception_v3", "float32", 1.1, 1.6),
    ("activity", "float32", 1.0, 1.6),
)
BAD_INPUT = {
    "labels out of range": "test_labels_out_of_range",
    "NaN loss stops with the op that first made it": "test_nan_loss_names_the_operation",
    "NaN loss changes no statistics": "test_nan_loss_changes_no_statistics",
    "an empty data set": "test_empty_data_set",
    "mismatched shapes": "test_wrong_shapes_and_counts",
    "a full disk while checkpointing": "test_a_full_disk_keeps_the_last_checkpoint",
    "a damaged checkpoint": "test_a_damaged_checkpoint_is_refused",
}
EXAMPLES = (
    ("mnist", 0.97),
    ("fashion_mnist", 0.91),
    ("activity", 0.95),
    ("spam", 0.97),
    ("detector", 0.9),
    ("nin", 0.9),
    ("finetune", 0.9),
)


def at_least(value: float, limit: float) -> Row:
    return value, f">= {limit}", value >= limit


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row: its name and what measures it. Those of metal-sim need a package that was built
    with -DDLK_METAL_SIM=ON."""
    os.environ.setdefault("DLK_ENABLE_METAL_SIM", "1")
    for device_id in DEVICES:
        yield (
            f"{device_id}: worst gradient error against float64 differences",
            lambda d=device_id: gradients(d),
        )
        yield f"{device_id}: operators whose gradient was compared", lambda d=device_id: compared(d)
    yield "operators without a gradient or a reason", lambda: at_most(len(unexplained()), 0)
    yield (
        "gradients and losses against torch CPU: failures",
        lambda: failures("losses", "autodiff", simulated=True),
    )
    yield "the passport has gradient columns", passport_columns
    yield (
        "optimizers against torch, 100 steps: failures",
        lambda: failures("optimizers", simulated=True),
    )
    for device_id in DEVICES:
        yield f"{device_id}: LeNet, 200 steps, loss off torch's", lambda d=device_id: curve(d)
    yield "LeNet, 200 steps, loss between the backends", between_backends
    for name, limit in EXAMPLES:
        yield f"example {name} on PoCL", lambda n=name, m=limit: example(n, m)
    yield "example fashion_mnist on PoCL, s", lambda: at_most(_run("fashion_mnist")["seconds"], 600)
    yield "example inception on PoCL, the loss falls: ms a step", inception
    yield from memory_rows()
    for row in SPEED:
        yield f"H200: {row[0]} {row[1]} step / PyTorch (committed)", lambda r=row: speed(*r)
    yield "CPU: Fashion-MNIST step on PoCL / torch", fashion_step
    yield "resume after kill -9 at a random step, same bits", lambda: one_test("kill_and_resume")
    yield "deterministic: the same bits from the same seed", lambda: one_test("same_bits")
    for name, test in BAD_INPUT.items():
        yield f"bad input: {name}", lambda t=test: one_test(t)
    for name in ("training", "memory", "data"):
        yield f"tests/train/test_{name}.py failures", lambda n=name: failures(n)


# Gradients --------------------------------------------------------------------------------------


@cache
def _differences(device_id: str) -> dict[str, float]:
    sys.path.insert(0, str(ROOT))
    from tests.parity.gradients import differences, gradient_cases, refusal

    worst: dict[str, float] = {}
    for case in gradient_cases():
        if refusal(case):
            continue
        for d in differences(case, device(device_id)):
            error = abs(d.got - d.want) / d.scale
            worst[case.op] = max(worst.get(case.op, 0.0), error)
    return worst


def gradients(device_id: str) -> Row:
    return at_most(max(_differences(device_id).values()), 2e-4)


def compared(device_id: str) -> Row:
    return at_least(len(_differences(device_id)), 100)


def unexplained() -> list[str]:
    from dlk import _core

    from tests.parity.test_gradients import NOT_DIFFERENTIABLE

    return [
        op["name"]
        for op in _core.operators()
        if not op["gradient"] and not op["domain"] and op["name"] not in NOT_DIFFERENTIABLE
    ]


def passport_columns() -> Row:
    """Devices whose column of the passport has gradients, as `dlk parity` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "passport.json"
        command = [sys.executable, "-m", "dlk", "parity", "--op", "Sigmoid", "--output", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
        if done.returncode:
            raise RuntimeError(done.stderr[-300:])
        table = json.loads(path.read_text())["forward"]
    count = sum("gradient" in cells["Sigmoid"] for cells in table.values())
    return f"{count} of {len(table)} devices", "all", count == len(table) > 1


# Tests ------------------------------------------------------------------------------------------


def _pytest(*arguments: str, simulated: bool = False) -> tuple[str, int]:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    # Whole trainings take the simulator minutes each; LeNet's curve has a row of its own.
    env = {**os.environ, "DLK_ENABLE_METAL_SIM": str(int(simulated))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, env=env)
    lines = done.stdout.strip().splitlines()
    return (lines[-1] if lines else done.stderr[-200:]), done.returncode


def failures(*names: str, simulated: bool = False) -> Row:
    files = (f"tests/train/test_{name}.py" for name in names)
    last, code = _pytest(*files, simulated=simulated)
    return last, "0 failed", code == 0


def one_test(name: str) -> Row:
    last, code = _pytest("tests/train/test_training.py", "-k", name)
    return last, "0 failed", code == 0 and "passed" in last


# Whole runs -------------------------------------------------------------------------------------


@cache
def _curve(device_id: str) -> list[float]:
    import torch
    from dlk import optim

    from tests.train.common import classifier, images, lenet, state_of, torch_lenet

    torch.manual_seed(0)
    net = lenet()
    net.load_state_dict(state_of(torch_lenet()))
    x, y = images(160)
    step = classifier(net, optim.SGD(0.005, momentum=0.9), device(device_id).caps["id"])
    losses = []
    for i in range(200):
        rows = slice(16 * i % 160, 16 * i % 160 + 16)
        losses.append(step(x[rows], y[rows]))
    return [result.loss for result in losses]


@cache
def _torch_curve() -> list[float]:
    import torch

    from tests.train.common import images, torch_lenet
    from tests.train.test_training import _torch_losses

    torch.manual_seed(0)
    return _torch_losses(torch_lenet(), *images(160), 200)


def _apart(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def curve(device_id: str) -> Row:
    return at_most(_apart(_curve(device_id), _torch_curve()), 1e-3)


def between_backends() -> Row:
    curves = [_curve(d) for d in DEVICES]
    return at_most(max(_apart(curves[0], c) for c in curves[1:]), 1e-3)


@cache
def _run(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, f"examples/training/{name}.py", "--device", "opencl:0", "--json",
            "--folder", folder,
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=3600, env=dict(os.environ)
        )
        plotted = (Path(folder) / "history.png").is_file()
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if not plotted:
        raise RuntimeError(f"{name} drew no plot")
    return result


def example(name: str, limit: float) -> Row:
    return at_least(float(np.round(_run(name)["value"], 4)), limit)


def inception() -> Row:
    value = _run("inception")["value"]
    return round(value), "a falling loss", value > 0


# Memory and speed -------------------------------------------------------------------------------


def _committed(name: str, figure: str, **wanted: str) -> dict[str, Any] | None:
    """The row of the newest committed result that has PyTorch's figure beside dlk's, which is
    called `figure`."""
    for path in sorted(RESULTS.glob(f"*{name}*.json"), reverse=True):
        for row in json.loads(path.read_text())["rows"]:
            measured = figure in row and isinstance(row.get("torch"), (int, float))
            if measured and all(row[key] == value for key, value in wanted.items()):
                return dict(row)
    return None


def memory_rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    for dtype in ("float32", "float16"):
        for key, limit in (("dlk", 1.0), ("dlk_recompute", 0.5)):
            what = "with checkpointing " if "recompute" in key else ""
            yield (
                f"ResNet-50 b32 {dtype} {what}peak / torch's (committed)",
                lambda d=dtype, k=key, m=limit: memory(d, k, m),
            )


def memory(dtype: str, key: str, limit: float) -> Row:
    row = _committed("training-memory", "dlk", network="resnet50", dtype=dtype)
    if row is None:
        return "not measured against torch", f"<= {limit}", False
    return at_most(round(row[key] / row["torch"], 3), limit)


def speed(network: str, dtype: str, best: float, other: float) -> Row:
    wanted = f"<= {best} and {other}"
    row = _committed("training*h200", "opencl", network=network, dtype=dtype)
    if row is None:
        return "not measured", wanted, False
    times = [row.get(api) for api in ("vulkan", "opencl")]
    if not all(isinstance(t, (int, float)) for t in times):
        return f"{times}", wanted, False
    low, high = sorted(t / row["torch"] for t in times)
    return f"{low:.2f} and {high:.2f}", wanted, low <= best and high <= other


def fashion_step() -> Row:
    """Milliseconds of a step of the example's network, batch 64, in turns with torch's."""
    import torch

    sys.path.insert(0, str(ROOT / "examples" / "training"))
    from dlk import optim, train
    from fashion_mnist import network

    net = network()
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", 1, 28, 28)}, {"labels": (("N",), "int32")},
        lambda y, labels: _cross_entropy(y, labels), optim.AdamW(1e-3), device="opencl:0",
    )  # fmt: skip
    t = torch.nn
    peer = t.Sequential(
        t.Conv2d(1, 16, 3, padding=1), t.ReLU(), t.MaxPool2d(2),
        t.Conv2d(16, 32, 3, padding=1), t.ReLU(), t.MaxPool2d(2),
        t.Flatten(), t.Linear(1568, 128), t.ReLU(), t.Dropout(0.3), t.Linear(128, 10),
    )  # fmt: skip
    torch.set_num_threads(2)
    optimizer = torch.optim.AdamW(peer.parameters(), 1e-3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, 64).astype(np.int32)
    tx, ty = torch.tensor(x), torch.tensor(y).long()

    def ours() -> None:
        _ = step(x, y).loss

    def theirs() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(tx), ty)
        loss.backward()
        optimizer.step()
        loss.item()

    times: dict[Any, list[float]] = {ours: [], theirs: []}
    for _ in range(40):
        for action, taken in times.items():
            started = time.perf_counter()
            action()
            taken.append(time.perf_counter() - started)
    return at_most(
        round(statistics.median(times[ours][5:]) / statistics.median(times[theirs][5:]), 3), 1.5
    )


def _cross_entropy(y: Any, labels: Any) -> Any:
    from dlk import nn

    return nn.losses.cross_entropy(y, labels)
