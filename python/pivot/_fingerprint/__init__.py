"""The code fingerprint: what a stage's result depends on, as named hashes.

Three layers. *Values*: after the pipeline is imported, everything that a stage's function can
reach at run time is hashed, object by object (`_graph`, `_encoder`). *Witness*: what the import
read and looked for, so that the result can be reused without Python (`_witness`). *Observation*:
what really ran, read during a stage (`_observe`, `_extras`).

Start reading at `_session`, then `_manifest` and `_graph`.
"""

from ._extras import digest as extra_digest
from ._manifest import Fingerprint
from ._session import Session

__all__ = ["Fingerprint", "Session", "extra_digest"]
