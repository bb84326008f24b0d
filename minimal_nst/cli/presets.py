"""``minimal-nst presets``: published programs, and what each of them computes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..presets import PRESETS, Preset
from ..settings import HISTORY, Settings
from .output import say

TV_FORMS = {
    "squared": "sum of (x - neighbour)^2",
    "mean-squared": "mean of (x - neighbour)^2, down + right",
    "absolute": "sum of |x - neighbour|",
    "mean-absolute": "mean of |x - neighbour|, down + right",
    "keras": "sum of ((x - below)^2 + (x - beside)^2)^1.25",
}
CONTENT_FORMS = {"mean": "mean of (F - P)^2", "paper": "1/2 sum of (F - P)^2"}
STYLE_FORMS = {
    "mean": "mean over the N*N entries of (G/(M N) - A/(M N))^2",
    "paper": "1/(4 N^2 M^2) sum of (G - A)^2",
}


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "presets",
        help="list the published programs that can be followed, or explain one",
        description="List the presets; or explain one: its formula with its numbers, the same on the "
        "scale that all programs share, what is not followed, and a mistake of the original.",
        allow_abbrev=False,
    )
    parser.add_argument("--explain", metavar="NAME", help="of a preset")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Print a line for each, or a page about one."""
    if args.explain is None:
        lines = [f"{name:17} {preset.summary}" for name, preset in PRESETS.items()]
    else:
        settings = Settings.preset(args.explain)  # refuses a name that is none
        lines = list(explain(args.explain, PRESETS[args.explain], settings))
    say("\n".join(lines), sys.stdout)
    return 0


def explain(name: str, preset: Preset, settings: Settings) -> Iterator[str]:
    """The lines of the page."""
    from ..forms import common_form

    yield f"{name}: {preset.summary}"
    yield f"source: {preset.source}"
    yield ""
    yield "loss, with features F, P (M places, N channels) and Gram matrices G, A:"
    yield f"  content  {terms(settings.content_taps)}  times {CONTENT_FORMS[settings.content_form]}"
    yield f"  style    {terms(settings.style_taps)}  times {STYLE_FORMS[settings.style_form]}"
    if settings.style_statistic != "gram":
        yield "           with covariances in the place of G/M; and the same of the means' products"
    if settings.tv_weight:
        yield f"  tv       {settings.tv_weight:.4g}  times {TV_FORMS[settings.tv_form]}"
    if settings.range_weight:
        outside = "mean over all numbers of the squares of what is below 0 or above 255"
        yield f"  range    {settings.range_weight:.4g}  times {outside}"
    if settings.style_statistic == "gram":
        s, c = common_form(settings, 512, 512)
        yield "on the common scale, sum s E + c MSE, with the paper's E, at 512x512:"
        yield f"  s        {terms(s)}"
        yield f"  c        {terms(c)}"
    yield f"network: {settings.pooling} pooling"
    noise = f", {100 * settings.noise_ratio:.3g} % noise" if settings.noise_ratio else ""
    if noise or settings.init == "noise":
        noise += f" ({settings.noise}, {settings.noise_level:g} grey levels)"
    margin = f", a mirrored margin of {settings.margin} pixels" if settings.margin else ""
    yield f"pictures: scaled by the {settings.resampling} filter"
    yield f"start: {settings.init}{noise}{margin}"
    decays = f" that fall to {settings.decay:g} of themselves every {settings.decay_every}"
    decays = decays if settings.decay < 1 else ""
    adam = (
        f"adam, steps of {settings.learning_rate:g} grey levels{decays}, beta1 {settings.beta1:g}, "
        f"beta2 {settings.beta2:g}, epsilon {settings.epsilon:.2g}"
    )
    lbfgs = f"L-BFGS that looks back {settings.history or HISTORY['lbfgs']} steps"
    method = adam if settings.optimizer == "adam" else lbfgs
    moved = f"waves, spectrum {settings.spectrum:g}" if settings.spectrum else "pixels"
    scales = f" at each scale ({settings.scales})" if settings.scales else ""
    yield f"optimiser: {method}, {settings.iterations} iterations{scales}, moving {moved}"
    for deviation in preset.deviations:
        yield f"not followed: {deviation}"
    if preset.defect:
        yield f"defect of the original: {preset.defect}"


def terms(weights: Mapping[str, float]) -> str:
    """'1 relu1_1 + 2 relu2_1', or '1 (relu1_1, relu2_1)' where all are alike."""
    if len(set(weights.values())) == 1:
        (weight,) = set(weights.values())
        return f"{weight:.4g} ({', '.join(weights)})"
    return " + ".join(f"{weight:.4g} {tap}" for tap, weight in weights.items())
