"""Commands of the program that work for a while, in a process of their own.

So a long replay neither holds the interpreter's lock nor leaves memory behind, and Ctrl-C means what it means on the command
line: the first stops in good order, with a checkpoint; a second one ends at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from ._errors import of_code

#: What the program logs, at its own levels.
logger = logging.getLogger("negstream")

_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO, "DEBUG": logging.DEBUG, "TRACE": 5}


def run(arguments: list[str], settings: list[str], on_line: Callable[[dict[str, Any]], None] | None = None) -> str:
    """Runs a command to its end, and gives what it printed.

    ``on_line`` gets each line of its log, as a mapping. Raises the exception of its exit status.
    """
    # Lines are for machines whatever is configured: the last setting wins.
    layers = [f"--set={setting}" for setting in [*settings, "log.format=json", "log.progress_seconds=0.2"]]
    asked = json.dumps({"parent": os.getpid(), "arguments": [arguments[0], *layers, *arguments[1:]]})
    interrupted = False
    said: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            # -P: a file beside the notebook that is called as a module is must not be taken for it.
            [sys.executable, "-P", "-m", "negstream._worker"],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # A session of its own: Ctrl-C reaches it through here alone, once.
            start_new_session=True,
        )
        try:
            assert process.stdin is not None and process.stderr is not None
            with contextlib.suppress(BrokenPipeError):
                # Where it could not even start, what it says tells why.
                process.stdin.write(asked)
                process.stdin.close()
            while True:
                try:
                    _follow(process.stderr, said, on_line)
                    code = process.wait()
                    break
                except KeyboardInterrupt:
                    process.send_signal(signal.SIGINT)
                    if interrupted:
                        process.wait()
                        raise
                    interrupted = True
        except BaseException:
            if process.poll() is None:
                process.terminate()
            # Nobody reads on, and whoever waits to be read would never end.
            assert process.stderr is not None
            process.stderr.close()
            process.wait()
            raise
        process.stderr.close()
        if interrupted:
            raise KeyboardInterrupt
        if code != 0:
            message = "\n".join(said).strip().removeprefix("negstream: ")
            raise of_code(code, message or f"the program ended with exit status {code}")
        printed.seek(0)
        return printed.read()


def _follow(lines: Any, said: list[str], on_line: Callable[[dict[str, Any]], None] | None) -> None:
    for line in lines:
        line = line.rstrip("\n")
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            said.append(line)
            continue
        message = entry.get("message", "")
        if message != "training":
            logger.log(_LEVELS.get(entry.get("level", ""), logging.INFO), "%s", message, extra={"fields": entry})
        if on_line is not None:
            on_line(entry)
