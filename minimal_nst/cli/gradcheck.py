"""``minimal-nst gradcheck``: hold gradients, the program's own or somebody's, against numeric ones."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Container, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import RunError, UsageError
from ..presets import PRESETS
from ..settings import Settings
from .output import count, say

if TYPE_CHECKING:
    from ..gradcheck import Operation, Verdict

EPILOG = """\
your own functions (NumPy, anywhere that Python finds them):
  minimal-nst gradcheck --function homework:relu_backward --of homework:relu_forward
  minimal-nst gradcheck --function homework:conv_backward --of homework:conv_forward \\
      --shape 9,11,3 --shape kernel=3,3,3,4 --shape bias=4
  minimal-nst gradcheck --function homework:content_loss --shape 99,5 --shape P=99,5
  minimal-nst gradcheck --function homework:style_loss --shape 99,5 --shape A=5,5 --symmetric A

BACKWARD is called with dy, FORWARD with x, of the first --shape; a further parameter gets what
FORWARD was given under its name, x's shape under the name 'shape', random numbers of its --shape,
or else what FORWARD returned after y, in order. Without --of, the function returns (loss, gradient).

Exit code 1 if a gradient is wrong, or with --mutants if a wrong one passes.
"""


def no_objective(args: argparse.Namespace) -> bool:
    """Whether the objective is not among what is checked."""
    return bool(args.function) or args.mutants or args.group in ("layers", "losses")


IDLE: dict[str, tuple[Callable[[argparse.Namespace], bool], str]] = {
    "of": (lambda args: not args.function, "it goes with --function"),
    "shape": (lambda args: not args.function, "it goes with --function"),
    "symmetric": (lambda args: not args.function, "it goes with --function"),
    "seed": (lambda args: not args.function, "it goes with --function"),
    "mutants": (lambda args: bool(args.function), "it is about this program's own gradients"),
    "preset": (no_objective, "it is for the objective"),
    "pooling": (no_objective, "it is for the objective"),
}
"""Option -> when it would be given in vain, and why."""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "gradcheck",
        help="check gradients: this program's, or your own",
        description="Check gradients by the complex step, central differences and the adjoint.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "group",
        nargs="?",
        choices=("all", "layers", "losses", "objective"),
        default="all",
        help="what to check of this program [%(default)s]",
    )
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default=None, help="of the objective [default]"
    )
    parser.add_argument(
        "--pooling",
        choices=fields["pooling"].metadata["choices"],
        help="of the objective [the preset's; both without a preset]",
    )
    parser.add_argument("--mutants", action="store_true", help="show that wrong ones are rejected")
    parser.add_argument("--function", metavar="MODULE:NAME", help="your backward pass, or loss")
    parser.add_argument("--of", metavar="MODULE:NAME", help="the forward pass it belongs to")
    parser.add_argument(
        "--shape",
        metavar="[NAME=]N,N,...",
        action="append",
        default=[],
        type=read_shape,
        help="of x, or of the parameter NAME [9,11,3]",
    )
    parser.add_argument(
        "--symmetric",
        metavar="NAME",
        action="append",
        default=[],
        help="make the parameter NAME a symmetric matrix",
    )
    parser.add_argument(
        "--seed", metavar="N", type=read_seed, default=0, help="of the random numbers [0]"
    )
    parser.set_defaults(run=run, parser=parser)


def read_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """'kernel=3,3,3,4' -> name and shape; the name of x is ''."""
    name, _, numbers = text.rpartition("=")
    try:
        shape = tuple(int(number) for number in numbers.split(","))
    except ValueError:
        shape = (0,)
    if min(shape) < 1:
        message = f"'{text}' is no shape; write whole numbers above 0, such as 9,11,3 or bias=4"
        raise argparse.ArgumentTypeError(message)
    return name, shape


def read_seed(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no seed; write a whole number, 0 or more")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Check what was asked for; print a table; return the exit code."""
    for option, (idle, why) in IDLE.items():
        if getattr(args, option) and idle(args):
            raise UsageError(f"--{option} does nothing here: {why}")
    if args.function:
        return check_own(args)
    if args.mutants:
        return check_mutants(args.group)
    from ..checklist import COORDINATES, LAYERS, LOSSES, objective
    from ..gradcheck import check

    verdicts: list[Iterable[Verdict]] = []
    if args.group in ("all", "layers"):
        verdicts += map(check, LAYERS)
    if args.group in ("all", "losses"):
        verdicts += map(check, LOSSES)
    if args.group in ("all", "objective"):
        verdicts.append(check(COORDINATES))
        for settings in objectives(args.preset, args.pooling):
            name = f"objective, {args.preset or 'default'}, {settings.pooling} pooling"
            verdicts.append(objective(name, settings))
    bad = table(chain.from_iterable(verdicts))
    say(f"{count(bad, 'check')} failed" if bad else "all gradients are right", sys.stdout)
    return int(bad > 0)


