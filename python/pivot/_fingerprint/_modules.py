"""The user's modules: what an import leads to, and importing now what code imports later."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

from ._component import Key
from ._roots import Roots

__all__ = ["UserModules", "absolute_name"]


class UserModules:
    """What an import of a name leads to."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.importing: Callable[[], contextlib.AbstractContextManager[None]]
        self.importing = contextlib.nullcontext
        """Entered while user code runs for an import."""
        self.looked_up: Callable[[str, Any], None] = _ignore
        """Told of each name that is looked for without an import."""
        self.listed: Callable[[str], None] = _ignore_folder
        """Told of each folder whose entries count."""
        self._loads: dict[str, str] = {}
        self._user_modules: list[types.ModuleType] | None = None

    def load(self, name: str) -> str:
        """Import a module that code will import later, if it is the user's; its kind."""
        known = self._loads.get(name)
        if known is not None:
            return known
        module = sys.modules.get(name)
        if module is not None:
            kind = self.roots.module_kind(module)
        else:
            kind = self.find_kind(name)
            if kind == "user":
                with self.importing():
                    try:
                        importlib.import_module(name)
                    except (Exception, SystemExit):
                        kind = "failed"
        self._loads[name] = kind
        return kind

    def file_of(self, name: str) -> Key | None:
        """The file of a user module that cannot be imported now."""
        folders = self.roots.user_path()
        for folder in folders:
            base = os.path.join(folder, *name.split("."))
            for path in (os.path.join(base, "__init__.py"), base + ".py"):
                if os.path.isfile(path) and self.roots.is_user(path):
                    return Key("file", "", self.roots.relative(path))
        return None

    def package_files(self, package: types.ModuleType) -> list[Key]:
        """The modules directly in a package, loaded or not."""
        found: list[Key] = []
        for folder in list(package.__path__) if hasattr(package, "__path__") else []:
            self.listed(folder)
            for entry in sorted(os.listdir(folder)):
                path = os.path.join(folder, entry)
                inner = os.path.join(path, "__init__.py")
                path = inner if os.path.isfile(inner) else path
                if path.endswith(".py") and os.path.isfile(path) and self.roots.is_user(path):
                    found.append(Key("file", "", self.roots.relative(path)))
        return found

    def find_kind(self, name: str) -> str:
        """What an import of this name would find, without importing libraries."""
        top, _, rest = name.partition(".")
        self.looked_up(top, None)
        module = sys.modules.get(top)
        if module is not None:
            kind = self.roots.module_kind(module)
            if kind != "user" or not rest:
                return kind
            parent = name.rpartition(".")[0]
            if self.load(parent) != "user":
                return "missing"
            path = getattr(sys.modules.get(parent), "__path__", None)
            if path is None:
                return "missing"
            self.looked_up(name, path)
            with contextlib.suppress(Exception):
                if PathFinder.find_spec(name, path) is not None:
                    return "user"
            return "missing"
        if top in sys.builtin_module_names or top in sys.stdlib_module_names:
            return self._shadowed(top)
        spec = None
        with contextlib.suppress(Exception):
            spec = PathFinder.find_spec(top)
        if spec is None:
            return "missing"
        if spec.origin is not None and spec.has_location:
            kind = self.roots.kind(spec.origin)
        else:
            places = list(spec.submodule_search_locations or ())
            kinds = {self.roots.kind(os.path.join(place, "x")) for place in places}
            kind = "user" if "user" in kinds else next(iter(kinds), "missing")
        if kind == "user" and rest:
            if self.load(top) != "user":
                return "missing"
            return self.find_kind(name) if top in sys.modules else "missing"
        return kind

    def _shadowed(self, top: str) -> str:
        """A name of the standard library that is not loaded yet: the user may have one, too."""
        if top in sys.builtin_module_names:
            return "stdlib"
        with contextlib.suppress(Exception):
            spec = PathFinder.find_spec(top)
            if spec is not None and spec.origin is not None:
                return self.roots.kind(spec.origin)
        return "stdlib"

    def is_user_module_name(self, name: str) -> bool:
        """Whether a text is the name of a user module; it is imported then."""
        top = name.partition(".")[0]
        if top not in sys.modules:
            self.looked_up(top, None)
            if not any(
                os.path.exists(os.path.join(folder, top + ".py"))
                or os.path.exists(os.path.join(folder, top, "__init__.py"))
                for folder in self.roots.user_path()
            ):
                return False
        return self.load(name) == "user" and name in sys.modules

    def module_title(self, module: types.ModuleType) -> str:
        """The module as notes call it: its file, if it has one."""
        file = getattr(module, "__file__", None)
        return self.roots.relative(file) if isinstance(file, str) else module.__name__

    def freeze_user_modules(self) -> None:
        """From here on, "all modules" means those that the pipeline's import has loaded."""
        self._user_modules = self._loaded_user_modules()

    def user_modules(self) -> list[types.ModuleType]:
        """The user modules that the pipeline's import has loaded."""
        return self._user_modules if self._user_modules is not None else self._loaded_user_modules()

    def _loaded_user_modules(self) -> list[types.ModuleType]:
        found = []
        for name, module in sorted(sys.modules.items(), key=lambda pair: pair[0]):
            if isinstance(module, types.ModuleType) and name == getattr(module, "__name__", None):
                file = getattr(module, "__file__", None)
                if isinstance(file, str) and self.roots.is_user(file):
                    found.append(module)
        return found


def _ignore_folder(folder: str) -> None:
    """Stands in where nobody records listings."""


def _ignore(name: str, path: Any) -> None:
    """Stands in where nobody records look-ups."""


def absolute_name(module: str, level: int, package: str) -> str:
    """The absolute name of a module in an import statement."""
    if not level:
        return module
    parts = package.split(".") if package else []
    base = parts[: max(len(parts) - (level - 1), 0)]
    return ".".join([*base, module] if module else base)
