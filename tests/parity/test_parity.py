"""Every operator on every device against the float64 oracle."""

from __future__ import annotations

from typing import Any

import pytest

from .expectations import refusal_reason, xfail_reason
from .harness import Variant, load_cases, run_variant, variants
from .passport import entry

VARIANTS = variants(iter(load_cases().values()))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.id)
def test_parity(device: Any, variant: Variant, request: pytest.FixtureRequest) -> None:
    caps = device.caps
    known = xfail_reason(caps, variant.id)
    if known:
        request.applymarker(pytest.mark.xfail(reason=known, strict=True))
    result: dict[str, Any] = {
        "relative": 0.0,
        "ulp": 0.0,
        "status": "xfailed" if known else "failed",
    }
    try:
        try:
            outcome = run_variant(variant, device)
        except NotImplementedError as error:
            if refusal_reason(caps, str(error)) is None:
                raise
            result.update(status="unsupported", reason=str(error))
            return
        assert not outcome.problem, outcome.problem
        result.update(relative=outcome.relative, ulp=outcome.ulp)
        bound = variant.case.tolerance_for(variant.dtype)
        assert outcome.relative <= bound.bound, (
            f"{outcome.relative:.3g} > {bound.bound:.3g} ({bound.reason})"
        )
        result["status"] = "passed"
    finally:
        record = entry(device.id, variant.case.op, variant.dtype, variant.id, **result)
        request.node.user_properties.append(("parity", record))
