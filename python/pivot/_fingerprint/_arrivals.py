"""Which modules have come since a moment, told without a look at those that were there before.

``sys.modules`` keeps the order in which names came, so the new ones are its last. To ask for each
name whether it is new would touch all of them, and in a process that was forked a touch copies the
page that it lies on: hundreds of pages beside a library such as pandas.
"""

from __future__ import annotations

import sys
from itertools import islice

from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

__all__ = ["Arrivals"]

_MARKS = 3  # so many names in their old order say that nobody has moved the last of them


class Arrivals:
    """The modules that came after this was made."""

    def __init__(self) -> None:
        self._known: tuple[frozenset[str], ...] = (frozenset(sys.modules),)
        self._remember()

    def since(self) -> Arrivals:
        """The same from now on."""
        later = object.__new__(Arrivals)
        later._known = (*self._known, frozenset(self.names()))
        later._remember()
        return later

    def names(self) -> list[str]:
        """Their names, in the order in which they came."""
        try:
            walk = reversed(sys.modules)
            new: list[str] = []
            for name in walk:
                if name == self._marks[0]:
                    break
                new.append(name)
            is_as_before = list(islice(walk, len(self._marks) - 1)) == self._marks[1:]
            if is_as_before and len(new) + self._count == len(sys.modules):
                return new[::-1]
        except (RuntimeError, TypeError):
            pass  # a thread imports, or the user has put another mapping there
        return [name for name in list(sys.modules) if not any(name in some for some in self._known)]

    def _remember(self) -> None:
        self._count = len(sys.modules)
        self._marks = list(islice(reversed(sys.modules), _MARKS))
