"""The rows of issue 3: the whole ONNX operator set, proved by the ONNX backend suite."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from .foundation import DEVICES, RESULTS, ROOT, Row, at_most, device, light_networks, real_network

AIM, ONNXRUNTIME = 1450, 1519
SECONDS = 720


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row: its name and what measures it."""
    from tests.models.packages import FILES
    from tests.models.test_onnx_real import NETWORKS

    for device_id in DEVICES:
        yield f"{device_id}: backend tests passed", lambda d=device_id: passed(d)
        yield f"{device_id}: backend tests with an unexpected result", lambda d=device_id: odd(d)
        yield f"{device_id}: backend suite, s", lambda d=device_id: seconds(d)
        yield f"{device_id}: onnx light networks passed", lambda d=device_id: light_networks(d)
        for name in NETWORKS:
            yield (
                f"{device_id}: {name}, float16, relative error or what overflows",
                lambda d=device_id, n=name: light_fp16(d, n),
            )
        for name in sorted(FILES):
            yield (
                f"{device_id}: {name}, relative error",
                lambda d=device_id, n=name: at_most(real_network(d, n), 1e-4),
            )
            yield (
                f"{device_id}: {name}, float16, relative error",
                lambda d=device_id, n=name: at_most(real_fp16(d, n), 2e-2),
            )
            yield (
                f"{device_id}: {name}, largest number where float16 holds 65504",
                lambda d=device_id, n=name: guarded(d, n),
            )
    yield "hostile models: tests failed, and seconds", hostile
    for target in ("importer", "graph"):
        yield f"fuzz executions of the {target} (committed)", lambda t=target: fuzzed(t)


@cache
def suite(device_id: str) -> dict[str, Any]:
    """All 1,802 tests on one device, with two workers."""
    from tests.onnx.__main__ import run

    return dict(run([device_id], [], 2)["devices"][device_id])


def passed(device_id: str) -> Row:
    report = suite(device_id)
    tests = report["passed"] + report["failed"]
    found = f"{report['passed']} of {tests}"
    return found, f">= {AIM} (onnxruntime {ONNXRUNTIME})", report["passed"] >= AIM


def odd(device_id: str) -> Row:
    names = suite(device_id)["unexpected"]
    return names[:20] or 0, 0, not names


def seconds(device_id: str) -> Row:
    return at_most(suite(device_id)["seconds"], SECONDS)


def light_fp16(device_id: str, name: str) -> Row:
    """Light networks have weights of one constant: where their numbers grow beyond float16, the
    guard must say so."""
    import onnx
    from dlk.importers.onnx import load_graph
    from dlk.precision import check_float16
    from onnx import numpy_helper

    from tests.models.common import relative_error, run
    from tests.models.test_onnx_real import LIGHT

    graph = load_graph(LIGHT / f"{name}.onnx")
    (value,) = graph.inputs
    shape = [int(d or 1) for d in value.shape or ()]
    count = int(np.prod(shape))
    x = (np.arange(count).reshape(shape) / count).astype(np.float32)
    expected = numpy_helper.to_array(onnx.load_tensor(str(LIGHT / f"{name}_output_0.pb")))
    report = check_float16(graph, {value.name: x}, device(device_id))
    limit = "<= 0.02, or the guard names what float16 cannot hold"
    if not report.fits:
        first = next(s for s in report.suspects if s.overflows)
        found = f"{len(report.suspects)} of {report.values} results overflow, "
        return found + f"the first {first.value!r} with {first.largest:.4g}", limit, True
    result = run(graph, device(device_id), {value.name: x}, dtype="float16")
    error = relative_error(result[graph.output_names[0]], expected)
    return error, limit, error <= 2e-2


def real_fp16(device_id: str, name: str) -> float:
    from tests.models.test_real_networks import network_errors

    return max(network_errors(name, device(device_id), dtype="float16").values())


def guarded(device_id: str, name: str) -> Row:
    """The guard's report: what float16 would have to hold."""
    from dlk.precision import check_float16

    from tests.models.test_real_networks import network

    graph, feeds = network(name)
    report = check_float16(graph, feeds, device(device_id))
    found = f"{report.largest:.4g} in {report.at!r} of {report.values} results"
    return found, "<= 65504", report.fits and report.values > 0


def hostile() -> Row:
    start = time.perf_counter()
    files = ["tests/importers/test_onnx_hostile.py", "tests/importers/test_onnx_bounds.py"]
    command = [sys.executable, "-m", "pytest", "-q", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    took = round(time.perf_counter() - start, 1)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return f"{last}; {took} s", "0 failed, <= 300 s", done.returncode == 0 and took <= 300


def fuzzed(target: str) -> Row:
    """The newest committed campaign."""
    for path in sorted(RESULTS.glob("*-fuzz-onnx.json"), reverse=True):
        found = json.loads(path.read_text())[target]
        good = found["executions"] >= 1_000_000 and found["crashes"] == 0
        return f"{found['executions']} ({path.name})", ">= 1000000, no crash", good
    return "none", ">= 1000000, no crash", False
