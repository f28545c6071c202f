"""The rows of issue 2: one engine, one kernel source, two live backends."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DEVICES = ("opencl:0", "vulkan:0")

Row = tuple[Any, Any, bool]


@cache
def device(device_id: str) -> Any:
    from dlk import _core

    return _core.open_device(device_id)


def at_most(value: float, limit: float) -> Row:
    return value, f"<= {limit}", value <= limit


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row: its name and what measures it."""
    for device_id in DEVICES:
        yield from network_rows(device_id)
        yield f"{device_id}: onnx light networks passed", lambda d=device_id: light_networks(d)
        yield f"{device_id}: onnx backend tests", lambda d=device_id: nodes(d)
        yield f"{device_id}: two models from two threads, 100 times", lambda d=device_id: threads(d)
        yield f"{device_id}: two runs in flight, 100 times", lambda d=device_id: in_flight(d)
        yield f"{device_id}: parity variants that fail", lambda d=device_id: parity(d)
        yield f"{device_id}: parity case dlkit_pool1.json", lambda d=device_id: dlkit_pool(d)
        for name in ("resnet50", "inception_v3"):
            yield (
                f"{device_id}: {name} arena / peak of live bytes",
                lambda d=device_id, n=name: arena(d, n),
            )
        yield f"{device_id}: resnet50 pipelines", lambda d=device_id: pipelines(d)
        yield f"{device_id}: resnet50 pipelines for a new batch", lambda d=device_id: new_batch(d)
    yield "import dlk, ms (median of 9)", import_time
    for device_id in DEVICES:
        yield f"{device_id}: warm demo, process start to answer, s", lambda d=device_id: demo(d)
        yield f"{device_id}: warm demo, processor time, s", lambda d=device_id: demo_cpu(d)
    yield "operators without a parity case", uncovered
    yield "zoo networks without a torch twin", zoo_without_twin
    yield "CPU figures against onnxruntime (committed)", lambda: committed("cpu", "onnxruntime")
    yield "GPU figures against PyTorch, both APIs (committed)", lambda: committed("h200", "torch")
    for what, limit in (("clean_build_s", 360), ("incremental_kernel_s", 10), ("tests_s", 900)):
        yield f"{what} on 2 cores (committed)", lambda w=what, m=limit: timing(w, m)


def network_rows(device_id: str) -> Iterator[tuple[str, Callable[[], Row]]]:
    from tests.models.packages import FILES
    from tests.models.twins import TWINS

    for dtype, tolerance in (("float32", 0.002), ("float16", 0.01)):
        yield (
            f"{device_id}: espresso, {dtype}",
            lambda t=dtype, m=tolerance: photograph(
                device_id, "efficientnet_lite0", "coffee.png", "espresso", 0.957, t, m
            ),
        )
    yield (
        f"{device_id}: MobileNetV2 sees the cat",
        lambda: photograph(
            device_id, "mobilenet_v2", "chelsea.png", "Egyptian cat", 0.714, "float32", 0.01
        ),
    )
    for name, file in (
        ("efficientnet_lite0", "efficientnet_lite0_coffee"),
        ("mobilenet_v2", "mobilenet_v2_tv_coffee"),
    ):
        for dtype, limit in (("float32", 1e-4), ("float16", 2e-2)):
            yield (
                f"{device_id}: {name} logits, {dtype}, relative error",
                lambda n=name, f=file, t=dtype, m=limit: logits(device_id, n, f, t, m),
            )
    for name in sorted(FILES):
        yield (
            f"{device_id}: {name}, relative error",
            lambda n=name: at_most(real_network(device_id, n), 1e-4),
        )
    for name in sorted(TWINS):
        yield (
            f"{device_id}: {name} against its torch twin, relative error",
            lambda n=name: at_most(twin(device_id, n), 1e-4),
        )


