"""Starts the program: `main.py` in a clone, `fastbat-tf` once installed."""

import signal


def run():
    """Runs the program, whose imports Ctrl-C ends without a traceback."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import program

    program.run()
