"""Changed ONNX models: `python -m tests.fuzz.fuzz_importer --executions N [--seed S]`.

Each execution takes a small model of the onnx package's tests, changes bytes or fields of it at
random, and reads it. A dlk graph, or ValueError, is right; NotImplementedError too, for what the
engine has not. Anything else is written to --crashes and counted. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnx.backend.test
from dlk.importers.onnx import load_graph
from google.protobuf.message import DecodeError, Message

DATA = Path(onnx.backend.test.__file__).parent / "data"
LARGEST_SEED = 2000
MEMORY_BYTES = 4 << 30
NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    25,
    26,
    255,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    (1 << 63) - 1,
    -(1 << 63),
)
TEXTS = ("", "x", "Relu", "If", "Loop", "Scan", "Constant", "body", "ai.onnx.ml", "../x", "\0", "é")


def seeds() -> list[bytes]:
    """Files of up to LARGEST_SEED bytes."""
    paths = sorted((DATA / "node").glob("*/model.onnx")) + sorted(DATA.glob("*/*/model.onnx"))
    return [path.read_bytes() for path in paths if path.stat().st_size <= LARGEST_SEED]


def change_bytes(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """A few bytes set, cut out, doubled, or taken from another file."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(result) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(result):
            result[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 1:
            del result[at : at + rng.randrange(16)]
        elif kind == 2:
            result[at:at] = result[at : at + rng.randrange(32)]
        else:
            start = rng.randrange(len(other))
            result[at:at] = other[start : start + rng.randrange(64)]
    return bytes(result)


def _messages(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            items = [value] if isinstance(value, Message) else value
            for item in items:
                found += _messages(item)
    return found


def change_fields(model: onnx.ModelProto, rng: random.Random) -> None:
    """A few fields set, cleared, repeated, or moved between messages of a kind."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        messages = _messages(model)
        message: Any = rng.choice(messages)
        fields = list(message.DESCRIPTOR.fields)
        field = rng.choice(fields)
        value = getattr(message, field.name)
        repeated = hasattr(value, "__len__") and not isinstance(value, (str, bytes, Message))
        same = [m for m in messages if m.DESCRIPTOR is field.message_type]
        if rng.random() < 0.2:
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            if same:
                chosen = rng.choice(same)
                copy = type(chosen)()  # of its own: it may hold what it is put into
                copy.CopyFrom(chosen)
                if repeated:
                    value.append(copy)
                else:
                    value.CopyFrom(copy)
        else:
            new = _value(field, rng)
            if not repeated:
                setattr(message, field.name, new)
            elif len(value) and rng.random() < 0.5:
                value[rng.randrange(len(value))] = new
            else:
                value.append(new)


def _value(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(12)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, 1.0, -1.5, float("inf"), float("nan")))
    if field.type == field.TYPE_ENUM:
        return rng.choice(list(field.enum_type.values_by_number))
    limits = {field.TYPE_INT32: (-(1 << 31), (1 << 31) - 1), field.TYPE_UINT64: (0, (1 << 64) - 1)}
    low, high = limits.get(field.type, (-(1 << 63), (1 << 63) - 1))
    return min(max(rng.choice(NUMBERS), low), high)


def execute(data: bytes) -> str:
    """ "read", "refused", or what went wrong."""
    try:
        load_graph(data)
    except (ValueError, NotImplementedError):
        return "refused"
    except MemoryError as error:
        return f"MemoryError: {error}"
    except Exception as error:  # what must not be
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return "read"


def run(executions: int, seed: int, seconds: float, crashes: Path | None) -> dict[str, Any]:
    """The campaign: counts, and each different wrong outcome with how often it came."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rng = random.Random(seed)
    files = seeds()
    outcomes: Counter[str] = Counter()
    start, slowest = time.monotonic(), 0.0
    done = 0
    while done < executions and time.monotonic() - start < seconds:
        data = rng.choice(files)
        if rng.random() < 0.5:
            data = change_bytes(data, rng, rng.choice(files))
        else:
            try:
                model = onnx.ModelProto.FromString(data)
                change_fields(model, rng)
                data = model.SerializeToString()
            except (DecodeError, ValueError, UnicodeError):
                continue
        began = time.monotonic()
        outcome = execute(data)
        slowest = max(slowest, time.monotonic() - began)
        done += 1
        if outcome not in ("read", "refused") and not outcomes[outcome] and crashes:
            (crashes / f"crash-{seed}-{done}.onnx").write_bytes(data)
        outcomes[outcome] += 1
    wrong = {k: n for k, n in outcomes.items() if k not in ("read", "refused")}
    return {
        "executions": done,
        "read": outcomes["read"],
        "refused": outcomes["refused"],
        "crashes": sum(wrong.values()),
        "outcomes": wrong,
        "slowest_s": round(slowest, 2),
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--crashes", type=Path, help="a folder for files that went wrong")
    options = parser.parse_args()
    report = run(options.executions, options.seed, options.seconds, options.crashes)
    print(json.dumps(report, indent=1))
    return int(report["crashes"] > 0)


if __name__ == "__main__":
    sys.exit(main())
