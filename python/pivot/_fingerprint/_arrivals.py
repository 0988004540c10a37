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
        # In this order: what a thread imports in between is new rather than lost.
        later._remember()
        later._known = (*self._known, frozenset(self.names()))
        return later

    def names(self) -> list[str]:
        """Their names, in the order in which they came."""
        new = self._behind_the_marks()
        if new is not None:
            return new
        return [name for name in list(sys.modules) if not any(name in some for some in self._known)]

    def _behind_the_marks(self) -> list[str] | None:
        """The names behind the last old ones; None where old ones were moved or removed.

        Where the marks stand as they stood, a name that was moved behind them adds to the sum and
        one that was removed takes from it; they would have to be as many, and the marks untouched.
        """
        new: list[str] = []
        try:
            walk = reversed(sys.modules)
            for name in walk:
                if self._marks[:1] == [name]:
                    break
                new.append(name)
            is_as_before = list(islice(walk, len(self._marks) - 1)) == self._marks[1:]
        except (RuntimeError, TypeError):
            return None  # a thread imports, or the user has put another mapping there
        is_complete = len(new) + self._count == len(sys.modules)
        return new[::-1] if self._marks and is_as_before and is_complete else None

    def _remember(self) -> None:
        self._count = len(sys.modules)
        try:
            self._marks = list(islice(reversed(sys.modules), _MARKS))
        except (RuntimeError, TypeError):
            self._marks = []
