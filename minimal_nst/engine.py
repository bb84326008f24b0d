"""Who carries the layers' operations out.

The network is written once, in `vgg`, against the two methods of an engine. `Textbook` calls the
functions of `layers` as they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import layers
from .backend import Array

Parameters = Callable[[str], tuple[Array, Array]]
"""Name of a convolution -> (kernel, bias)."""


class Textbook:
    """The layers exactly as `layers` defines them.

    Parameters
    ----------
    parameters : callable
        Name of a convolution -> its (kernel, bias) on the device, in the network's dtype.
    pooling : {'max', 'avg'}
    """

    def __init__(self, parameters: Parameters, pooling: str) -> None:
        self.parameters = parameters
        self.pooling = pooling

    def forward(self, layer: str, x: Array) -> tuple[Array, Any]:
        """Return the layer's output and what its backward will need.

        Parameters
        ----------
        layer : str
            A member of `architecture.LAYERS`.
        x : (H, W, C) array

        Returns
        -------
        y : array
            (H, W, C_out), or (H//2, W//2, C) after a pooling.
        cache : object
            For `backward` only.
        """
        if layer.startswith("conv"):
            return layers.conv_forward(x, *self.parameters(layer)), None
        if layer.startswith("relu"):
            return layers.relu_forward(x)
        if self.pooling == "avg":
            return layers.avg_pool_forward(x), x.shape
        y, winners = layers.max_pool_forward(x)
        return y, (winners, x.shape)

    def backward(self, layer: str, dy: Array, cache: Any) -> Array:
        """Return dL/dx of a layer from dL/dy and what its forward had kept."""
        if layer.startswith("conv"):
            kernel, _ = self.parameters(layer)
            return layers.conv_backward(dy, kernel)
        if layer.startswith("relu"):
            return layers.relu_backward(dy, cache)
        if self.pooling == "avg":
            return layers.avg_pool_backward(dy, cache)
        return layers.max_pool_backward(dy, *cache)
