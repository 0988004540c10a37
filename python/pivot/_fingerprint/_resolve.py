"""What the names in a piece of code mean, by the live objects.

Static analysis says which edges there are; the objects that the edges lead to are those of the
running interpreter, so star imports, re-exports, patches and conditional definitions need no
special treatment. Where a name is computed, its possible values are computed too; where that
fails, the code depends on something larger, and a note says why.
"""

from __future__ import annotations

import ast
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._component import Key
from ._evaluate import Environment, Meaning
from ._imported import Imported
from ._names import Use
from ._special import SpecialNames

if TYPE_CHECKING:
    from ._names import Binding

__all__ = ["Environment", "Meaning", "Resolver"]


class Resolver(SpecialNames):
    """Resolves the names of one piece of code, for one component."""

    def run(self) -> dict[str, Meaning]:
        """Each name with its attributes, as far as they lead through modules -> its meaning."""
        if self.environment.module is not None:
            self.component.modules[self.environment.module] = None
        for entry, _ in self.names.imports:
            self.bring_in(entry)
        for use in self.names.outer:
            value, origin, known = self.look_up(str(use.root))
            if known:
                self.follow(value, origin, str(use.root), use.attributes, use)
                continue
            self.is_plain = False
            if not self._late(use):
                self.found.setdefault(str(use.root), ("missing",))
        for use, bindings in self.names.local:
            self._local(use, bindings)
        for use in self.names.chains:
            if not isinstance(use.root, ast.expr):
                continue
            for value in self.evaluate(use.root, use.scope) or ():
                if issubclass(type(value), ModuleType):
                    self.follow(value, None, value.__name__, use.attributes, use)
        if "__subclasses__" in self.names.attributes:
            self.subclasses()
        if not (
            _LOCAL_TIME.isdisjoint(self.names.attributes)
            and _LOCAL_TIMES.isdisjoint(self.component.libraries)
        ):
            self.found["environ[TZ]"] = ("ref", Key("env", "", "TZ"))  # C reads it
        return self.found

    # ------------------------------------------------------------------ names

    def _late(self, use: Use) -> bool:
        """A global that a function binds by an import when it runs."""
        source = self.graph.sources.of_module(self.environment.module or "")
        entries = source.late_imports(str(use.root)) if source is not None else []
        for entry in entries:
            self.bring_in(entry)
            if entry.attribute is not None:
                self._local_from(entry, use)
                continue
            module = sys.modules.get(entry.module)
            if module is not None:
                self.follow(module, None, f"import {entry.module}", use.attributes, use)
            else:
                self._absent_module(entry.module, use.attributes)
        return bool(entries)

    def _local(self, use: Use, bindings: list[Binding]) -> None:
        for kind, what in bindings:
            if kind == "module":
                module = sys.modules.get(what)
                if module is not None:
                    self.follow(module, None, f"import {what}", use.attributes, use)
                else:
                    self._absent_module(what, use.attributes)
            elif kind == "from":
                self._local_from(what, use)
            elif kind == "value" and use.attributes:
                if len(bindings) == 1 and isinstance(
                    what, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)
                ):
                    for value in self.evaluate(what, use.scope) or ():
                        if issubclass(type(value), ModuleType):
                            self.follow(value, None, value.__name__, use.attributes, use)
            elif kind == "item" and use.attributes:
                for value in self.items(what, use.scope, 0) or ():
                    if issubclass(type(value), ModuleType):
                        self.follow(value, None, value.__name__, use.attributes, use)
            if kind in ("value", "item") and not use.attributes:
                self._stored_module(use, kind, what)

    def _stored_module(self, use: Use, kind: str, what: ast.expr) -> None:
        """A local that stands for a module, and is not only read from."""
        if kind == "value" and not isinstance(
            what, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)
        ):
            return
        values = (
            self.evaluate(what, use.scope) if kind == "value" else self.items(what, use.scope, 0)
        )
        for value in values or ():
            if issubclass(type(value), ModuleType):
                self.follow(value, None, value.__name__, (), use)

    def _local_from(self, entry: Imported, use: Use) -> None:
        name = self.absolute(entry)
        if name is None or entry.attribute is None:
            return
        module = sys.modules.get(name)
        if module is None:
            self._absent_module(name, (entry.attribute, *use.attributes))
            return
        self.follow(module, None, f"from {name}", (entry.attribute, *use.attributes), use)

    def _absent_module(self, name: str, attributes: tuple[str, ...]) -> None:
        kind = self.graph.find_kind(name)
        if kind == "pivot":
            return
        path = ".".join((name, *attributes))
        if kind in ("site", "stdlib"):
            self._library(name)
            self.found[f"import {path}"] = ("lib", path)
        else:
            self.found[f"import {path}"] = ("missing",)

    def _library(self, dotted: str) -> None:
        self.component.libraries[dotted] = None

    # ------------------------------------------------------------------ imports

    def bring_in(self, entry: Imported) -> None:
        """An import in a body: it happens now if it is of user code, and its effects count."""
        name = self.absolute(entry)
        if not name:
            return
        kind = self.graph.load(name)
        if entry.attribute is not None and kind == "user":
            module = sys.modules.get(name)
            if module is not None and entry.attribute not in vars(module):
                inner = f"{name}.{entry.attribute}"
                if self.graph.load(inner) == "user":
                    self.component.modules[inner] = None
        if kind == "user":
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                self.component.modules[".".join(parts[:end])] = None
        elif kind in ("site", "stdlib"):
            self._library(name)
        elif kind == "failed":
            # It fails here, and perhaps not where the stage runs: its text counts.
            key = self.graph.file_of(name)
            self.found[f"import {name}"] = ("ref", key) if key is not None else ("missing",)
        elif kind == "missing":
            self.found[f"import {name}"] = ("missing",)

    # ------------------------------------------------------------------ chains

    def follow(
        self,
        value: Any,
        origin: tuple[str, str] | None,
        path: str,
        attributes: tuple[str, ...],
        use: Use,
    ) -> None:
        """Go along attributes as long as they are those of modules."""
        rest = list(attributes)
        if origin is None:
            self.is_plain = False
        while issubclass(type(value), ModuleType):
            kind = self.graph.roots.module_kind(value)
            if kind == "pivot":
                return
            if not rest:
                self.is_plain = False
                self._escaped(value, kind, path, use)
                return
            name = rest.pop(0)
            path = f"{path}.{name}"
            if name == "__dict__" and kind == "user":
                self.is_plain = False
                self.module_dict(value, path, use)
                return
            if name not in vars(value):
                self.is_plain = False
                found = self._missing_attribute(value, kind, name)
                if found is None:
                    if kind == "user":
                        self.found[path] = ("missing",)
                    else:
                        self._library_path(value, name, path, rest)
                    return
                value = found
                origin = None
                continue
            origin = (value.__name__, name)
            if kind != "user":
                self._library(f"{value.__name__}.{name}")
                if use.store:
                    self._library(f"set {value.__name__}.{name}")
            value = self.graph.attribute(value, name)
        if (use.store and type(value).__module__ != "builtins") or (
            use.store and issubclass(type(value), type)
        ):
            self._changed(value, path)
        self.is_plain = self.is_plain and not _may_hold_modules(value)
        self.special(value, rest, use, path)
        meaning = self.graph.meaning(self.component, value, origin)
        if meaning is not None:
            self.found[path] = meaning

    def _changed(self, value: Any, path: str) -> None:
        """Note an assignment to an attribute of a library's object."""
        kind = value if issubclass(type(value), type) else type(value)
        if self.graph.class_owner(kind) == "library":
            self._library(f"set {kind.__module__}.{kind.__qualname__}")

    def _missing_attribute(self, module: ModuleType, kind: str, name: str) -> Any:
        inner = sys.modules.get(f"{module.__name__}.{name}")
        if inner is not None:
            return inner
        if kind == "user" and "__getattr__" in vars(module):
            # PEP 562: the module's own function says what the name means.
            hook = vars(module)["__getattr__"]
            meaning = self.graph.meaning(self.component, hook, (module.__name__, "__getattr__"))
            if meaning is not None:
                self.found[f"{module.__name__}.__getattr__"] = meaning
            with self.graph.importing():
                try:
                    return getattr(module, name)
                except Exception:
                    return None
        return None

    def _library_path(self, module: ModuleType, name: str, path: str, rest: list[str]) -> None:
        dotted = ".".join([module.__name__, name, *rest])
        self._library(dotted)
        self.found[path] = ("lib", dotted)

    def _escaped(self, module: ModuleType, kind: str, path: str, use: Use) -> None:
        """A module that is used other than for its attributes."""
        if kind != "user":
            self._library(module.__name__)
            self.found[path] = ("lib", module.__name__)
            return
        how, what = use.context
        if how == "assigned" and self.is_only_local(what, use.scope):
            return  # the uses of the local name are followed instead
        if how == "chained":
            return
        if how == "argument":
            callee = self.evaluate(what.func, use.scope)
            if callee and any(any(c is known for known in _MODULE_READERS) for c in callee):
                return
            reason = f"it is passed to {_callee_text(what)}()"
        elif how == "returned":
            reason = "it is returned"
        elif how in ("assigned", "stored"):
            reason = "it is stored"
        else:
            reason = "it is used as a value"
        self.whole(module, path, reason.replace("it is", f"{path.split(' ')[-1]} is"), use.line)


_LOCAL_TIME = frozenset(
    [
        "localtime",
        "mktime",
        "ctime",
        "tzname",
        "altzone",
        "fromtimestamp",
        "astimezone",
        "timestamp",
    ]
)
_PARTS_MAX = 1_000
_LOCAL_TIMES = frozenset(["time.localtime", "time.mktime", "time.ctime", "time.tzname"])
_MODULE_READERS: list[Any] = [getattr, hasattr, setattr, vars, isinstance, id, type, dir, print]


def _may_hold_modules(value: Any) -> bool:
    """Whether a part of this may be a module that code takes out of it."""
    pending = [value]
    for _ in range(_PARTS_MAX):
        if not pending:
            return False
        item = pending.pop()
        kind = type(item)
        if kind in (dict, list, tuple, set, frozenset):
            pending += item.values() if kind is dict else item
        elif issubclass(kind, ModuleType):
            return True
    return bool(pending)


def _callee_text(call: ast.Call) -> str:
    try:
        return ast.unparse(call.func)
    except (RecursionError, ValueError):
        return "a call"
