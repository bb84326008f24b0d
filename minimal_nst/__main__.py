"""``python -m minimal_nst``."""

import signal
import sys


def run() -> None:
    """Run the program and end the process.

    While the program starts and when it ends, Ctrl-C ends the process without a word; while it
    paints, `cli.stylize` sees to it that the painting is kept.
    """
    painting = signal.getsignal(signal.SIGINT)
    if painting is signal.default_int_handler:  # not so if the shell has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    code = main(on_interrupt=painting)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    run()
