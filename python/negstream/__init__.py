"""Recommendation embeddings from a stream of user-item interactions: replay logs, ask models, draw negatives.

===========================  ==================================================================================
:func:`replay`               learns a log in one pass, each event ranked before it is learnt; gives a :class:`Report`
:func:`compare`              several settings, and peers that count, on the same events; gives a :class:`Comparison`
:func:`import_vectors`       a model that begins with the item vectors of another one; gives a :class:`Checkpoint`
:func:`open`                 a checkpoint: vectors, neighbours, recommendations, exports; gives a :class:`Checkpoint`
:mod:`negstream.samplers`    streaming negatives with exact probabilities, for training loops of your own
===========================  ==================================================================================

The command ``negstream`` is installed along with the package, and is the whole program.
"""

from ._checkpoint import Checkpoint, Neighbor, Recommendation, Recommendations, open
from ._compare import Comparison, Contestant, compare
from ._errors import (
    CheckpointError,
    DivergedError,
    Error,
    FencedError,
    ListenError,
    SinkError,
    SourceError,
    UsageError,
)
from ._import import import_vectors
from ._native import version as _version
from ._replay import Report, replay

__version__: str = _version()

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Comparison",
    "Contestant",
    "DivergedError",
    "Error",
    "FencedError",
    "ListenError",
    "Neighbor",
    "Recommendation",
    "Recommendations",
    "Report",
    "SinkError",
    "SourceError",
    "UsageError",
    "__version__",
    "compare",
    "import_vectors",
    "open",
    "replay",
]
