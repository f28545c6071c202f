"""Whole training steps: against PyTorch, in place, resumed, and with bad input."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
import torch
from dlk import data, nn, optim, train

from ..subprocesses import environment
from .common import classifier, images, lenet, state_of, torch_lenet


def _torch_losses(net: torch.nn.Module, x: np.ndarray, y: np.ndarray, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(net.parameters(), 0.005, momentum=0.9)
    losses = []
    for i in range(steps):
        rows = _rows(i, len(x))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            net(torch.tensor(x[rows])), torch.tensor(y[rows]).long()
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_steps_that_become_one_kernel(monkeypatch: pytest.MonkeyPatch, device_id: str) -> None:
    """What chains of the OpenCL backend on CPUs compute, from the third step on."""
    x, y = images(32)
    state = state_of(torch_lenet())
    losses = {}
    for setting in ("0", "3"):
        monkeypatch.setenv("DLK_CHAIN", setting)
        net = lenet()
        net.load_state_dict(state)
        step = classifier(net, optim.SGD(0.005, momentum=0.9), device_id)
        losses[setting] = [step(x, y).loss for _ in range(12)]
    np.testing.assert_allclose(losses["3"], losses["0"], rtol=1e-4)
    assert losses["3"][-1] < losses["3"][0]


def _rows(step: int, count: int, batch: int = 16) -> slice:
    start = step * batch % count
    return slice(start, start + batch)


def test_training_follows_torch(device_id: str) -> None:
    """200 steps of LeNet: the loss curve within 1e-3."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    reference = torch_lenet()
    net = lenet()
    net.load_state_dict(state_of(reference))
    x, y = images(160)
    step = classifier(net, optim.SGD(0.005, momentum=0.9), device_id)
    ours = [step(x[_rows(i, 160)], y[_rows(i, 160)]) for i in range(200)]
    theirs = _torch_losses(reference, x, y, 200)
    worst = max(abs(a.loss - b) for a, b in zip(ours, theirs, strict=True))
    assert worst < 1e-3
    assert theirs[-1] < 0.5 * theirs[0]
    step.pull()
    for name, value in state_of(reference).items():
        got = net.state_dict()[name]
        assert np.abs(got - value).max() < 2e-3 * np.abs(value).max(), name


def test_evaluator_shares_the_weights(device_id: str) -> None:
    net = lenet()
    net.initialize(0)
    x, y = images(32)
    step = classifier(net, optim.SGD(0.05), device_id)
    evaluator = step.evaluator()
    first = float(evaluator(x, y)["loss"])
    for _ in range(5):
        step(x, y)
    second = float(evaluator(x, y)["loss"])
    assert second < first
    assert second == pytest.approx(step(x, y).loss, rel=1e-5)


def test_accumulation_is_a_larger_batch(device_id: str) -> None:
    x, y = images(32)
    nets = [lenet(), lenet()]
    for net in nets:
        net.initialize(1)
    whole = classifier(nets[0], optim.SGD(0.1), device_id)
    parts = classifier(nets[1], optim.SGD(0.1), device_id, accumulate=2)
    for _ in range(3):
        whole(x, y)
        parts(x[:16], y[:16])
        parts(x[16:], y[16:])
    whole.pull()
    parts.pull()
    for name, value in nets[0].state_dict().items():
        np.testing.assert_allclose(nets[1].state_dict()[name], value, rtol=2e-4, atol=2e-6)


def test_moving_average_of_the_weights(device_id: str) -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    net.initialize(0)
    before = net.state_dict()["0.weight"].copy()
    step = train.TrainStep(
        net, {"x": ("N", 3)}, {"t": (("N", 2), "float32")},
        lambda y, t: nn.losses.mse(y, t), optim.SGD(0.1), device=device_id, ema=0.9,
    )  # fmt: skip
    x, t = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    step(x, t)
    state = step.state_dict()
    expected = 0.9 * before + 0.1 * state["0.weight"]
    np.testing.assert_allclose(state["0.weight/average"], expected, rtol=1e-6)


