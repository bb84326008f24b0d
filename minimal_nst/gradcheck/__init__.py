"""Is this gradient right? A small library that works on anybody's NumPy functions.

Give it a function and what you believe to be its backward pass::

    from minimal_nst.gradcheck import Operation, check, diagnose

    relu = Operation("relu", lambda x: np.maximum(x, 0), lambda dy, x: dy * (x > 0))
    for verdict in check(relu):
        print(verdict)

`methods` has the four ways to check, each a function that returns an error; `operation` applies
them to a pair of functions; `diagnosis` says in words how a wrong gradient is wrong. None of them
knows anything of networks.
"""

from .diagnosis import diagnose, numeric_gradient
from .methods import adjoint, central_difference, complex_step, kinks_crossed, taylor_rates
from .operation import EXACT, Operation, Verdict, adapt, check

__all__ = [
    "EXACT",
    "Operation",
    "Verdict",
    "adapt",
    "adjoint",
    "central_difference",
    "check",
    "complex_step",
    "diagnose",
    "kinks_crossed",
    "numeric_gradient",
    "taylor_rates",
]
