"""``python -m minimal_nst``."""

import signal
import sys


def run() -> None:
    """Run the program and end the process.

    While the program starts and when it ends, Ctrl-C ends the process without a word; while it
    paints, `cli.endings` sees to it that the painting is kept.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    sys.exit(main(after=signal.SIG_IGN))


if __name__ == "__main__":
    run()
