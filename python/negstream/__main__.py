"""``python -m negstream`` and the command ``negstream``: the whole program."""

from __future__ import annotations

import os
import signal
import sys

from . import _native


def main() -> int:
    """Runs the program with the arguments of the process, and gives its exit status."""
    if os.name == "posix":
        # Commands that do not listen to Ctrl-C end by it, as programs do.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(["negstream", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
