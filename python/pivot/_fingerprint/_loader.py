"""The loader of user modules: the bytes that are hashed are the bytes that run.

A module of the user is read once; the same bytes are hashed, compiled and later parsed. No
``.pyc`` is read or written for it, so neither a stale cache file nor an editor that saves in
between can make the fingerprint describe other code than what was executed.
"""

from __future__ import annotations

import builtins
import sys
from importlib.machinery import SourceFileLoader
from os.path import abspath
from types import CodeType
from typing import Any

from ._compiled import Compiled
from ._hashing import content_hash
from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there
from ._record import stat_tuple
from ._roots import Roots
from ._source import Source

__all__ = ["Sources"]

_original_get_code = SourceFileLoader.get_code
_original_parts = (SourceFileLoader.source_to_code, SourceFileLoader.get_data, compile)


class Sources:
    """Every user file whose code was loaded in this process."""

    def __init__(self, roots: Roots, compiled: Compiled | None = None) -> None:
        self.roots = roots
        self.compiled = compiled
        self.by_path: dict[str, Source] = {}
        self.by_module: dict[str, Source] = {}
        self.importers: dict[str, set[str]] = {}
        """Module name -> user modules whose top-level code first imported it."""
        self.fresh: list[Source] = []
        """Those that had to be compiled."""
        self.loads = 0
        """How many times code of the user's was loaded to be executed."""
        self._earlier: list[Source] = []

    def install(self) -> None:
        """Route all user modules through this registry, however they are imported."""
        sources = self

        def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
            path = self.get_filename(fullname)
            if not sources.roots.is_user(path):
                return _original_get_code(self, fullname)
            before = stat_tuple(path)
            data = self.get_data(path)
            digest, outline = content_hash(data), None
            # A loader of the user's may make other code of the same text.
            compiled = sources.compiled
            plain = type(self) is SourceFileLoader and _is_plain()
            known = compiled.read(path, data, digest) if plain and compiled is not None else None
            if known is not None:
                code, outline = known
            else:
                code = self.source_to_code(data, path)
            source = sources.add(fullname, path, data, code, digest, outline)
            source.stat = before
            source.is_plain = plain
            if plain and known is None and source.code is code:
                sources.fresh.append(source)
            return code

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]

    @staticmethod
    def uninstall() -> None:
        """Give the interpreter its own loader back."""
        SourceFileLoader.get_code = _original_get_code  # type: ignore[method-assign]

    def keep(self) -> None:
        """Keep what was compiled, for the processes that come after."""
        if self.compiled is None or not self.fresh:
            return
        # Only here: where nothing was compiled, nothing of it is needed.
        from ._outline import outline_of

        for source in self.fresh:
            try:
                outline = outline_of(source)
            except RecursionError:
                continue
            self.compiled.write(source.path, source.data, source.digest, source.code, outline)
        self.fresh.clear()
        self.compiled.sweep()

    def add(
        self,
        name: str,
        path: str,
        data: bytes,
        code: CodeType,
        digest: str | None = None,
        outline: tuple[Any, ...] | None = None,
    ) -> Source:
        """Remember the bytes and the code of one module."""
        self.loads += 1
        source = Source(path, data, code, name, digest, outline)
        previous = self.by_path.get(path)
        if previous is not None:
            if previous.data == data:
                # Two loads of one file: both code objects belong to the same text.
                previous.also(code)
                self.by_module[name] = previous
                return previous
            self._earlier.append(previous)
        self.by_path[path] = source
        self.by_module[name] = source
        importer = _importing_module(self.by_path)
        if importer is not None:
            self.importers.setdefault(name, set()).add(importer)
        return source

    def of_code(self, code: CodeType) -> Source | None:
        """The source whose text this code was compiled from, if it is a user file."""
        path = code.co_filename
        source = self.by_path.get(path)
        if source is not None:
            if not source.holds(code):
                for other in self._earlier:
                    if other.path == path and other.holds(code):
                        return other
            return source
        return self.read(path)

    def read(self, path: str) -> Source | None:
        """A user file that was executed without an import (``runpy``, ``exec``), or before us."""
        if not self.roots.is_user(path) or not path.endswith((".py", ".pyw")):
            return None
        before = stat_tuple(path)
        try:
            with open(path, "rb") as file:
                data = file.read()
            code = compile(data, path, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError):
            return None
        # `runpy` names a script as it was given, relative to the folder of that moment.
        source = Source(abspath(path), data, code, None)
        source.stat = before
        self.by_path[path] = source
        return source

    def of_module(self, name: str) -> Source | None:
        """The source of an imported user module."""
        source = self.by_module.get(name)
        if source is None:
            module = sys.modules.get(name)
            file = getattr(module, "__file__", None)
            if isinstance(file, str):
                source = self.by_path.get(file) or self.read(file)
        return source


def _is_plain() -> bool:
    """Whether Python's own loader still compiles as it does."""
    now = (SourceFileLoader.source_to_code, SourceFileLoader.get_data, builtins.compile)
    return all(one is other for one, other in zip(now, _original_parts, strict=True))


def _importing_module(known: dict[str, Source]) -> str | None:
    """The user module whose top-level code is being executed right now."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename in known:
            name = frame.f_globals.get("__name__")
            return name if isinstance(name, str) else None
        frame = frame.f_back  # type: ignore[assignment]
    return None
