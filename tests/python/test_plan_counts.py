"""Dispatches, pipelines and barriers of networks: they must not grow unseen, where times are noisy.

The null device plans as for a CPU, or with DLK_NULL_PROFILE as for a GPU.
"""

from __future__ import annotations

import json

import pytest

from tests.subprocesses import run_python

COUNTS: dict[str, dict[str, tuple[int, ...]]] = {
    "cpu": {
        "squeezenet1_1 float32 1": (46, 8),
        "squeezenet1_1 float16 1": (31, 6),
        "mobilenet_v2 float32 1": (54, 10),
        "mobilenet_v2 float16 1": (54, 11),
        "nin_imagenet float32 1": (18, 9),
        "nin_imagenet float16 1": (17, 8),
        "resnet50 float32 1": (78, 17),
        "resnet50 float16 1": (56, 15),
        "inception_v3 float32 1": (129, 11),
        "inception_v3 float16 1": (109, 8),
        "resnet50 float32 2": (879, 45),
    },
    "nvidia": {
        "squeezenet1_1 float32 1": (46, 11),
        "squeezenet1_1 float16 1": (39, 12, 30),
        "mobilenet_v2 float32 1": (38, 14),
        "mobilenet_v2 float16 1": (38, 13),
        "nin_imagenet float32 1": (28, 12),
        "nin_imagenet float16 1": (24, 12),
        "resnet50 float32 1": (78, 17, 73),
        "resnet50 float16 1": (73, 21, 68),
        "inception_v3 float32 1": (135, 12, 70),
        "inception_v3 float16 1": (187, 19, 92),
        "vgg16 float16 1": (28, 9),
        "resnet50 float32 2": (1012, 58),
        "resnet50 float16 2": (1010, 84),
        "nin_imagenet float16 2": (164, 56),
    },
    "apple": {
        "squeezenet1_1 float32 1": (52, 12),
        "squeezenet1_1 float16 1": (52, 12),
        "mobilenet_v2 float32 1": (68, 13),
        "mobilenet_v2 float16 1": (69, 13),
        "resnet50 float32 1": (110, 21),
        "resnet50 float16 1": (111, 21),
    },
    "mali": {
        "squeezenet1_1 float32 1": (48, 12),
        "squeezenet1_1 float16 1": (49, 13),
        "mobilenet_v2 float32 1": (69, 12),
        "mobilenet_v2 float16 1": (69, 13),
        "resnet50 float32 1": (111, 20),
        "resnet50 float16 1": (111, 21),
    },
}
"""What is planned for: the most dispatches, pipelines and (for some) barriers of a network in a
dtype, run with batch 1 or trained with batch 2. Branches overlap on GPUs: of Inception every second
dispatch has a barrier. Without matrix units some windows of 3 are Winograd's: three dispatches. CPU
drivers have three tiles, by how many channels a result has, each with its epilogues."""

PROGRAM = """
import json, sys
import dlk
from dlk import optim
from dlk.train.imported import training_step

counts = {}
for case in sys.argv[1:]:
    name, dtype, batch = case.split()
    graph, device = dlk.zoo.build(name, weights="random"), dlk.Device("null")
    if batch == "1":
        model = dlk.Model(graph, device, dtype)
        plan = model.plan(model.example_inputs({}, seed=0))
    else:
        step, arrays = training_step(graph, int(batch), device, dtype)
        feeds = {**step.feeds(arrays), optim.optimizer.STEP_INPUT: step.optimizer.numbers(0)}
        plan = step.model.plan(feeds)
    counts[case] = (plan.dispatches, plan.pipelines, sum(s.barrier_before for s in plan.steps))
print(json.dumps(counts))
"""


@pytest.mark.parametrize("profile", COUNTS)
def test_plans_stay_small(profile: str) -> None:
    done = run_python("-c", PROGRAM, *COUNTS[profile], timeout=300,
                      DLK_NULL_PROFILE="" if profile == "cpu" else profile)  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {case: tuple(found) for case, found in json.loads(done.stdout).items()}
    grown = {
        case: f"{counts[case]} dispatches, pipelines and barriers, not {most}"
        for case, most in COUNTS[profile].items()
        if any(found > limit for found, limit in zip(counts[case], most, strict=False))
    }
    assert not grown


ACTIVITY = """
import numpy as np
import dlk
from dlk import nn, optim, train

class Activity(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(6, 32, 10, stride=10)
        self.conv2 = nn.Conv1d(32, 64, 10, stride=10)
        self.lstm = nn.LSTM(64, 200)
        self.last = nn.Conv1d(200, 6, 1)

    def forward(self, *inputs):
        x = nn.relu(self.conv2(nn.relu(self.conv1(*inputs))))
        y, _, _ = self.lstm(nn.transpose(x, (2, 0, 1)))
        return nn.arithmetic.reduce_mean(self.last(nn.transpose(y, (1, 2, 0))), 2)

net = Activity()
net.initialize(0)
step = train.TrainStep(
    net, {"x": ("N", 6, 2000)}, {"labels": (("N",), "int32")},
    lambda y, labels: nn.losses.cross_entropy(y, labels), optim.SGD(0.01, momentum=0.9),
    device=dlk.Device("null"))
arrays = np.zeros((32, 6, 2000), np.float32), np.zeros(32, np.int32)
feeds = {**step.feeds(arrays), optim.optimizer.STEP_INPUT: step.optimizer.numbers(0)}
plan = step.model.plan(feeds)
kernels = [s.kernel for s in plan.steps]
print(plan.dispatches, kernels.count("rnn_sequence"), kernels.count("rnn_back_sequence"),
      sum(k.startswith("gather") for k in kernels), kernels.count("copy"))
"""


def test_a_recurrent_step_is_few_commands() -> None:
    """Each costs microseconds, however small: all times of an LSTM are one, and nothing reorders
    its gates or joins what lies side by side."""
    done = run_python("-c", ACTIVITY, timeout=120, DLK_NULL_PROFILE="nvidia")
    assert done.returncode == 0, done.stderr
    dispatches, forward, backward, gathers, copies = map(int, done.stdout.split())
    assert dispatches <= 46
    assert (forward, backward, gathers, copies) == (1, 1, 0, 0)
