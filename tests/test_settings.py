"""Settings and presets: defaults, limits, and one clear line for what is outside of them."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from minimal_nst import PRESETS, VGG19, Objective, Settings, winograd
from minimal_nst.errors import UsageError
from minimal_nst.settings import parse_layers


def test_the_defaults_are_the_first_preset():
    assert Settings.preset(next(iter(PRESETS))) == Settings()


def test_a_preset_can_be_refined_and_replaced():
    course = Settings.preset("course", iterations=5)
    assert (course.optimizer, course.iterations) == ("adam", 5)
    assert dataclasses.replace(course, seed=3).seed == 3


def test_layers():
    expected = (("relu1_1", 1.0), ("relu4_2", 0.5))
    assert parse_layers("relu1_1, block4_conv2:.5") == expected
    assert parse_layers(["relu1_1", "relu4_2:0.5"]) == expected
    assert parse_layers(expected) == expected
    assert parse_layers(dict(expected)) == expected
    assert parse_layers([["relu1_1", 1], ["relu4_2", np.float32(0.5)]]) == expected
    assert parse_layers(()) == ()


def test_numbers_are_pythons_own():
    """A NumPy scalar would make a float32 network compute its backward pass in float64."""
    settings = Settings(
        style_weight=np.float64(5), size=np.int64(64), style_layers={"relu1_1": np.float64(2)}
    )
    for value in (settings.style_weight, settings.style_layers[0][1]):
        assert type(value) is float
    assert type(settings.size) is int
    assert copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings)) == settings


def test_numpys_weights_leave_a_float32_network_in_float32(weights, content, style, monkeypatch):
    seen = []
    enter = winograd.transform_input
    monkeypatch.setattr(
        winograd, "transform_input", lambda x, *a: seen.append(x.dtype) or enter(x, *a)
    )
    settings = Settings(content_weight=np.float64(2), style_weight=np.float64(2))
    Objective(VGG19(weights), content, [style], settings)(255.0 - content)
    assert set(seen) == {np.dtype("float32")}


def test_settings_are_given_by_name():
    with pytest.raises(UsageError, match="256 has no name"):
        Settings(256)
    with pytest.raises(UsageError, match="no setting 'foo'"):
        dataclasses.replace(Settings(), foo=1)


WRONG = {
    "size is 15; it must be a whole number, between 16 and 65536": {"size": 15},
    "size is 99.5; it must be a whole number": {"size": 99.5},
    "size is 'big'; it must be a whole number, between 16 and 65536, or original": {"size": "big"},
    "height is 15;": {"height": 15},
    "size_pixels is 255; it must be a whole number, between 256 and": {"size_pixels": 255},
    "style_scale is 0; it must be a finite number": {"style_scale": 0},
    "3 are no weights; write numbers such as 2,1": {"style_blend_weights": 3},
    "[1, -1] are no weights; each must be a finite": {"style_blend_weights": [1, -1]},
    "[1, inf] are no weights; each must be a finite": {"style_blend_weights": [1, float("inf")]},
    "'' are no weights; write numbers": {"style_blend_weights": ""},
    "() are no weights; each must": {"style_blend_weights": ()},
    "style_size is 2;": {"style_size": 2},
    "iterations is 0; it must be a whole number, between 1 and 1000000000": {"iterations": 0},
    "seed is -1;": {"seed": -1},
    "learning_rate is 0; it must be a finite number, above 0": {"learning_rate": 0},
    "learning_rate is inf;": {"learning_rate": float("inf")},
    "tv_weight is nan;": {"tv_weight": float("nan")},
    "style_weight is -1; it must be a finite number, 0 or more": {"style_weight": -1},
    "content_weight is 'many'; it must be a finite number, 0 or more": {"content_weight": "many"},
    "noise_ratio is 1.5; it must be a finite number, between 0 and 1": {"noise_ratio": 1.5},
    "pooling is 'l2'; it can be max, avg": {"pooling": "l2"},
    "no layer 'relu9_1'; did you mean": {"style_layers": "relu9_1"},
    "layer relu1_1 is named twice": {"style_layers": "relu1_1,block1_conv1"},
    "layer relu1_1 has the weight 'x', not a number": {"style_layers": "relu1_1:x"},
    "layer relu1_1 has the weight -1; it must be a finite number": {"style_layers": "relu1_1:-1"},
    "layer relu1_1 has the weight 1e400; it": {"style_layers": "relu1_1:1e400"},
    "VGG-19 has no layer ''": {"style_layers": ""},
    "3 is no list of layers": {"style_layers": 3},
    "[()] is no list of layers": {"style_layers": [()]},
    "layer relu1_1 has the weight 'None', not a number": {"style_layers": [("relu1_1", None)]},
    "size is None; it must be": {"size": None},
    "size is '64'; it must be a whole number": {"size": "64"},
    "size is 65537; it must be a whole number, between 16 and 65536": {"size": 2**16 + 1},
    "device is None; it must be text": {"device": None},
    "style_weight is 1000": {"style_weight": 10**400},
    "learning_rate is 1000": {"learning_rate": 10**400},
    "iterations is True;": {"iterations": True},
    "pooling is 3; it must be text": {"pooling": 3},
    "init is ''; it must not be empty": {"init": ""},
    "there is no setting 'stile_weight'; did you mean style_weight?": {"stile_weight": 1},
    "[('relu1_1', 1, 99)] is no list of layers": {"style_layers": [("relu1_1", 1, 99)]},
    "layer relu1_1 has the weight '', not a number": {"style_layers": "relu1_1:"},
    "layer relu1_1 has the weight 1000": {"style_layers": {"relu1_1": 10**400}},
    "3 is no name of a layer": {"style_layers": {3: 1.0}},
    "nothing to paint": {"content_weight": 0, "style_weight": 0},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_values(message):
    with pytest.raises(UsageError) as error:
        Settings(**WRONG[message])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_to_paint_without_layers_either():
    with pytest.raises(UsageError, match="nothing to paint"):
        Settings(content_layers=(), style_layers="relu1_1:0")


def test_unknown_preset():
    with pytest.raises(
        UsageError, match="no preset 'monet'; there are default, balanced, gatys, gatys2016, "
    ):
        Settings.preset("monet")
    with pytest.raises(UsageError, match=r"no preset \['gatys'\]"):
        Settings.preset(["gatys"])