def test_batch_norm_follows_torch(device_id: str) -> None:
    torch.manual_seed(1)
    reference = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(64, 3),
    )  # fmt: skip
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    net.load_state_dict(state_of(reference))
    step = train.TrainStep(
        net, {"x": ("N", 2, 6, 6)}, {"labels": (("N",), "int32")},
        lambda y, labels: nn.losses.cross_entropy(y, labels), optim.SGD(0.1), device=device_id,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 2, 6, 6)).astype(np.float32)
    y = rng.integers(0, 3, 8).astype(np.int32)
    optimizer = torch.optim.SGD(reference.parameters(), 0.1)
    for _ in range(10):
        loss = step(x, y).loss
        optimizer.zero_grad()
        expected = torch.nn.functional.cross_entropy(
            reference(torch.tensor(x)), torch.tensor(y).long()
        )
        expected.backward()
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-4)
    step.pull()
    for name, value in state_of(reference).items():
        if "num_batches" not in name:
            np.testing.assert_allclose(net.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_dropout_is_reproducible_and_off_in_evaluation(device_id: str) -> None:
    x, y = images(16)
    losses = []
    for seed in (5, 5, 6):
        net = lenet(0.5)
        net.initialize(0)
        step = classifier(net, optim.SGD(0.0), device_id, seed=seed)
        losses.append([step(x, y).loss for _ in range(3)])
    assert losses[0] == losses[1] != losses[2]
    assert len(set(losses[0])) == 3, "every step draws a new mask"
    evaluator = step.evaluator()
    assert float(evaluator(x, y)["loss"]) == float(evaluator(x, y)["loss"])


def test_frozen_parameters_cost_nothing(device_id: str) -> None:
    x, y = images(16)
    counts = []
    for frozen in (False, True):
        net = lenet()
        net.initialize(0)
        if frozen:
            trained = train.freeze(net, keep=lambda name: name.startswith("10."))
            assert trained == ["10.weight", "10.bias"]
        step = classifier(net, optim.SGD(0.1), device_id)
        feeds = {**step.feeds((x, y)), "optimizer/step": step.optimizer.numbers(0)}
        plan = step.model.plan(feeds)
        counts.append(sum("gradient" in s.node for s in plan.steps))
        before = net.state_dict()["0.weight"].copy()
        step(x, y)
        step.pull()
        assert (before == net.state_dict()["0.weight"]).all() == frozen
    assert counts[1] < 0.6 * counts[0]


def test_lora_trains_thin_matrices_and_merges(device_id: str) -> None:
    net = lenet()
    net.initialize(0)
    adapted = train.add_lora(net, rank=2)
    assert adapted == ["0", "3", "7", "10"]
    x, y = images(32)
    step = classifier(net, optim.Adam(1e-2), device_id)
    losses = [step(x, y).loss for _ in range(12)]
    assert losses[-1] < losses[0]
    step.pull()
    before = step.evaluator()(x, y)["y0"]
    train.merge_lora(net)
    graph = nn.build(net, {"x": ("N", 1, 28, 28)})
    merged = dlk.load(graph, device_id)(x)
    np.testing.assert_allclose(merged, before, rtol=1e-3, atol=1e-4)


# The loop --------------------------------------------------------------------------------------


def _trainer(device_id: str, folder: Path, **options: Any) -> train.Trainer:
    net = lenet(0.2)
    net.initialize(0)
    x, y = images(96)
    step = classifier(net, optim.Adam(1e-3), device_id, seed=3)
    loader = data.DataLoader(data.Arrays(x, y), 16, shuffle=True, seed=1)
    check = data.DataLoader(data.Arrays(*images(32, 9)), 16)
    return train.Trainer(step, loader, check, folder=folder, **options)


def test_trainer_logs_and_improves(device_id: str, tmp_path: Path) -> None:
    trainer = _trainer(device_id, tmp_path, tensorboard=True)
    history = trainer.fit(4)
    assert [e["epoch"] for e in history.epochs] == [1, 2, 3, 4]
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert "validation/accuracy" in history.epochs[0]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"validation/loss" in events.read_bytes()
    assert (tmp_path / "best.ckpt").is_file()
    assert (tmp_path / "last.ckpt").is_file()


def test_trainer_stops_at_its_target(device_id: str, tmp_path: Path) -> None:
    trainer = _trainer(device_id, tmp_path, monitor="validation/loss", target=100.0)
    history = trainer.fit(4)
    assert len(history.epochs) == 1
    assert "reached" in history.stopped


def test_resume_gives_the_same_bits(device_id: str, tmp_path: Path) -> None:
    straight = _trainer(device_id, tmp_path / "a")
    straight.fit(2)
    broken = _trainer(device_id, tmp_path / "b", checkpoint_steps=4)
    broken.fit(2, max_steps=9)
    resumed = _trainer(device_id, tmp_path / "b")
    assert resumed.resume()
    assert resumed.step.steps == 8
    resumed.fit(2)
    for name, value in straight.step.state_dict().items():
        assert np.array_equal(resumed.step.state_dict()[name], value), name


KILLED = """
import sys
from pathlib import Path
from tests.train.test_training import _trainer
trainer = _trainer(sys.argv[1], Path(sys.argv[2]), checkpoint_steps=1)
print("resumed", trainer.resume(), trainer.step.steps, flush=True)
trainer.fit(int(sys.argv[3]))
print("done", flush=True)
"""


def test_kill_and_resume(device_id: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", KILLED, device_id, str(tmp_path / "k"), "2"]
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    checkpoint = tmp_path / "k" / "last.ckpt"
    while not checkpoint.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    time.sleep(np.random.default_rng(os.getpid()).uniform(0.0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = _trainer(device_id, tmp_path / "k")
    assert resumed.resume()
    resumed.fit(2)
    straight = _trainer(device_id, tmp_path / "s")
    straight.fit(2)
    for name, value in straight.step.state_dict().items():
        assert np.array_equal(resumed.step.state_dict()[name], value), name


# Bad input -------------------------------------------------------------------------------------


def test_labels_out_of_range(device_id: str) -> None:
    net = lenet()
    net.initialize(0)
    step = classifier(net, optim.SGD(0.1), device_id)
    x, y = images(4)
    y[2] = 10
    with pytest.raises(ValueError, match="label 10; there are classes 0 to 9"):
        step(x, y)


def test_nan_loss_names_the_operation(device_id: str) -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", 3)}, {"t": (("N", 2), "float32")},
        lambda y, t: nn.losses.mse(nn.arithmetic.log(y - 1e6), t), optim.SGD(0.1), device=device_id,
    )  # fmt: skip
    before = step.state_dict()["0.weight"]
    result = step(np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32))
    with pytest.raises(FloatingPointError, match=r"step 0: .*first NaN comes from .*\(Log\)"):
        _ = result.loss
    assert np.array_equal(step.state_dict()["0.weight"], before)


def test_nan_loss_changes_no_statistics(device_id: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", 1, 6, 6)}, {"t": (("N", 2), "float32")},
        lambda y, t: nn.losses.mse(nn.arithmetic.log(y * 0.0 + nn.arithmetic.reduce_mean(t)), t),
        optim.SGD(0.1, momentum=0.9), device=device_id, accumulate=2,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 1, 6, 6)).astype(np.float32)
    before = step.state_dict()
    for _ in range(2):  # one that gathers, one that updates
        result = step(x, np.full((4, 2), -1.0, np.float32))
        with pytest.raises(FloatingPointError, match=r"first NaN comes from .*\(Log\)"):
            _ = result.loss
    for name, value in step.state_dict().items():
        assert np.array_equal(value, before[name]), name
    for _ in range(2):
        assert np.isfinite(step(x, np.full((4, 2), 2.0, np.float32)).loss)
    after = step.state_dict()
    for name in ("1.running_mean", "1.running_var"):
        assert not np.array_equal(after[name], before[name])
    assert all(np.isfinite(v).all() for v in after.values())


def test_nan_in_the_batch_is_found(device_id: str) -> None:
    net = lenet()
    net.initialize(0)
    step = classifier(net, optim.SGD(0.1), device_id)
    x, y = images(4)
    x[1, 0, 3, 3] = np.nan
    with pytest.raises(FloatingPointError, match="the input 'x' holds numbers that are not finite"):
        _ = step(x, y).loss


def test_batches_on_the_device(device_id: str) -> None:
    x, y = images(16)
    losses = []
    for place in (lambda a: a, lambda a: dlk.Tensor(a, device_id)):
        net = lenet()
        net.initialize(0)
        step = classifier(net, optim.SGD(0.1), device_id)
        batch = [place(x), place(y)]
        losses.append([step(*batch).loss for _ in range(3)])
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="'labels' is a tensor of int64; int32 is wanted"):
        step(x, dlk.Tensor(y.astype(np.int64), device_id))


