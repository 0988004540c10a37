"""An import, as a statement says it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Imported"]


class Imported(NamedTuple):
    """A name that an import statement binds."""

    module: str
    level: int
    attribute: str | None
    line: int