def photograph(
    device_id: str, name: str, image: str, label: str, score: float, dtype: str, tolerance: float
) -> Row:
    from dlk import images, zoo

    from tests.models.common import IMAGES, run
    from tests.models.test_real_networks import softmax

    graph = zoo.build(name)
    x = images.prepare(IMAGES / image, graph.info.preprocessing)
    scores = softmax(run(graph, device(device_id), {"image": x}, dtype=dtype)["logits"][0])
    best = int(scores.argmax())
    right = graph.info.labels[best] == label and abs(scores[best] - score) <= tolerance
    found = f"{graph.info.labels[best]} {scores[best]:.4f}"
    return found, f"{label} {score} +- {tolerance}", right


def logits(device_id: str, name: str, file: str, dtype: str, limit: float) -> Row:
    from dlk import zoo

    from tests.models.common import reference, relative_error, run

    data = reference(file)
    result = run(zoo.build(name), device(device_id), {"image": data["x"]}, dtype=dtype)
    return at_most(relative_error(result["logits"], data["logits"]), limit)


def real_network(device_id: str, name: str) -> float:
    from tests.models.test_real_networks import network_errors

    return max(network_errors(name, device(device_id)).values())


def twin(device_id: str, name: str) -> float:
    from tests.models.test_zoo_twins import twin_errors

    return twin_errors(name, device(device_id))["float32"]


def light_networks(device_id: str) -> Row:
    from tests.models.test_onnx_real import NETWORKS, test_light_network

    passed = 0
    for name in NETWORKS:
        test_light_network(name, device(device_id))
        passed += 1
    return passed, 9, passed == 9


def nodes(device_id: str) -> Row:
    from tests.onnx.__main__ import run

    report = run([device_id], ["^test_"], 2)["devices"][device_id]
    counts = {key: report[key] for key in ("passed", "failed")}
    counts["unexpected"] = len(report["unexpected"])
    return counts, "0 unexpected", not report["unexpected"] and report["passed"] > 0


def _small(seed: int, device_id: str) -> tuple[Any, Any, Any]:
    """A model, its input and its output when it runs alone."""
    from dlk import _core, zoo

    graph = zoo.build("lenet", weights="random", seed=seed)
    model = _core.Model(graph, device(device_id))
    x = np.random.default_rng(seed).standard_normal((2, 1, 28, 28)).astype(np.float32)
    feeds = {graph.inputs[0].name: x}
    return model, feeds, next(iter(model.create_session().run(feeds).values()))


def threads(device_id: str) -> Row:
    def work(seed: int) -> list[bool]:
        model, feeds, expected = _small(seed, device_id)
        session = model.create_session()
        return [
            np.array_equal(next(iter(session.run(feeds).values())), expected) for _ in range(100)
        ]

    with ThreadPoolExecutor(2) as pool:
        right = [same for result in pool.map(work, (1, 2)) for same in result]
    return f"{right.count(False)} wrong of {len(right)}", "0 wrong of 200", right == [True] * 200


def in_flight(device_id: str) -> Row:
    model, feeds, _ = _small(3, device_id)
    session, name = model.create_session(), next(iter(feeds))
    other = {name: feeds[name][::-1] * np.float32(0.5)}
    expected = [next(iter(session.run(f).values())) for f in (feeds, other)]
    output = model.outputs[0]
    wrong = 0
    for _ in range(100):
        started = [session.run_async(f) for f in (feeds, other)]
        got = [run.read(output) for run in started]
        wrong += sum(not np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    return f"{wrong} wrong of 200", "0 wrong", wrong == 0


def parity(device_id: str) -> Row:
    from tests.parity.expectations import refusal_reason, xfail_reason
    from tests.parity.passport import measure

    entries = measure(device(device_id))
    caps = device(device_id).caps
    bad = [
        e["case"]
        for e in entries
        if (e["status"] == "failed" and not xfail_reason(caps, e["case"]))
        or (e["status"] == "unsupported" and not refusal_reason(caps, e["reason"]))
    ]
    return f"{len(bad)} of {len(entries)}", "0", not bad and bool(entries)


def _plan(device_id: str, name: str, batch: int = 1) -> Any:
    from dlk import _core, zoo

    graph = zoo.build(name, weights="random")
    model = _core.Model(graph, device(device_id))
    shape = (batch, *graph.inputs[0].shape[1:])
    return model, lambda n: model.plan(
        {graph.inputs[0].name: np.zeros((n, *shape[1:]), np.float32)}
    )


def arena(device_id: str, name: str) -> Row:
    plan = _plan(device_id, name)[1](1)
    return at_most(round(plan.arena_bytes / plan.peak_live_bytes, 4), 1.2)


def pipelines(device_id: str) -> Row:
    return at_most(_plan(device_id, "resnet50")[1](1).pipelines, 25)


def new_batch(device_id: str) -> Row:
    from dlk import _core

    _, plan = _plan(device_id, "resnet50")
    plan(1)
    before = _core.kernel_stats(device(device_id))["pipelines"]
    plan(3)
    return at_most(_core.kernel_stats(device(device_id))["pipelines"] - before, 0)


def import_time() -> Row:
    """Of dlk and what its names need, by the clock of a process that Python has started."""
    program = (
        "import time; t = time.perf_counter(); import dlk; dlk.load, dlk.Tensor, dlk.devices; "
        "print(time.perf_counter() - t)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", program], check=True, stdout=-1).stdout)
        for _ in range(9)
    ]
    return at_most(round(statistics.median(times) * 1e3, 1), 150)


