"""The parts of the standard library that the engine uses, as they were before user code ran.

User code may replace ``builtins.sorted`` or ``os.path.join``. While the engine works, the
originals are put back, so that it neither breaks nor runs user code; what was replaced is kept
aside, since for the fingerprint it is the user's version that counts.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import marshal
import os
import re
import struct
import types
from collections.abc import Generator
from operator import is_
from typing import Any

__all__ = ["Pristine"]

_MODULES = (builtins, os, os.path, ast, contextlib, importlib, marshal, re, struct, types)
# The recorder swaps these by itself.
_RECORDED = frozenset({"stat", "lstat", "access", "readlink"})


class Pristine:
    """Remembers the originals when it is made."""

    def __init__(self) -> None:
        self._originals = [(module, dict(vars(module))) for module in _MODULES]
        self._depth = 0
        self._replaced: list[tuple[types.ModuleType, str, Any]] = []

    @contextlib.contextmanager
    def restored(self) -> Generator[dict[tuple[str, str], Any], None, None]:
        """Put the originals back for a while; yields what the user's code had put there."""
        patched: dict[tuple[str, str], Any] = {}
        if self._depth:
            yield patched
            return
        self._put_back(patched)
        self._depth += 1
        try:
            yield patched
        finally:
            self._depth -= 1
            for module, name, current in self._replaced:
                if current is self:
                    vars(module).pop(name, None)
                else:
                    vars(module)[name] = current
            self._replaced.clear()

    def again(self) -> None:
        """Put the originals back once more, after user code ran while they were in place."""
        self._put_back({})

    def _put_back(self, patched: dict[tuple[str, str], Any]) -> None:
        for module, originals in self._originals:
            namespace = vars(module)
            if len(namespace) == len(originals) and all(
                map(is_, namespace.values(), originals.values())
            ):
                continue  # the same values in the same order
            for name, original in originals.items():
                current = namespace.get(name, self)
                if current is original or (module is os and name in _RECORDED):
                    continue
                self._replaced.append((module, name, current))
                if current is not self:
                    patched[module.__name__, name] = current
                namespace[name] = original
