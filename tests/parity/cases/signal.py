"""Fourier transforms and mel bands against NumPy's."""

from __future__ import annotations

import itertools

import numpy as np

from ..case import Array, Case, Tolerance, case, ints, normal

TOLERANCE = {
    "float32": Tolerance(
        3e-6, "sums of up to 67 products with roots of unity in fp32, up to 3 times"
    )
}
LAYOUTS = ("contiguous", "strided")


def parts(z: Array) -> Array:
    return np.stack([z.real, z.imag], -1)


def as_complex(x: Array) -> Array:
    return x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)


def dft(x: Array, length: int, axis: int, inverse: bool, onesided: bool) -> Array:
    z = (np.fft.ifft if inverse else np.fft.fft)(as_complex(x), length, axis)
    return parts(np.take(z, range(length // 2 + 1), axis) if onesided else z)


for (axis, length), kind, inverse, onesided in itertools.product(
    ((1, 12), (2, 9), (1, 17), (-2, 60), (1, 96), (1, 2 * 67), (1, 1024), (1, 509)),
    (1, 2),
    (0, 1),
    (0, 1),
):
    case(
        Case(
            op="DFT",
            name=f"axis{axis}_{length}_{'real' if kind == 1 else 'complex'}"
            f"{'_inverse' if inverse else ''}{'_onesided' if onesided else ''}",
            inputs=lambda rng, k=kind, n=length, a=axis: {
                "x": normal(rng, 2, 12 if n < 64 else n - 5, 9 if n < 64 else 3, k),
                "n": np.array(n),
                "axis": np.array(a),
            },
            attributes={"inverse": inverse, "onesided": onesided},
            constants=("n", "axis"),
            oracle=lambda x, n, a, i=inverse, o=onesided: dft(
                x, int(n), int(a) if a > 0 else 2, bool(i), bool(o)
            ),
            layouts=LAYOUTS if length in (17, 96) else LAYOUTS[:1],
            dtypes=("float32", "float16") if length in (17, 96) else ("float32",),
            tolerance=TOLERANCE,
        )
    )


def stft(x: Array, step: int, window: Array | None, length: int, onesided: bool) -> Array:
    frames = [as_complex(x)[:, at : at + length] for at in range(0, x.shape[1] - length + 1, step)]
    z = np.fft.fft(np.stack(frames, 1) * (1 if window is None else window), axis=-1)
    return parts(z[..., : length // 2 + 1] if onesided else z)


for kind, weighted, onesided in itertools.product((1, 2), (False, True), (0, 1)):
    case(
        Case(
            op="STFT",
            name=f"{kind}_{'window' if weighted else 'plain'}_{onesided}",
            inputs=lambda rng, k=kind, w=weighted: {
                "x": normal(rng, 2, 53, k),
                "step": np.array(7),
                "window": np.hanning(16) if w else None,
                "length": np.array(16),
            },
            attributes={"onesided": onesided},
            constants=("step", "length"),
            oracle=lambda x, s, w, n, o=onesided: stft(x, int(s), w, int(n), bool(o)),
            layouts=LAYOUTS,
            tolerance=TOLERANCE,
        )
    )


# A prime length: frames through Bluestein's algorithm, with what lies between them.
case(
    Case(
        op="STFT",
        name="window_prime",
        inputs=lambda rng: {
            "x": normal(rng, 2, 900, 1),
            "step": np.array(150),
            "window": np.hanning(467),
            "length": np.array(467),
        },
        attributes={"onesided": 1},
        constants=("step", "length"),
        oracle=lambda x, s, w, n: stft(x, int(s), w, int(n), True),
        layouts=LAYOUTS,
        tolerance=TOLERANCE,
    )
)


def mel(bands: int, length: int, rate: int, low: float, high: float) -> Array:
    to_mel = [2595 * np.log10(1 + f / 700) for f in (low, high)]
    points = to_mel[0] + np.arange(bands + 2) * (to_mel[1] - to_mel[0]) / (bands + 2)
    edges = np.floor((length + 1) * 700 * (10 ** (points / 2595) - 1) / rate).astype(int)
    result = np.zeros((length // 2 + 1, bands))
    for i in range(bands):
        a, b, c = edges[i : i + 3]
        if a == b:
            result[b, i] = 1
        for j in range(a, b + 1):
            if b > a:
                result[j, i] = (j - a) / (b - a)
        for j in range(b, c):
            result[j, i] = (c - j) / (c - b)
    return result


for bands, length, rate in ((8, 16, 8192), (20, 400, 16000)):
    case(
        Case(
            op="MelWeightMatrix",
            name=f"{bands}_bands",
            inputs=lambda rng, b=bands, n=length, r=rate: {
                "bands": ints(b)[0],
                "length": ints(n)[0],
                "rate": ints(r)[0],
                "low": np.array(20.0, np.float32),
                "high": np.array(3900.0, np.float32),
            },
            constants=("bands", "length", "rate", "low", "high"),
            oracle=lambda b, n, r, low, high: mel(int(b), int(n), int(r), float(low), float(high)),
            dtypes=("none",),
            tolerance={"none": Tolerance(1e-6, "one division in fp32")},
        )
    )