def classify_command(device_id: str) -> list[str]:
    image = str(ROOT / "examples" / "images" / "coffee.png")
    return [sys.executable, "-m", "dlk", "classify", image, "--device", device_id, "--json"]


def demo_times(device_id: str) -> list[tuple[float, float]]:
    """Wall and processor seconds of warm runs, from process start to answer."""
    times = []
    for _ in range(4):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        out = subprocess.run(
            classify_command(device_id), check=True, capture_output=True, text=True
        )
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.append((wall, used))
        assert json.loads(out.stdout)["top"][0]["label"] == "espresso"
    return times[1:]


def demo(device_id: str) -> Row:
    return at_most(round(statistics.median(wall for wall, _ in demo_times(device_id)), 3), 1.5)


def demo_cpu(device_id: str) -> Row:
    """What a machine that nobody else uses would need at most: threads only make it shorter."""
    return at_most(round(statistics.median(used for _, used in demo_times(device_id)), 3), 1.5)


def dlkit_pool(device_id: str) -> Row:
    from tests.parity.harness import load_cases, run_variant, variants

    cases = [c for c in load_cases().values() if "dlkit" in c.id]
    outcomes = [run_variant(v, device(device_id)) for v in variants(iter(cases))]
    wrong = sum(bool(o.problem) or o.relative > 1e-5 for o in outcomes)
    return f"{wrong} of {len(outcomes)} wrong", "0 wrong", bool(outcomes) and not wrong


def zoo_without_twin() -> Row:
    from dlk import zoo

    from tests.models.twins import TWINS

    missing = sorted(set(zoo.names()) - set(TWINS))
    return missing, [], not missing


def uncovered() -> Row:
    from dlk import _core

    from tests.parity.harness import load_cases
    from tests.parity.test_meta import NO_PARITY_CASE

    covered = {(c.domain, c.op) for c in load_cases().values()}
    missing = [
        op["name"]
        for op in _core.operators()
        if (op["domain"], op["name"]) not in covered and op["name"] not in NO_PARITY_CASE
    ]
    return len(missing), 0, not missing


def committed(where: str, peer: str) -> Row:
    """A table in the results with this peer and with both APIs, without errors."""
    for path in sorted(RESULTS.glob(f"*-{where}-*.json"), reverse=True):
        found = json.loads(path.read_text())["rows"]
        engines = {row.get("engine", "") for row in found}
        if any(e.startswith(peer) for e in engines):
            right = {"dlk opencl", "dlk vulkan"} <= engines and not any("error" in r for r in found)
            return path.name, "both APIs, no wrong result", right
    return "none", "a committed table", False


def timing(what: str, limit: float) -> Row:
    for path in sorted(RESULTS.glob("*-timings.json"), reverse=True):
        measured = json.loads(path.read_text())
        if what in measured:
            return at_most(measured[what], limit)
    return "none", f"<= {limit}", False