def objectives(preset: str | None, pooling: str | None) -> list[Settings]:
    """The settings asked for; the default's with either pooling if nothing is."""
    base = Settings.preset(preset or "default")
    poolings = [pooling] if pooling else [base.pooling] if preset else ["max", "avg"]
    return [dataclasses.replace(base, pooling=pooling) for pooling in poolings]


def table(verdicts: Iterable[Verdict]) -> int:
    """Print a row for each as it comes; return how many did not pass."""
    bad = 0
    for verdict in verdicts:
        say(verdict.row(46), sys.stdout)
        bad += not verdict.passed
    return bad


def check_mutants(group: str) -> int:
    """Show how wrong the checks find gradients that are wrong."""
    from ..checklist import LAYERS, LOSSES
    from ..gradcheck import check
    from ..mutants import MUTANTS

    groups = {"layers": LAYERS, "losses": LOSSES, "all": (*LAYERS, *LOSSES), "objective": ()}
    names = {operation.name for operation in groups[group]}
    mutants = [mutant for mutant in MUTANTS if mutant.of in names]
    if not mutants:
        raise UsageError("--mutants has none for the objective; choose all, layers or losses")
    verdicts = [verdict for mutant in mutants for verdict in check(mutant.operation)]
    passed = len(verdicts) - table(verdicts)
    ending = f"{count(passed, 'check')} let one pass" if passed else "each found by every check"
    say(f"{count(len(mutants), 'wrong gradient')}, {ending}", sys.stdout)
    return int(passed > 0)


def check_own(args: argparse.Namespace) -> int:
    """Check somebody's functions; say what is likely wrong with them."""
    import numpy as np

    from ..gradcheck import adapt, check, diagnose

    shapes = dict(args.shape)
    of_x = shapes.pop("", (9, 11, 3))
    square = {name for name, (first, *rest) in shapes.items() if rest == [first]}
    for name in args.symmetric:
        if name not in square:
            raise UsageError(f"--symmetric {name} needs a square --shape {name}=N,N")
    function, of = find(args.function), find(args.of) if args.of else None

    def own(symmetric: Container[str]) -> tuple[Operation, Any]:
        """The operation, and the generator that has drawn its arguments."""
        rng = np.random.default_rng(args.seed)
        arguments: dict[str, Any] = {}
        for name, shape in shapes.items():
            arguments[name] = rng.standard_normal(shape)
            if name in symmetric:
                arguments[name] += arguments[name].T.copy()
        operation: Operation = adapt(function, of, arguments, of_x)
        return dataclasses.replace(operation, name=args.function), rng

    try:
        mistake = diagnose(*own(args.symmetric))
        if mistake and square - set(args.symmetric) and not diagnose(*own(square)):
            names = " ".join(f"--symmetric {name}" for name in sorted(square))
            mistake += f"; where it is given symmetric matrices it is right: add {names}"
        bad = 0 if mistake else table(check(*own(args.symmetric)))
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        raise RunError(
            f"{args.function} cannot be checked: {type(error).__name__}: {error} "
            "(python -X dev -m minimal_nst ... shows where)"
        ) from error
    if mistake:
        say(f"{args.function} is WRONG: {mistake}", sys.stdout)
    return int(bool(mistake) or bad > 0)


def find(name: str) -> Any:
    """Import what MODULE:NAME names; modules in the current folder are found too."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UsageError(f"'{name}' names no function; write MODULE:NAME, such as homework:relu")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        raise UsageError(f"'{name}' cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UsageError(f"'{name}' is {function!r}, which is no function")
    return function