def test_wrong_shapes_and_counts(device_id: str) -> None:
    net = lenet()
    net.initialize(0)
    step = classifier(net, optim.SGD(0.1), device_id)
    x, y = images(4)
    with pytest.raises(ValueError, match="takes x, labels"):
        step(x)
    with pytest.raises(ValueError, match=r"'N'|N = "):
        step(x, y[:3])
    with pytest.raises(ValueError, match="shape"):
        step(x[:, :, :20], y)
    with pytest.raises(ValueError, match="empty"):
        step(x[:0], y[:0])


def test_nothing_to_train(device_id: str) -> None:
    net = lenet()
    net.initialize(0)
    train.freeze(net)
    with pytest.raises(ValueError, match="nothing to train"):
        classifier(net, optim.SGD(0.1), device_id)


def test_empty_data_set(device_id: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        data.DataLoader(data.Arrays(np.zeros((0, 3))), 4)
    net = lenet()
    net.initialize(0)
    step = classifier(net, optim.SGD(0.1), device_id)
    with pytest.raises(ValueError, match="no batch"):
        train.Trainer(step, []).fit(1)


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    train.save_checkpoint(path, {"w": np.arange(4.0)}, {"steps": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the last one is as it was"):
        train.save_checkpoint(path, {"w": np.zeros(4)}, {"steps": 2})
    tensors, state = train.load_checkpoint(path)
    assert state == {"steps": 1}
    assert np.array_equal(tensors["w"], np.arange(4.0))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(ValueError, match="bad"):
        train.load_checkpoint(path)


# Mixed precision -------------------------------------------------------------------------------


def test_mixed_precision_follows_float32(device_id: str, device: Any) -> None:
    if not device.caps["fp16_storage"]:
        pytest.skip("no fp16 storage")
    x, y = images(32)
    losses = {}
    for dtype in ("float32", "float16"):
        net = lenet()
        net.initialize(0)
        step = classifier(net, optim.SGD(0.01, momentum=0.9), device_id, dtype=dtype)
        losses[dtype] = [step(x, y)["loss"] for _ in range(15)]
        state = step.state_dict()
        assert state["0.weight"].dtype == np.float32
    assert state["loss_scale"][0] == 1024
    assert state["loss_scale/good_steps"][0] == 15
    np.testing.assert_allclose(losses["float16"], losses["float32"], rtol=2e-2)
    assert losses["float16"][-1] < losses["float16"][0]


def test_an_overflow_changes_nothing_and_halves_the_scale(device_id: str, device: Any) -> None:
    if not device.caps["fp16_storage"]:
        pytest.skip("no fp16 storage")
    net = nn.Sequential(nn.Linear(4, 2))
    net.initialize(0)
    step = train.TrainStep(
        net, {"x": ("N", 4)}, {"t": (("N", 2), "float32")},
        lambda y, t: nn.losses.mse(y, t), optim.Adam(0.1), device=device_id, dtype="float16",
    )  # fmt: skip
    before = step.state_dict()
    step(np.full((8, 4), 6e4, np.float32), np.zeros((8, 2), np.float32))
    after = step.state_dict()
    assert after["loss_scale"][0] == before["loss_scale"][0] / 2
    for name in ("0.weight", "0.bias", "0.weight/mean"):
        assert np.array_equal(after[name], before[name]), name
    step(np.full((8, 4), 0.1, np.float32), np.zeros((8, 2), np.float32))
    assert not np.array_equal(step.state_dict()["0.weight"], before["0.weight"])
