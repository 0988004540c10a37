"""Whose an object is: the user's, a library's, or Pivot's own."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from typing import Any

from ._encoder import is_scalar, type_name
from ._roots import Roots

__all__ = ["Owners"]

_HOLDS_MAX = 200  # objects looked at in a library's wrapper


class Owners:
    """Tells owners apart by the files that code comes from."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self._owners: dict[int, tuple[Any, str]] = {}
        self._patches: dict[int, tuple[Any, list[tuple[str, Any]]]] = {}

    def function_owner(self, value: types.FunctionType) -> str:
        """``user``, ``library`` or ``pivot``, by the file that the code was compiled from."""
        path = value.__code__.co_filename
        kind = self.roots.kind(path)
        if kind == "user" or kind == "pivot":
            return kind
        if kind != "none" or path.startswith("<frozen "):
            return "library"
        namespace = value.__globals__
        name = namespace.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is None or vars(module) is not namespace:
            return "user"
        kind = self.roots.module_kind(module)
        return kind if kind in ("user", "pivot") else "library"

    def class_owner(self, value: type) -> str:
        """``user``, ``library`` or ``pivot``, by the module that the class says it is of."""
        known = self._owners.get(id(value))
        if known is None:
            known = self._owners[id(value)] = (value, self._class_owner(value))
        return known[1]

    def _class_owner(self, value: type) -> str:
        if not value.__flags__ & (1 << 9):
            return "library"  # implemented in C
        name = value.__module__
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is None:
            return "user"
        kind = self.roots.module_kind(module)
        return kind if kind in ("user", "pivot") else "library"

    def holds_user_code(self, value: Any) -> bool:
        """Whether a library's function carries functions or objects of the user."""
        pending, met = [value], {id(value)}
        for _ in range(_HOLDS_MAX):
            if not pending:
                return False
            item = pending.pop()
            inner: list[Any] = []
            if type(item) is types.FunctionType:
                if item is not value and self.function_owner(item) == "user":
                    return True
                inner += _contents(item.__closure__ or ())
                inner += vars(item).values()
            elif isinstance(item, functools.partial):
                inner += [item.func, *item.args, *item.keywords.values()]
            elif isinstance(item, types.MethodType):
                inner += [item.__func__, item.__self__]
            elif isinstance(item, type):
                if self.class_owner(item) == "user":
                    return True
            elif type(item) in (dict, types.MappingProxyType):
                inner += list(item.values())[:50]
            elif type(item) in (list, tuple):
                inner += list(item)[:50]
            elif hasattr(item, "__wrapped__"):
                inner.append(item.__wrapped__)
            elif not is_scalar(type(item)) and self.class_owner(type(item)) == "user":
                return True
            for one in inner:
                if id(one) not in met:
                    met.add(id(one))
                    pending.append(one)
        return True

    def user_patches(self, value: type) -> list[tuple[str, Any]]:
        """The user's functions in a library's class."""
        known = self._patches.get(id(value))
        if known is None:
            found: list[tuple[str, Any]] = []
            for base in value.__mro__ if value.__flags__ & (1 << 9) else ():
                for name, entry in list(vars(base).items()):
                    inner = (
                        getattr(entry, "__func__", None) or getattr(entry, "fget", None) or entry
                    )
                    if type(inner) is types.FunctionType and self.roots.is_user(
                        inner.__code__.co_filename
                    ):
                        found.append((name, entry))
            known = self._patches[id(value)] = (value, found)
        return known[1]

    def subclasses(self, value: type) -> list[type]:
        """All user classes derived from this one, in an order that does not depend on the run."""
        found: dict[int, type] = {}
        pending = list(type.__subclasses__(value))
        while pending:
            item = pending.pop()
            if id(item) not in found and self.class_owner(item) == "user":
                found[id(item)] = item
                pending += type.__subclasses__(item)
        return sorted(found.values(), key=type_name)


def _contents(cells: tuple[Any, ...]) -> list[Any]:
    found = []
    for cell in cells:
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    return found
