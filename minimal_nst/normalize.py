r"""The paper's network: VGG-19, rescaled so that each channel has a mean of 1.

As it was trained, some channels are a hundred times as loud as others, and so are some layers. A
style loss is made of fourth powers: it is that of the loudest layer, and of a few channels in it.
The paper's network has them all alike, and computes the same. For a ReLU and a pooling let a
positive factor pass,

.. math:: \max(0, y / m) = \max(0, y) / m

so what a convolution returns may be divided, channel by channel, if the next one multiplies again:

.. math:: k'_{ijcd} = \frac{m_c}{m_d}\, k_{ijcd}, \qquad b'_d = \frac{1}{m_d}\, b_d

Glossary::

    m_d     mean of a convolution's channel d behind its ReLU, over all places of all pictures
    m_c     that of its input's channel c, which is the convolution's before; of a colour, 1

References
----------
Gatys, Ecker & Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks", section 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .architecture import CONVOLUTIONS, keras_name
from .errors import UsageError
from .vgg import VGG19

Parameters = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Keras' name of a convolution -> its (kernel, bias)."""


def mean_activations(vgg: VGG19, pictures: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Return how loud each channel is.

    Parameters
    ----------
    vgg : VGG19
    pictures : iterable of (H, W, 3) arrays
        RGB, 0..255, of any sizes; one at a time is in memory. A place counts alike in each.

    Returns
    -------
    dict
        Name of each convolution -> (C_out,) array of float64: its means behind the ReLU.

    Raises
    ------
    UsageError
        If there are no pictures, or one is none.
    """
    after = {name.replace("conv", "relu"): name for name in CONVOLUTIONS}
    sums = {name: np.zeros(C_out) for name, (_, C_out) in CONVOLUTIONS.items()}
    places = dict.fromkeys(CONVOLUTIONS, 0)
    for picture in pictures:
        for tap, features in vgg.see(picture, after):
            sums[after[tap]] += vgg.backend.download(features.sum(axis=(0, 1), dtype="float64"))
            places[after[tap]] += features.shape[0] * features.shape[1]
    if not all(places.values()):
        raise UsageError("there are no pictures to look at; name some, or a folder of them")
    return {name: sums[name] / places[name] for name in CONVOLUTIONS}


def normalized(weights: Parameters, means: Mapping[str, np.ndarray]) -> Parameters:
    """Return the weights of the network whose features are the same, divided by these means.

    Parameters
    ----------
    weights : mapping
        Keras' name of each convolution -> its (kernel, bias).
    means : mapping
        From `mean_activations`. A channel whose mean is 0 stays as it is.

    Returns
    -------
    dict
        As the weights, in float32.

    References
    ----------
    The course: :eq:`normalized`.
    """
    found = {}
    before = np.ones(3)
    for name in CONVOLUTIONS:
        kernel, bias = weights[keras_name(name)]
        m = np.where(means[name] > 0, means[name], 1.0)
        kernel, bias = kernel * (before[:, None] / m), bias / m
        found[keras_name(name)] = kernel.astype("float32"), bias.astype("float32")
        before = m
    return found
