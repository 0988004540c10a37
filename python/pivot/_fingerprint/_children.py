"""Forked children of a stage: they tell the process itself what they have noted."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

__all__ = ["Children"]

_getpid, _write, _fstat = os.getpid, os.write, os.fstat
_dumps, _loads = json.dumps, json.loads


class Children:
    """What forked children note: they tell it through a file that all of them share."""

    def __init__(self) -> None:
        self.begin_here()
        self._file: int | None = None
        self._identity = (0, 0)

    def begin_here(self) -> None:
        """Be about the children of this process from now on."""
        self._parent = _getpid()

    def begin(self) -> None:
        """Make the file, before any child can be forked."""
        with contextlib.suppress(OSError, AttributeError):
            self._file = os.memfd_create("pivot-children")
            self._identity = self._identified(self._file)

    @staticmethod
    def _identified(file: int) -> tuple[int, int]:
        found = _fstat(file)
        return found.st_dev, found.st_ino

    def _opened(self) -> int | None:
        """The descriptor, unless user code has closed it, and perhaps opened another file there."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                if self._identified(self._file) == self._identity:
                    return self._file
        return None

    def end(self) -> None:
        """Close the file, when nothing more is to be told."""
        file = self._opened()
        if file is not None:
            os.close(file)
        self._file = None

    def is_child(self) -> bool:
        """Whether this process was forked while recording was on."""
        return _getpid() != self._parent

    def tell(self, *what: object) -> None:
        """In a child, write down what was noted; in the process itself it is known."""
        if not self.is_child():
            return
        file = self._opened()
        if file is not None:
            with contextlib.suppress(OSError):
                # One write a line: children write at the same time.
                _write(file, (_dumps(what) + "\n").encode("utf-8", "surrogatepass"))

    def told(self) -> Iterator[tuple[str, str, Any]]:
        """What all children have told: ``(what, text, detail)``."""
        file = self._opened()
        if file is None:
            return
        size, data = _fstat(file).st_size, b""
        while len(data) < size:
            part = os.pread(file, size - len(data), len(data))
            if not part:
                break
            data += part
        for line in data.splitlines():
            with contextlib.suppress(ValueError):
                what, text, *detail = _loads(line.decode("utf-8", "surrogatepass"))
                yield what, text, detail[0] if detail else None
