"""Against golden values that tests/reference.py recorded from PyTorch in float64.

So a machine without PyTorch holds features, losses and gradients to the same reference.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from minimal_nst import PRESETS, VGG19, Objective, Settings
from minimal_nst.architecture import LAYERS

from conftest import fitting, projections, transcribed

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text())


@pytest.fixture(scope="module")
def pictures():
    with np.load(HERE / "golden.npz") as data:
        content, style = data["content"], data["style"]
    return content, style, (content.astype(float) + style[::-1]) / 2


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_features_at_every_tap(weights, pictures, pooling):
    golden = GOLDEN["features"][pooling]
    features = VGG19(weights, pooling, dtype="float64").features(pictures[2], LAYERS)
    assert set(golden) == set(LAYERS)
    for tap, (norm, *expected) in golden.items():
        found = projections(features[tap])
        assert np.linalg.norm(features[tap]) == pytest.approx(norm, rel=1e-9), tap
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * norm, err_msg=tap)


def test_every_preset_has_golden_values():
    """The default has the losses of `gatys`: only the way down is another."""
    assert set(GOLDEN["presets"]) == set(PRESETS) - {"default"}
    changes = {
        "spectrum": 0,
        "margin": 0,
        "range_weight": 0,
        "resampling": "bilinear",
        "history": 100,
    }
    assert dataclasses.replace(Settings(), **changes) == Settings.preset("gatys")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("preset", GOLDEN["presets"])
def test_objective_of_every_preset(weights, pictures, preset, dtype, tolerance):
    content, style, image = fitting(preset, *pictures)
    settings = transcribed(preset, dtype=dtype)
    vgg = VGG19(weights, settings.pooling, dtype=dtype)
    loss, dx = Objective(vgg, content, [style], settings)(image)
    golden_loss, norm, *expected = GOLDEN["presets"][preset]
    assert loss == pytest.approx(golden_loss, rel=tolerance / 10)
    assert np.linalg.norm(dx) == pytest.approx(norm, rel=tolerance)
    scale = norm * np.sqrt(dx.size)  # what a projection on a wave can be at most
    np.testing.assert_allclose(projections(dx), expected, rtol=0, atol=tolerance * scale)
