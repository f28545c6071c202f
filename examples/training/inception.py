"""Training steps of Inception-v3 on one batch of random images: how long one takes, and how much
memory. The loss must fall: the network learns the batch."""

from __future__ import annotations

import statistics
import time

import numpy as np
from common import classification, draw, options, report
from dlk import optim, train, zoo


def main() -> None:
    parser = options("inception", 1, __doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6, help="after one that compiles")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--recompute", action="store_true", help="less memory, more work")
    arguments = parser.parse_args()
    net = zoo.module("inception_v3")
    net.initialize(arguments.seed)
    step = train.TrainStep(
        net, {"x": ("N", 3, 299, 299)}, {"labels": (("N",), "int32")}, classification,
        optim.SGD(0.01, momentum=0.9), device=arguments.device, seed=arguments.seed,
        dtype="float16" if arguments.amp else "float32",
        recompute="auto" if arguments.recompute else None,
    )  # fmt: skip
    rng = np.random.default_rng(arguments.seed)
    x = rng.standard_normal((arguments.batch, 3, 299, 299)).astype(np.float32)
    labels = rng.integers(0, 1000, arguments.batch).astype(np.int32)
    memory = step.memory(x, labels)
    history, times = train.History(), []
    for number in range(1 + arguments.steps):
        started = time.perf_counter()
        loss = step(x, labels)["loss"]
        times.append(time.perf_counter() - started)
        history.epochs.append({"loss": loss})
        if not arguments.json:
            print(f"step {number}: loss {loss:.4f}, {times[-1]:.3f} s", flush=True)
    draw(history, arguments.folder / "history.png")
    if not arguments.json:
        print(f"planned peak {memory.peak_bytes / 2**20:.0f} MiB")
    first, last = history.epochs[0]["loss"], history.epochs[-1]["loss"]
    if not last < first:
        raise SystemExit(f"the loss did not fall: {first:.4f}, then {last:.4f}")
    report(arguments, "ms a step", 1e3 * statistics.median(times[1:]), sum(times))


if __name__ == "__main__":
    main()
