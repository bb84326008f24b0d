"""VGG-19: forward to the taps, backward with the taps' gradients injected.

Glossary::

    image   (H, W, 3) RGB, 0..255, on the host
    x       (H, W, 3) in VGG space (BGR, mean removed), or the output of a layer
    tape    [(step, cache), ...] in the order of computation; a step is one layer or a few
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from .architecture import CONVOLUTIONS, LAYERS, Step, canonical, depth_of, keras_name
from .backend import CPU, Array, Backend, Workers, keep_freed_memory, select, share_freed_memory
from .checks import as_picture
from .engine import Engine, Fast, Textbook
from .errors import UsageError
from .gpu import Gpu

MEAN_BGR = np.array([103.939, 116.779, 123.68])
"""Mean colour of ImageNet, which VGG-19 was trained without (blue, green, red; 0..255)."""

Tape = list[tuple[Step, Any]]


def preprocess(image: np.ndarray) -> np.ndarray:
    """RGB 0..255 -> VGG space: channels reversed, mean removed. (H, W, 3), float64 or wider.

    References
    ----------
    The course: :eq:`vgg-space`.
    """
    x: np.ndarray = image[..., ::-1] - MEAN_BGR
    return x


def deprocess(x: np.ndarray) -> np.ndarray:
    """VGG space -> RGB: the inverse of `preprocess`, neither clipped nor rounded."""
    image: np.ndarray = (x + MEAN_BGR)[..., ::-1]
    return image


class VGG19:
    """The convolutional part of VGG-19 with frozen weights.

    Several threads may use one network at once; it can be copied, pickled and used after a fork.

    Parameters
    ----------
    weights : Weights
        From `load_weights`, or any mapping from Keras' names to (kernel, bias).
    pooling : {'max', 'avg'}
        'max' is what the network was trained with.
    conv : {'winograd', 'im2col'}
        How convolutions are computed: fast, or as the textbook has it. In complex numbers it is the
        textbook's way in either case, which, on a CPU, has the process keep the memory that it
        frees (`backend.keep_freed_memory`); the fast way has its threads share it
        (`backend.share_freed_memory`).
    dtype : {'float32', 'float64', 'complex128'}
        In which everything is computed; complex128 is for the complex-step check.
    device : {'cpu', 'cuda', 'auto'} or Backend
    threads : int, optional
        For 'winograd' on a CPU; by default $OMP_NUM_THREADS, or else as many as there are
        processors, up to 8.

    Raises
    ------
    UsageError
        If an argument is not one of the above, or the device cannot be used.

    References
    ----------
    Simonyan & Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", configuration E.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[np.ndarray, np.ndarray]],
        pooling: str = "max",
        conv: str = "winograd",
        dtype: str = "float32",
        device: str | Backend = "cpu",
        threads: int | None = None,
    ) -> None:
        for name, value, allowed in (
            ("pooling", pooling, ("max", "avg")),
            ("conv", conv, ("winograd", "im2col")),
            ("dtype", dtype, ("float32", "float64", "complex128")),
        ):
            if not isinstance(value, str) or value not in allowed:
                raise UsageError(f"{name} is {value!r}; it can be {', '.join(allowed)}")
        if not isinstance(weights, Mapping):
            raise UsageError(f"weights are {weights!r}; pass what load_weights() returns")
        if missing := [name for name in map(keras_name, CONVOLUTIONS) if name not in weights]:
            raise UsageError(f"the weights hold no {missing[0]}; pass what load_weights() returns")
        self.backend = select(device)
        self.dtype = dtype
        self.workers = Workers(threads)
        self._arguments = weights, pooling, conv, dtype, self.backend, threads
        parameters = partial(_parameters, weights, self.backend, dtype)
        self.engine: Engine = Textbook(parameters, pooling)
        if conv == "winograd" and dtype != "complex128":
            if self.backend is CPU:
                share_freed_memory()
                self.engine = Fast(parameters, pooling, self.workers)
            else:
                self.engine = Gpu(parameters, pooling, self.backend)
        elif self.backend is CPU:
            keep_freed_memory()

    def __reduce__(self) -> tuple[Any, ...]:
        return VGG19, self._arguments  # a copy has threads and buffers of its own

    def features(self, image: np.ndarray, taps: Iterable[str]) -> dict[str, Array]:
        """Return what the network sees in a picture.

        Parameters
        ----------
        image : (H, W, 3) array
            RGB, 0..255.
        taps : iterable of str
            Layers in the literature's or Keras' names.

        Returns
        -------
        dict
            The given name of each tap -> (H_l, W_l, C_l) array on the network's device.

        Raises
        ------
        UsageError
            If it is no picture, or too small a one, or there is no such layer.
        """
        image = as_picture(image)
        if not isinstance(taps, Iterable):
            raise UsageError(f"taps are {taps!r}; pass a list of layers, such as ['relu4_2']")
        names = {tap: canonical(tap) for tap in ([taps] if isinstance(taps, str) else taps)}
        features = dict(self.see(image, set(names.values())))
        return {tap: features[name] for tap, name in names.items()}

    def see(
        self, image: np.ndarray, taps: Iterable[str], by_rows: Collection[str] = ()
    ) -> Iterator[tuple[str, Array]]:
        """Yield what the network sees in a picture, layer by layer: one need not be kept for the next.

        Parameters
        ----------
        image : (H, W, 3) array
            RGB, 0..255.
        taps : iterable of str
            Members of `architecture.LAYERS`.
        by_rows : collection of str
            As for `forward`.

        Yields
        ------
        tap : str
            From the first to the deepest.
        features : (H_l, W_l, C_l) array
            On the network's device.

        Raises
        ------
        UsageError
            If the poolings on the way leave nothing of so small a picture.
        """
        taps = set(taps)
        if taps:
            x = self.backend.upload(preprocess(image), self.dtype)
            yield from self.walk(x, taps, by_rows=by_rows)

    def forward(
        self, x: Array, taps: Iterable[str], by_rows: Collection[str] = ()
    ) -> tuple[dict[str, Array], Tape]:
        """Compute up to the deepest tap.

        Parameters
        ----------
        x : (H, W, 3) array on the device
            A picture in VGG space.
        taps : iterable of str
            Members of `architecture.LAYERS`.
        by_rows : collection of str
            Taps that need not be arrays: `rows.Again` will do, where an engine makes one.

        Returns
        -------
        features : dict
            Tap -> (H_l, W_l, C_l) array.
        tape : list
            For `backward`.

        Raises
        ------
        UsageError
            If the poolings on the way leave nothing of so small a picture.
        """
        tape: Tape = []
        return dict(self.walk(x, set(taps), tape, by_rows)), tape

    def walk(
        self, x: Array, taps: set[str], tape: Tape | None = None, by_rows: Collection[str] = ()
    ) -> Iterator[tuple[str, Array]]:
        """Yield as `see` does, of a picture in VGG space, on the device.

        What a backward will need is kept on the tape, if there is one; `by_rows` as for `forward`.
        """
        path = LAYERS[: depth_of(taps)]
        least = 2 ** sum(layer.startswith("pool") for layer in path)
        if min(x.shape[:2]) < least:
            raise UsageError(
                f"a picture of {x.shape[1]}x{x.shape[0]} pixels is too small for {path[-1]}; "
                f"each side needs {least} or more"
            )
        for step in self.engine.steps(path, taps):
            x, cache = self.engine.forward(step, x, step[-1] in taps, step[-1] in by_rows)
            if tape is not None:
                tape.append((step, cache))
            del cache
            if step[-1] in taps:
                yield step[-1], x

    def backward(self, tape: Tape, gradients: Mapping[str, Array]) -> Array:
        """Carry the taps' gradients back to the picture, all of them in one pass.

        Parameters
        ----------
        tape : list
            From the `forward` whose features the gradients belong to.
        gradients : mapping
            Tap -> dL/d(feature), of the feature's shape.

        Returns
        -------
        (H, W, 3) array
            dL/dx in VGG space.

        References
        ----------
        The course: :eq:`chain`, :eq:`inject`.
        """
        outputs = [step[-1] for step, _ in tape]
        inputs = ["picture", *outputs]  # of each step, the tap whose gradient joins dx behind it
        dx = gradients.get(outputs[-1])
        for (step, cache), tap in zip(reversed(tape), inputs[-2::-1], strict=True):
            if dx is None:
                dx = gradients.get(tap)
            else:
                dx = self.engine.backward(step, dx, cache, gradients.get(tap))
        return dx


def _parameters(
    weights: Mapping[str, tuple[np.ndarray, np.ndarray]],
    backend: Backend,
    dtype: str,
    convolution: str,
) -> tuple[Array, Array]:
    """(kernel, bias) of a convolution, on the device and in the network's dtype."""
    kernel, bias = weights[keras_name(convolution)]
    shape = (3, 3, *CONVOLUTIONS[convolution])
    if np.shape(kernel) != shape or np.shape(bias) != shape[3:]:
        raise UsageError(
            f"the weights of {keras_name(convolution)} have the shapes {np.shape(kernel)} and "
            f"{np.shape(bias)}, but VGG-19's are {shape} and {shape[3:]}"
        )
    return backend.upload(kernel, dtype), backend.upload(bias, dtype)
