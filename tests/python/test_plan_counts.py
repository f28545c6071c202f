"""Dispatches and pipelines of whole networks: they must not grow unseen, where times are noisy."""

from __future__ import annotations

import dlk
import pytest

COUNTS = {
    "squeezenet1_1": (47, 7),
    "mobilenet_v2": (55, 6),
    "nin_imagenet": (19, 7),
    "resnet50": (79, 10),
}
"""Network: the most dispatches and pipelines on the null device."""


@pytest.mark.parametrize("name", COUNTS)
def test_plans_stay_small(name: str) -> None:
    model = dlk.Model(dlk.zoo.build(name, weights="random"), dlk.Device("null"))
    plan = model.plan(model.example_inputs({}, seed=0))
    dispatches, pipelines = COUNTS[name]
    assert plan.dispatches <= dispatches
    assert plan.pipelines <= pipelines
