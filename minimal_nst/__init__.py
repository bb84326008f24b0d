"""Neural style transfer, from scratch in NumPy and CuPy.

The names below are loaded when they are first used, so that ``minimal_nst --help`` need not wait
for NumPy and SciPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .checkpoint import Checkpoint as Checkpoint
    from .errors import NSTError as NSTError
    from .objective import Objective as Objective
    from .pipeline import Painting as Painting, stylize as stylize
    from .presets import PRESETS as PRESETS
    from .reconstruction import reconstruct as reconstruct
    from .settings import Settings as Settings
    from .vgg import VGG19 as VGG19
    from .weights import load_weights as load_weights

_HOMES = {
    "Checkpoint": "checkpoint",
    "NSTError": "errors",
    "Objective": "objective",
    "PRESETS": "presets",
    "Painting": "pipeline",
    "Settings": "settings",
    "VGG19": "vgg",
    "load_weights": "weights",
    "reconstruct": "reconstruction",
    "stylize": "pipeline",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minimal_nst' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
