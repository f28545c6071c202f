"""Runs a printed OpenCL C kernel with pyopencl alone. Also a program, for oclgrind::

    python -m tests.hosts.opencl_host CASE [OLD NEW]

which replaces the text OLD of the kernel's source, once, by NEW.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..parity.case import Array
from .kernels import CASES, HostCase, check, scalars

BASE = 5
"""Elements before the first one of each buffer: kernels must honour it."""
GUARD = np.float32(-12345.0)


def run(
    case: HostCase, context: Any, edit: Callable[[str], str] = lambda text: text
) -> tuple[Array, Array]:
    """The output, and what lies around it."""
    import pyopencl as cl
    from dlk import _core

    code: Mapping[str, Any] = _core.print_kernel(case.request(), "opencl")
    program = cl.Program(context, edit(code["code"])).build(code["build_options"])
    queue = cl.CommandQueue(context)
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    arguments: list[Any] = []
    result = np.full(case.want.size + 2 * BASE, GUARD, np.float32)
    buffers = {}
    for binding in code["bindings"]:
        name = binding["name"]
        host = result
        if name != case.output:
            host = np.full(case.inputs[name].size + BASE, np.nan, np.float32)
            host[BASE:] = case.inputs[name].ravel()
        buffers[name] = cl.Buffer(context, flags, hostbuf=host)
        arguments += [buffers[name], np.uint64(BASE)]
    kinds = {"u": np.uint32, "i": np.int32, "f": np.float32}
    arguments += [kinds[kind](value) for kind, value in scalars(code, case.params)]
    size = code["group_size"]
    sizes = tuple(g * s for g, s in zip(case.groups, size, strict=True))
    kernel = cl.Kernel(program, code["name"])
    kernel(queue, sizes, tuple(size), *arguments)
    cl.enqueue_copy(queue, result, buffers[case.output])
    queue.finish()
    inside = result[BASE:-BASE]
    return inside, np.concatenate([result[:BASE], result[-BASE:]])


def main(arguments: list[str]) -> None:
    import pyopencl as cl

    case = next(c for c in CASES if c.name == arguments[0])

    def edit(text: str) -> str:
        if len(arguments) < 3:
            return text
        assert arguments[1] in text, f"{arguments[1]!r} is not in\n{text}"
        return text.replace(arguments[1], arguments[2], 1)

    device = cl.get_platforms()[0].get_devices()[0]
    got, around = run(case, cl.Context([device]), edit)
    print(device.name)
    if len(arguments) < 3:
        check(case, got)
        assert (around == GUARD).all()


if __name__ == "__main__":
    main(sys.argv[1:])
