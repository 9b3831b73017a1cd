"""The exceptions of the package: one for each exit status of the program, with the program's own words."""

from __future__ import annotations


class Error(Exception):
    """An error of negstream. Its text is what the program says: key, place and remedy."""

    #: The exit status that the program would have ended with (``negstream --help`` has the table).
    code: int = 1


class UsageError(Error, ValueError):
    """Wrong arguments or configuration; nothing was touched."""

    code = 2


class SourceError(Error):
    """A log cannot be read, or does not hold what it should."""

    code = 3


class CheckpointError(Error):
    """No usable checkpoint, or none could be written."""

    code = 4


class ListenError(Error):
    """The address of ``http.listen`` is not to be had."""

    code = 5


class FencedError(Error):
    """Another worker is at work on the checkpoints, or took over."""

    code = 6


class DivergedError(Error):
    """A loss or a parameter is NaN or infinite; nothing was saved since the last checkpoint."""

    code = 7


class SinkError(Error):
    """A sink of embeddings cannot be reached, or refuses."""

    code = 8


_CLASSES = (UsageError, SourceError, CheckpointError, ListenError, FencedError, DivergedError, SinkError)


def of_code(code: int, message: str) -> Error:
    """The exception for an exit status of the program."""
    for kind in _CLASSES:
        if kind.code == code:
            return kind(message)
    error = Error(message)
    error.code = code
    return error
