r"""One scale for the losses of all programs.

Whatever a program divides by, its loss is

.. math:: L = \sum_l s_l\, E_l + \sum_l c_l\, \text{MSE}_l + \gamma\, E^{\text{tv}}

with the paper's style loss E and the mean of squares of a content layer's features. What it calls its
weights, and what it divides by, is all in s and c; only their ratios matter for the painting.
"""

from __future__ import annotations

from .architecture import shape_of
from .settings import Settings


def common_form(
    settings: Settings, height: int, width: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return what each layer weighs on the common scale.

    Parameters
    ----------
    settings : Settings
    height, width : int
        Of the picture, on which a sum over places depends, and a mean does not.

    Returns
    -------
    s : dict
        Style layer -> factor of the paper's E.
    c : dict
        Content layer -> factor of the mean of squares.

    References
    ----------
    The course: :eq:`common`, :eq:`mean-form`.
    """
    s, c = {}, {}
    for tap, weight in settings.style_taps.items():
        _, _, N = shape_of(tap, height, width)
        s[tap] = weight if settings.style_form == "paper" else weight * 4 / N**2
    for tap, weight in settings.content_taps.items():
        h, w, N = shape_of(tap, height, width)
        c[tap] = weight if settings.content_form == "mean" else weight * N * h * w / 2
    return s, c
