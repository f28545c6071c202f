"""Whole graphs: whatever the compiler does to them, the numbers stay those of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .net import OPTIONS, Net, Tensor, check, compare

NETWORKS: list[Callable[[], Net]] = []


def network(build: Callable[[], Net]) -> Callable[[], Net]:
    NETWORKS.append(build)
    return build


@network
def residual() -> Net:
    net = Net(1)
    x = net.input(2, 8, 9, 7)
    y = net.relu(net.batch_norm(net.conv(x, 8, 3, pad=1, bias=False)))
    y = net.batch_norm(net.conv(y, 8, 3, pad=1))
    net.output(net.relu(net.add(y, x)))
    return net


@network
def branches() -> Net:
    net = Net(2)
    x = net.input(2, 8, 11, 9)
    a = net.relu(net.conv(x, 5))
    b = net.relu(net.conv(net.relu(net.conv(x, 4)), 8, 3, pad=1))
    c = net.conv(net.max_pool(x, 3, 1, 1), 3)
    joined = net.concat([a, b, c, x], 1)
    net.output(net.conv(joined, 6, 3, stride=2))
    net.output(net.max_pool(joined, 3, 2))
    return net


@network
def separable_with_attention() -> Net:
    net = Net(3)
    x = net.input(1, 8, 10, 10)
    y = net.conv(x, 24)
    y = net.apply(
        "Clip",
        lambda a, low, high: np.clip(a, low, high),
        net.conv(y, 24, 3, pad=1, groups=24),
        net.constant(np.array(0.0)),
        net.constant(np.array(6.0)),
    )
    gate = net.sigmoid(net.conv(net.relu(net.conv(net.average_all(y), 6)), 24))
    net.output(net.add(net.conv(net.mul(y, gate), 8), x))
    return net


@network
def shuffled_channels() -> Net:
    """The units of ShuffleNet, shuffles of fewer groups than the convolution's, and of none."""
    net = Net(31)

    def shuffle(t: Tensor, channels: int, groups: int) -> Tensor:
        parts = net.reshape(t, 2, groups, channels // groups, 5, 7)
        return net.reshape(net.transpose(parts, 0, 2, 1, 3, 4), 2, channels, 5, 7)

    x = net.input(2, 24, 5, 7)
    y = shuffle(net.relu(net.batch_norm(net.conv(x, 51, groups=3))), 51, 3)
    y = net.batch_norm(net.conv(y, 51, 3, pad=1, groups=51))
    y = net.relu(net.add(net.conv(y, 24, groups=3), x))
    z = shuffle(net.conv(y, 24, groups=4), 24, 2)
    net.output(net.conv(z, 24, 3, pad=1, groups=24))
    net.output(shuffle(net.conv(y, 32), 32, 4))
    net.output(shuffle(net.relu(z), 24, 3))
    return net


@network
def up_and_down() -> Net:
    net = Net(4)
    x = net.input(1, 4, 8, 8)
    down = net.relu(net.conv(x, 8, 3, stride=2, pad=1))
    up = net.conv_transposed(down, 4, 2, 2)
    net.output(net.conv(net.concat([up, x], 1), 3))
    return net


@network
def attention() -> Net:
    net = Net(5)
    x = net.input(2, 10, 12)

    def heads(t: Tensor, *perm: int) -> Tensor:
        return net.transpose(net.reshape(t, 2, 10, 3, 4), *perm)

    q = heads(net.matmul(x, net.random(12, 12, scale=0.3)), 0, 2, 1, 3)
    k = heads(net.matmul(x, net.random(12, 12, scale=0.3)), 0, 2, 3, 1)
    v = heads(net.matmul(x, net.random(12, 12, scale=0.3)), 0, 2, 1, 3)
    weights = net.softmax(net.mul(net.matmul(q, k), net.constant(np.array(0.5))))
    y = net.reshape(net.transpose(net.matmul(weights, v), 0, 2, 1, 3), 2, 10, 12)
    net.output(net.add(net.matmul(y, net.random(12, 12, scale=0.3)), x))
    net.output(weights)
    return net


@network
def views_of_views() -> Net:
    net = Net(6)
    x = net.input(3, 8, 6, 10)
    y = net.slice(x, slice(None), slice(1, 7), slice(5, None, -2), slice(None, None, 3))
    y = net.transpose(y, 0, 2, 3, 1)
    y = net.slice(net.transpose(y, 3, 0, 1, 2), slice(0, 6, 2))
    z = net.reshape(net.relu(y), 3, 3, 12)
    net.output(net.transpose(net.concat([z, net.slice(z, slice(1, 2))], 0), 2, 1, 0))
    net.output(net.expand(net.slice(z, slice(0, 1), slice(2, 3)), 2, 3, 12))
    return net


@network
def in_place_hazards() -> Net:
    """A value that is overwritten where it dies must not be one that still lives."""
    net = Net(7)
    x = net.input(4, 33)
    a = net.matmul(x, net.random(33, 33, scale=0.2))
    r = net.relu(a)
    b = net.add(a, r)
    c = net.softmax(b)
    d = net.mul(net.add(c, b), r)
    net.output(net.add(net.softmax(d), net.add(d, a)))
    net.output(r)
    return net


@network
def outputs_inside() -> Net:
    """Outputs that others read, one value under two names, views of outputs."""
    net = Net(8)
    x = net.input(2, 6, 5, 5)
    y = net.relu(net.conv(x, 6, 3, pad=1))
    net.output(y, "inside")
    net.output(net.conv(y, 4), "after")
    net.output(y, "inside_again")
    net.output(net.transpose(y, 0, 2, 3, 1), "transposed")
    net.output(net.slice(y, slice(None), slice(0, 2)), "first_channels")
    net.output(net.slice(y, slice(None), slice(2, 6)), "other_channels")
    return net


@network
def inputs_and_constants_as_outputs() -> Net:
    net = Net(9)
    x = net.input(3, 4)
    net.input(2, 2)  # nothing reads it
    c = net.random(3, 4)
    net.output(x, "same")
    net.output(c, "constant")
    net.output(net.transpose(x, 1, 0), "view")
    net.output(net.transpose(c, 1, 0), "constant_view")
    net.output(net.reshape(net.add(c, c), 12), "folded")
    net.output(net.add(x, c), "sum")
    return net


@network
def shared_constants() -> Net:
    net = Net(10)
    x = net.input(1, 6, 8, 8)
    w = net.random(6, 6, 3, 3, scale=0.2)
    y = net.conv(x, 6, 3, pad=1, weights=w)
    y = net.batch_norm(net.conv(y, 6, 3, pad=1, weights=w))  # folds into one of the two only
    y = net.conv(y, 6, 3, pad=1, weights=w)
    net.output(y)
    net.output(net.reduce("ReduceSum", w, [2, 3], False))
    return net


@network
def concats_of_everything() -> Net:
    """Concat of an input, of a value twice, of a concat, of a constant, of an output."""
    net = Net(11)
    x = net.input(2, 3, 4)
    y = net.relu(x)
    inner = net.concat([y, x, y], 1)
    net.output(inner)
    outer = net.concat(
        [inner, net.random(2, 2, 4), net.sigmoid(inner), net.slice(y, slice(0, 2))], 1
    )
    net.output(outer)
    net.output(net.concat([net.transpose(outer, 0, 2, 1), net.transpose(outer, 0, 2, 1)], 2))
    return net


@network
def broadcasting() -> Net:
    net = Net(12)
    x = net.input(2, 1, 5, 1)
    y = net.input(7, 1, 6)
    s = net.input(data=np.array(0.75, np.float32))
    z = net.add(net.mul(x, y), s)
    z = net.sigmoid(net.add(net.relu(z), net.mul(s, x)))
    net.output(z)
    net.output(net.reduce("ReduceMean", net.mul(z, z), [1, 3], True))
    net.output(net.reduce("ReduceMax", z, [0], False))
    return net


@network
def empty() -> Net:
    net = Net(13)
    x = net.input(0, 4)
    y = net.input(3, 4)
    net.output(net.relu(x))
    net.output(net.concat([x, net.relu(y), x], 0))
    net.output(net.matmul(x, net.random(4, 5)))
    return net


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("build", NETWORKS, ids=lambda b: b.__name__)
def test_numbers_do_not_depend_on_the_compiler(
    device: Any, build: Callable[[], Net], options: str
) -> None:
    check(build(), device, OPTIONS[options], options)


@pytest.mark.parametrize("build", NETWORKS, ids=lambda b: b.__name__)
def test_fp16_storage_stays_close(device: Any, build: Callable[[], Net]) -> None:
    """Storage rounds to 2^-11 after every kernel; a dozen of them in a row."""
    check(build(), device, {"dtype": "float16", "guards": True}, "float16", bound=1e-2)


def test_fusion_makes_one_pointwise_kernel(device: Any) -> None:
    """`dlk:Pointwise`: what has one reader joins it, comparisons and constants too."""
    net = Net(20)
    x, y = net.input(3, 5, 7), net.input(5, 1)
    a = net.mul(net.relu(net.add(x, y)), x)
    larger = net.apply("Greater", np.greater, x, x)
    a = net.apply("Where", np.where, larger, net.sigmoid(a), net.apply("Neg", np.negative, x))
    a = net.apply("Sub", np.subtract, a, net.constant(np.array(0.25)))
    net.output(net.apply("Abs", np.abs, net.apply("Tanh", np.tanh, a)))
    fused = check(net, device, {})
    apart = check(net, device, {"fuse": False})
    assert fused.dispatches == 1, fused.table()
    assert apart.dispatches > 5, apart.table()


def test_fusion_keeps_integers_exact(device: Any) -> None:
    net = Net(21)
    x = net.input(data=np.array([2**31 - 1, -(2**31), -7, 0, 5, 1000003], np.int32))
    three = net.constant(np.array(3, np.int32))
    a = net.apply("Mul", np.multiply, x, three)
    a = net.apply("Add", np.add, a, x)
    a = net.apply("BitwiseXor", np.bitwise_xor, a, three)
    net.output(net.apply("Cast", lambda v: v.astype(np.int8), a, to="int8"))
    net.output(a)
    for options in OPTIONS.values():
        check(net, device, options, bound=0.0)


def test_symbolic_sizes_share_a_model(device: Any) -> None:
    from dlk import _core

    def build(*shape: int) -> Net:
        net = Net(22)
        weights, more = net.random(5, 3, 3, 3, scale=0.2), net.random(6, 5, 1, 1)
        x = net.input(*shape, dims=["N", 3, "H", "W"])
        y = net.relu(net.conv(x, 5, 3, pad=1, weights=weights, bias=False))
        net.output(net.add(net.conv(y, 6, weights=more, bias=False), net.constant(np.array(0.5))))
        return net

    model = _core.Model(build(2, 3, 8, 8).graph, device)
    session = model.create_session()
    for shape in ((2, 3, 8, 8), (1, 3, 8, 8), (3, 3, 5, 17), (2, 3, 8, 8), (1, 3, 1, 1)):
        net = build(*shape)
        compare(session.run(net.feeds), net.wanted, str(shape), 2e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_variables_change_after_every_reader(device: Any, options: str) -> None:
    """state' = decay * state + x, a counter, and two variables that swap their values."""
    from dlk import _core

    graph = _core.Graph()
    x = graph.add_input("x", "float32", [4])
    state = graph.add_variable("state", np.zeros(4, np.float32), False)
    decay = graph.add_constant("decay", np.array(0.5, np.float32))
    kept = graph.add_node("Mul", [state, decay])[0]
    new = graph.add_node("Add", [kept, x])[0]
    graph.assign(state, new)
    graph.add_output(state, "before")
    graph.add_output(new, "after")
    count = graph.add_variable("count", np.array(0, np.int32), False)
    one = graph.add_constant("one", np.array(1, np.int32))
    graph.assign(count, graph.add_node("Add", [count, one])[0])
    left = graph.add_variable("left", np.arange(3, dtype=np.float32), False)
    right = graph.add_variable("right", -np.arange(3, dtype=np.float32), False)
    graph.assign(left, right)
    graph.assign(right, left)
    model = _core.Model(graph, device, **OPTIONS[options])
    session, other = model.create_session(), model.create_session()
    want = np.zeros(4)
    for step in range(5):
        data = np.arange(4, dtype=np.float32) + step
        got = (session, other)[step % 2].run({"x": data})
        np.testing.assert_allclose(got["before"], want, rtol=1e-6)
        want = 0.5 * want + data
        np.testing.assert_allclose(got["after"], want, rtol=1e-6)
    assert model.read_variable("count") == 5
    np.testing.assert_allclose(model.read_variable("state"), want, rtol=1e-6)
    np.testing.assert_array_equal(model.read_variable("left"), -np.arange(3))
    np.testing.assert_array_equal(model.read_variable("right"), np.arange(3))
    model.write_variable("state", np.ones(4, np.float32))
    assert session.run({"x": np.zeros(4, np.float32)})["after"] == pytest.approx(0.5)
