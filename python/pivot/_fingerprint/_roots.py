"""Which files are the user's code, and how they are named.

User code is every file below the project root or reached through ``sys.path`` that belongs
neither to the standard library nor to a folder of installed packages. Everything else that the
engine does follows from this one decision, so it is made here and nowhere else.
"""

from __future__ import annotations

import os
import re
import sys
from os.path import abspath, basename, dirname, join, realpath, relpath
from types import ModuleType

from ._own_builtins import OWN_BUILTINS as __builtins__  # noqa: F401, N811 - see there

__all__ = ["Roots"]

_SITE_NAMES = frozenset({"site-packages", "dist-packages"})


class Roots:
    """The project root and the folders on ``sys.path``, each with what it holds."""

    def __init__(self, root: str, extra_roots: list[str] | None = None) -> None:
        self.root = abspath(root)
        self.real_root = realpath(root)
        self.extra = [abspath(path) for path in extra_roots or []]
        self.own = dirname(dirname(abspath(__file__)))
        self._stdlib = _stdlib_folders()
        self._folders: dict[str, str] = {}
        self._holds_packages: dict[str, bool] = {}
        self._path: tuple[str, ...] = ()
        self._sites: list[str] = []
        self._masks: tuple[tuple[str, ...], re.Pattern[str]] | None = None

    def kind(self, path: str | None) -> str:
        """``user``, ``site``, ``stdlib``, ``pivot``, or ``none`` when it is no file at all."""
        if not path or path[0] == "<":
            return "none"
        folder = dirname(path)
        if tuple(sys.path) != self._path:
            self._read_path()
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = self._folder_kind(abspath(folder))
        return known

    def module_kind(self, module: ModuleType) -> str:
        """The kind of a live module; namespace packages take it from their folders."""
        namespace = module.__dict__
        file = namespace.get("__file__")
        if isinstance(file, str):
            return self.kind(file)
        name = namespace.get("__name__")
        if name == "pivot" or (isinstance(name, str) and name.startswith("pivot.")):
            return "pivot"
        spec = namespace.get("__spec__")
        origin = getattr(spec, "origin", None)
        if origin in ("built-in", "frozen"):
            return "stdlib"
        locations = namespace.get("__path__")
        if locations is not None:
            try:
                kinds = {self.kind(join(entry, "x")) for entry in locations}
            except TypeError:
                kinds = set()
            if "user" in kinds:
                return "user"
            if kinds:
                return kinds.pop()
        if isinstance(name, str) and (
            name in sys.builtin_module_names or name.partition(".")[0] in sys.stdlib_module_names
        ):
            return "stdlib"
        # Made by hand (`types.ModuleType("x")`): only user code can have filled it.
        return "user" if spec is None else "none"

    def is_user(self, path: str | None) -> bool:
        """Whether this file is the user's code."""
        return self.kind(path) == "user"

    def user_path(self) -> list[str]:
        """The folders of ``sys.path`` that hold user code, in order, without duplicates."""
        found: list[str] = []
        for entry in sys.path:
            folder = abspath(entry or os.getcwd())
            if folder not in found and self.kind(join(folder, "x")) == "user":
                found.append(folder)
        return found

    def sites(self) -> list[str]:
        """The folders of installed packages on ``sys.path``."""
        if tuple(sys.path) != self._path:
            self._read_path()
        return list(self._sites)

    def relative(self, path: str) -> str:
        """The path as reports show it: relative to the project root, with ``/``."""
        full = abspath(path)
        for root in (self.root, self.real_root):
            if full.startswith(root + os.sep):
                return full[len(root) + 1 :].replace(os.sep, "/")
        try:
            return relpath(full, self.root).replace(os.sep, "/")
        except ValueError:  # another drive
            return basename(full)

    def mask(self, text: str) -> str:
        """``text`` without the places of this machine, so that a moved folder is no change."""
        places, pattern = self._places()
        for place in places:
            if place in text:
                return pattern.sub(self._placeholder, text)
        return text

    def mask_needles(self) -> tuple[str, ...]:
        """The texts that :meth:`mask` looks for."""
        return self._places()[0]

    def _places(self) -> tuple[tuple[str, ...], re.Pattern[str]]:
        if tuple(sys.path) != self._path or self._masks is None:
            self._read_path()
            places = [self.root, self.real_root, *self.user_path(), sys.prefix, sys.base_prefix]
            unique = tuple(
                sorted({p for p in places if len(p) > 1 and p != os.sep}, key=len, reverse=True)
            )
            pattern = re.compile("(" + "|".join(map(re.escape, unique)) + r")(?![\w.\-])")
            self._masks = (unique, pattern)
        return self._masks

    def _placeholder(self, match: re.Match[str]) -> str:
        place = match.group(1)
        if place in (self.root, self.real_root):
            return "<root>"
        if place in (sys.prefix, sys.base_prefix):
            return "<prefix>"
        return "<path>"

    def _read_path(self) -> None:
        self._path = tuple(sys.path)
        self._folders.clear()
        self._masks = None
        self._sites = []
        for entry in self._path:
            folder = abspath(entry) if entry else os.getcwd()
            if folder in self._sites or folder in (self.root, self.real_root):
                continue
            named = not _SITE_NAMES.isdisjoint(folder.split(os.sep))
            if named or (not self._in_stdlib(folder) and self._has_distributions(folder)):
                self._sites.append(folder)

    def _has_distributions(self, folder: str) -> bool:
        known = self._holds_packages.get(folder)
        if known is None:
            try:
                known = any(name.endswith(".dist-info") for name in os.listdir(folder))
            except OSError:
                known = False
            self._holds_packages[folder] = known
        return known

    def _in_stdlib(self, folder: str) -> bool:
        return any(folder == lib or folder.startswith(lib + os.sep) for lib in self._stdlib)

    def _folder_kind(self, folder: str) -> str:
        if folder == self.own or folder.startswith(self.own + os.sep):
            return "pivot"
        if folder == dirname(self.own):
            return "pivot" if folder != self.root else "user"
        below = folder
        for root in (self.root, self.real_root):
            if folder == root or folder.startswith(root + os.sep):
                below = folder[len(root) :]
                break
        if not _SITE_NAMES.isdisjoint(below.split(os.sep)):
            return "site"
        for site in self._sites:
            if folder == site or folder.startswith(site + os.sep):
                return "site"
        if below is folder and self._in_stdlib(folder):
            return "stdlib"
        return "user"


def _stdlib_folders() -> tuple[str, ...]:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folders = {dirname(abspath(os.__file__))}
    for prefix in (sys.base_prefix, sys.base_exec_prefix):
        for lib in ("lib", getattr(sys, "platlibdir", "lib")):
            folders.add(join(prefix, lib, version))
    folders |= {realpath(folder) for folder in folders}
    return tuple(sorted(folders))
