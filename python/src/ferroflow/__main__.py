"""The program ``ferroflow``, also as ``python -m ferroflow``."""

import signal
import sys

from ferroflow import _native


def main() -> None:
    # Python would note Ctrl-C and wait for the program to end; the program stops by itself, and saves what it trains.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_native.main(sys.argv))


if __name__ == "__main__":
    main()
