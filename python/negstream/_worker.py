"""The process that :mod:`negstream._program` starts: arguments come by standard input, where no list of processes shows them."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from . import _native


def main() -> int:
    arguments = json.load(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        # Whoever started it is gone: it stops in good order, as by SIGTERM. (1 is PR_SET_PDEATHSIG.)
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        if os.getppid() != arguments["parent"]:
            return 143
    return _native.main(["negstream", *arguments["arguments"]])


if __name__ == "__main__":
    sys.exit(main())
