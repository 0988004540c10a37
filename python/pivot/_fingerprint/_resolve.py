"""What the names in a piece of code mean, by the live objects.

Static analysis says which edges there are; the objects that the edges lead to are those of the
running interpreter, so star imports, re-exports, patches and conditional definitions need no
special treatment. Where a name is computed, its possible values are computed too; where that
fails, the code depends on something larger, and a note says why.
"""

from __future__ import annotations

import ast
import builtins
import os
import sys
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from ._component import Component, Key
from ._names import Binding, Names, Scope, Use
from ._source import Imported

if TYPE_CHECKING:
    from ._graph import Graph

__all__ = ["Environment", "Resolver"]

Meaning = tuple[Any, ...]
_VALUES_MAX = 256  # possible values of one computed name
_DEPTH_MAX = 12
_UNKNOWN: Any = None
_SCALARS = (str, int, float, bool, bytes, type(None))


class Environment:
    """Where a piece of code looks its names up."""

    __slots__ = ("cells", "code", "file", "globals", "module", "package")

    def __init__(
        self,
        namespace: dict[str, Any],
        cells: dict[str, Any],
        file: str | None,
        code: CodeType | None,
    ) -> None:
        self.globals = namespace
        self.cells = cells
        self.file = file
        self.code = code
        name = namespace.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        # A namespace that is no module's (exec, runpy) has no name that others can reach it by.
        self.module: str | None = None
        if module is not None and getattr(module, "__dict__", None) is namespace:
            self.module = name
        package = namespace.get("__package__")
        if not isinstance(package, str):
            package = name.rpartition(".")[0] if isinstance(name, str) else ""
        self.package = package


class Resolver:
    """Resolves the names of one piece of code, for one component."""

    def __init__(
        self, graph: Graph, component: Component, names: Names, environment: Environment
    ) -> None:
        self.graph = graph
        self.component = component
        self.names = names
        self.environment = environment
        self.found: dict[str, Meaning] = {}

    def run(self) -> dict[str, Meaning]:
        """Each name with its attributes, as far as they lead through modules -> its meaning."""
        if self.environment.module is not None:
            self.component.modules[self.environment.module] = None
        for entry, _ in self.names.imports:
            self._import(entry)
        for use in self.names.outer:
            value, origin, known = self._look_up(str(use.root))
            if known:
                self._follow(value, origin, str(use.root), use.attributes, use)
            elif not self._late(use):
                self.found.setdefault(str(use.root), ("missing",))
        for use, bindings in self.names.local:
            self._local(use, bindings)
        for use in self.names.chains:
            for value in self.evaluate(use.root, use.scope) or ():
                if isinstance(value, ModuleType):
                    self._follow(value, None, f"{value.__name__}", use.attributes, use)
        if "__subclasses__" in self.names.attributes:
            self._subclasses()
        return self.found

    # ------------------------------------------------------------------ names

    def _look_up(self, name: str) -> tuple[Any, tuple[str, str] | None, bool]:
        """The object behind a name of the outside, and the module binding it was found in."""
        environment = self.environment
        if name in environment.cells:
            return environment.cells[name], None, True
        namespace = environment.globals
        if name not in namespace and name.startswith("__") and environment.code is not None:
            # Private names in a class: `__x` is compiled to `_Class__x`.
            mangled = [n for n in _all_names(environment.code) if n.endswith(name) and n != name]
            if mangled and mangled[0] in namespace:
                name = mangled[0]
        if name in namespace:
            origin = (environment.module, name) if environment.module is not None else None
            return namespace[name], origin, True
        scope = namespace.get("__builtins__", builtins)
        if scope is builtins or scope is vars(builtins):
            if name in vars(builtins):
                return self.graph.attribute(builtins, name), ("builtins", name), True
            return None, None, False
        scope = scope if isinstance(scope, dict) else vars(scope)
        if name in scope:
            return scope[name], ("builtins", name), True
        return None, None, False

    def _late(self, use: Use) -> bool:
        """A global that a function binds by an import when it runs."""
        source = self.graph.sources.of_module(self.environment.module or "")
        entries = source.late_imports(str(use.root)) if source is not None else []
        for entry in entries:
            self._import(entry)
            if entry.attribute is not None:
                self._local_from(entry, use)
                continue
            module = sys.modules.get(entry.module)
            if module is not None:
                self._follow(module, None, f"import {entry.module}", use.attributes, use)
            else:
                self._absent_module(entry.module, use.attributes)
        return bool(entries)

    def _local(self, use: Use, bindings: list[Binding]) -> None:
        for kind, what in bindings:
            if kind == "module":
                module = sys.modules.get(what)
                if module is not None:
                    self._follow(module, None, f"import {what}", use.attributes, use)
                else:
                    self._absent_module(what, use.attributes)
            elif kind == "from":
                self._local_from(what, use)
            elif kind == "value" and use.attributes:
                if len(bindings) == 1 and isinstance(what, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
                    for value in self.evaluate(what, use.scope) or ():
                        if isinstance(value, ModuleType):
                            self._follow(value, None, value.__name__, use.attributes, use)
            elif kind == "item" and use.attributes:
                for value in self._items(what, use.scope, 0) or ():
                    if isinstance(value, ModuleType):
                        self._follow(value, None, value.__name__, use.attributes, use)
            if kind in ("value", "item") and not use.attributes:
                self._stored_module(use, kind, what)

    def _stored_module(self, use: Use, kind: str, what: ast.expr) -> None:
        """A local that stands for a module, and is not only read from."""
        if kind == "value" and not isinstance(what, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
            return
        values = self.evaluate(what, use.scope) if kind == "value" else self._items(what, use.scope, 0)
        for value in values or ():
            if isinstance(value, ModuleType):
                self._follow(value, None, value.__name__, (), use)

    def _local_from(self, entry: Imported, use: Use) -> None:
        name = self._absolute(entry)
        if name is None or entry.attribute is None:
            return
        module = sys.modules.get(name)
        if module is None:
            self._absent_module(name, (entry.attribute, *use.attributes))
            return
        self._follow(module, None, f"from {name}", (entry.attribute, *use.attributes), use)

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

    def _absolute(self, entry: Imported) -> str | None:
        """The absolute name of the imported module."""
        if not entry.level:
            return entry.module
        package = self.environment.package
        parts = package.split(".") if package else []
        if entry.level - 1 > len(parts):
            return None
        base = parts[: len(parts) - (entry.level - 1)]
        return ".".join([*base, entry.module] if entry.module else base)

    def _import(self, entry: Imported) -> None:
        """An import in a body: it happens now if it is of user code, and its effects count."""
        name = self._absolute(entry)
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

    def _follow(
        self,
        value: Any,
        origin: tuple[str, str] | None,
        path: str,
        attributes: tuple[str, ...],
        use: Use,
    ) -> None:
        """Go along attributes as long as they are those of modules."""
        rest = list(attributes)
        while isinstance(value, ModuleType):
            kind = self.graph.roots.module_kind(value)
            if kind == "pivot":
                return
            if not rest:
                self._escaped(value, kind, path, use)
                return
            name = rest.pop(0)
            path = f"{path}.{name}"
            if name == "__dict__" and kind == "user":
                self._module_dict(value, path, use)
                return
            if name not in vars(value):
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
        if use.store and type(value).__module__ != "builtins" or use.store and isinstance(value, type):
            self._changed(value, path)
        self._special(value, rest, use, path)
        meaning = self.graph.meaning(self.component, value, origin)
        if meaning is not None:
            self.found[path] = meaning

    def _changed(self, value: Any, path: str) -> None:
        """Note an assignment to an attribute of a library's object."""
        kind = value if isinstance(value, type) else type(value)
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
                except Exception:  # noqa: BLE001 - the user's code may fail in any way
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
        how, what = use.context or ("used", None)
        if how == "assigned" and self._only_local(what, use.scope):
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
        self._whole(module, path, reason.replace("it is", f"{path.split(' ')[-1]} is"), use.line)

    def _only_local(self, name: Any, scope: Scope) -> bool:
        return (
            isinstance(name, str)
            and scope.kind in ("function", "comprehension")
            and name not in scope.outer
            and len(scope.bindings.get(name, ())) == 1
        )

    def _whole(self, module: ModuleType, path: str, reason: str, line: int) -> None:
        key = self.graph.whole_module(module)
        self.found[f"{path}.*"] = ("ref", key)
        self.component.note(
            f"depends on all of {self.graph.module_title(module)}, because {reason}",
            self.environment.file,
            line,
        )

    def _everything(self, reason: str, line: int) -> None:
        """All user modules that the pipeline's import loaded."""
        for module in self.graph.user_modules():
            self.found[f"{module.__name__}.*"] = ("ref", self.graph.whole_module(module))
        self.component.note(
            f"depends on all modules of the project, because {reason}", self.environment.file, line
        )

    def _module_dict(self, module: ModuleType, path: str, use: Use) -> None:
        """``m.__dict__[K]``."""
        how, node = use.context or ("", None)
        keys = self.evaluate(node.slice, use.scope) if how == "subscript" else None
        self._keys(module, keys, path, "its __dict__ is read", use)

    def _keys(
        self, module: ModuleType, keys: list[Any] | None, path: str, reason: str, use: Use
    ) -> None:
        if keys is not None and all(isinstance(key, str) for key in keys):
            for key in keys:
                if key in vars(module):
                    value = vars(module)[key]
                    if isinstance(value, ModuleType):
                        self._follow(value, None, f"{module.__name__}.{key}", (), use)
                        continue
                    meaning = self.graph.meaning(self.component, value, (module.__name__, key))
                    if meaning is not None:
                        self.found[f"{module.__name__}.{key}"] = meaning
                else:
                    self.found[f"{module.__name__}.{key}"] = ("missing",)
            return
        self._whole(module, path, reason, use.line)

    # ------------------------------------------------------------------ special callees

    def _special(self, value: Any, rest: list[str], use: Use, path: str) -> None:
        """Calls whose arguments name code, and objects that stand for the environment."""
        context = use.context
        call = context[1] if context is not None and context[0] == "call" else None
        if value is os.environ or value is getattr(os, "environb", None):
            self._environment(rest, use)
            return
        if value is sys.modules:
            self._sys_modules(rest, use, path)
            return
        name = self.graph.special_name(value)
        if name is None:
            return
        if name in ("globals", "eval", "exec", "compile", "vars", "__import__", "import_module"):
            handler = getattr(self, f"_call_{name.strip('_')}")
            if call is None:
                if name in ("vars", "compile"):
                    return
                if name in ("__import__", "import_module"):
                    if context is None or context[0] != "assigned":
                        self._everything(f"{name} is used as a value", use.line)
                    return
                self._own_module(f"{name} is used as a value", use.line)
                return
            handler(call, use)
        elif name == "getattr" and call is not None:
            self._call_getattr(call, use)
        elif name == "getenv" and call is not None:
            keys = self.evaluate(call.args[0], use.scope) if call.args else None
            self._environment_keys(keys)
        elif name == "run_path" or name == "program":
            self.component.runs_programs = True
        elif name == "run_module" and call is not None and call.args:
            self.component.runs_programs = True
        elif name == "entry_points":
            self._entry_points(call, use)
        elif name == "everything":
            self._everything(f"{path} is used", use.line)

    def _environment(self, rest: list[str], use: Use) -> None:
        how, node = use.context or ("", None)
        if not rest and how == "subscript":
            self._environment_keys(self.evaluate(node.slice, use.scope))
        elif rest[:1] in (["get"], ["setdefault"], ["pop"], ["__getitem__"]) and how == "call":
            keys = self.evaluate(node.args[0], use.scope) if node.args else None
            self._environment_keys(keys)
        elif not rest and how == "compared" and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            self._environment_keys(self.evaluate(node.left, use.scope))
        else:
            self.component.reads_environment = True

    def _environment_keys(self, keys: list[Any] | None) -> None:
        if keys is None:
            self.component.reads_environment = True
            return
        for key in keys:
            if isinstance(key, str):
                self.found[f"environ[{key}]"] = ("ref", Key("env", "", key))

    def _sys_modules(self, rest: list[str], use: Use, path: str) -> None:
        how, node = use.context or ("", None)
        keys: list[Any] | None = None
        if not rest and how == "subscript":
            keys = self.evaluate(node.slice, use.scope)
        elif rest[:1] == ["get"] and how == "call" and node.args:
            keys = self.evaluate(node.args[0], use.scope)
        elif how == "compared":
            return
        if keys is None:
            self._everything("sys.modules is used", use.line)

    def _call_getattr(self, call: ast.Call, use: Use) -> None:
        if len(call.args) < 2:
            return
        for owner in self.evaluate(call.args[0], use.scope) or ():
            if isinstance(owner, ModuleType) and self.graph.roots.module_kind(owner) == "user":
                keys = self.evaluate(call.args[1], use.scope)
                title = ast.unparse(call.args[0])
                self._keys(owner, keys, f"getattr({title})", f"getattr({title}, …) is computed", use)

    def _call_vars(self, call: ast.Call, use: Use) -> None:
        if not call.args:
            return
        for owner in self.evaluate(call.args[0], use.scope) or ():
            if isinstance(owner, ModuleType) and self.graph.roots.module_kind(owner) == "user":
                keys = self._subscript_of(call)
                title = ast.unparse(call.args[0])
                self._keys(owner, keys, f"vars({title})", f"vars({title}) is read", use)

    def _call_globals(self, call: ast.Call, use: Use) -> None:
        module = sys.modules.get(self.environment.module or "")
        keys = self._subscript_of(call)
        if module is None:
            return
        if keys is not None:
            self._keys(module, keys, "globals()", "", use)
        else:
            self._own_module("globals() is read", use.line)

    def _subscript_of(self, call: ast.Call) -> list[Any] | None:
        """The key in ``call()[key]`` or ``call().get(key)``."""
        how, node = self.names.parents.get(id(call), ("", None))
        scope = self.names.scopes.get(id(call))
        if scope is None:
            return None
        if how == "subscript":
            return self.evaluate(node.slice, scope)
        if how == "chained" and node.attr == "get":
            how, outer = self.names.parents.get(id(node), ("", None))
            if how == "call" and outer.args:
                return self.evaluate(outer.args[0], scope)
        return None

    def _own_module(self, reason: str, line: int) -> None:
        module = sys.modules.get(self.environment.module or "")
        if module is not None:
            self._whole(module, "globals", reason, line)

    def _call_eval(self, call: ast.Call, use: Use) -> None:
        texts = self.evaluate(call.args[0], use.scope) if call.args else None
        if texts is None or not all(isinstance(text, (str, bytes)) for text in texts):
            self._own_module(f"{ast.unparse(call.func)}() runs text that is not constant", use.line)
            self.component.runs_programs = True
            return
        for text in texts:
            self._text_names(text)

    _call_exec = _call_eval

    def _call_compile(self, call: ast.Call, use: Use) -> None:
        texts = self.evaluate(call.args[0], use.scope) if call.args else None
        for text in texts or ():
            if isinstance(text, (str, bytes)):
                self._text_names(text)

    def _text_names(self, text: Any) -> None:
        """Follow the names in a text that is run."""
        from ._names import names_of

        try:
            tree = ast.parse(text.strip() if isinstance(text, str) else text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        names = names_of(list(tree.body), module_level=True)
        inner = Resolver(self.graph, self.component, names, self.environment)
        for path, meaning in inner.run().items():
            self.found.setdefault(path, meaning)

    def _call_import_module(self, call: ast.Call, use: Use) -> None:
        names = self.evaluate(call.args[0], use.scope) if call.args else None
        if names is None or not all(isinstance(name, str) for name in names):
            title = ast.unparse(call.args[0]) if call.args else ""
            self._everything(f"it imports the module named by `{title}`", use.line)
            self.component.imports_by_name = True
            return
        how, node = self.names.parents.get(id(call), ("", None))
        for name in names:
            absolute = self._relative_name(name, call, use)
            entry = Imported(absolute, 0, None, use.line)
            self._import(entry)
            module = sys.modules.get(absolute)
            if module is None or self.graph.roots.module_kind(module) != "user":
                continue
            local = how == "assigned" and self._only_local(node, use.scope)
            if how in ("", "chained") or local:
                continue
            if how == "argument" and self.graph.special_name_of_call(self, node, use) == "getattr":
                continue
            self._whole(module, absolute, f"{absolute} is imported by a call", use.line)

    _call_import = _call_import_module

    def _relative_name(self, name: str, call: ast.Call, use: Use) -> str:
        if not name.startswith("."):
            return name
        package = self.environment.package
        if len(call.args) > 1:
            values = self.evaluate(call.args[1], use.scope)
            if values and isinstance(values[0], str):
                package = values[0]
        level = len(name) - len(name.lstrip("."))
        parts = package.split(".")
        base = parts[: len(parts) - (level - 1)]
        return ".".join([*base, name.lstrip(".")]).rstrip(".")

    def _entry_points(self, call: ast.Call | None, use: Use) -> None:
        group = None
        if call is not None:
            for keyword in call.keywords:
                if keyword.arg == "group":
                    values = self.evaluate(keyword.value, use.scope)
                    group = values[0] if values else None
        for text, meaning in self.graph.entry_points(self.component, group):
            self.found[text] = meaning

    def _subclasses(self) -> None:
        line = self.names.attributes["__subclasses__"]
        found = False
        for use in self.names.outer:
            if "__subclasses__" not in use.attributes:
                continue
            value, _, known = self._look_up(str(use.root))
            for name in use.attributes:
                if not isinstance(value, ModuleType):
                    break
                value = vars(value).get(name)
            if known and isinstance(value, type) and self.graph.class_owner(value) == "user":
                found = True
                for number, inner in enumerate(self.graph.subclasses(value)):
                    meaning = self.graph.meaning(self.component, inner, None)
                    if meaning is not None:
                        self.found[f"{use.root}.__subclasses__[{number}]"] = meaning
        if not found:
            self._everything("it asks for subclasses", line)

    # ------------------------------------------------------------------ values of expressions

    def evaluate(self, node: ast.expr, scope: Scope, depth: int = 0) -> list[Any] | None:
        """The possible values of an expression; None when they cannot be known."""
        if depth > _DEPTH_MAX:
            return _UNKNOWN
        kind = type(node)
        if kind is ast.Constant:
            return [node.value]  # type: ignore[attr-defined]
        if kind is ast.Name:
            return self._name_values(node.id, scope, depth)  # type: ignore[attr-defined]
        if kind is ast.Attribute:
            bases = self.evaluate(node.value, scope, depth + 1)  # type: ignore[attr-defined]
            return self._attribute_values(bases, node.attr)  # type: ignore[attr-defined]
        if kind is ast.JoinedStr:
            return self._joined(node, scope, depth)  # type: ignore[arg-type]
        if kind is ast.BinOp:
            return self._binary(node, scope, depth)  # type: ignore[arg-type]
        if kind is ast.IfExp:
            first = self.evaluate(node.body, scope, depth + 1)  # type: ignore[attr-defined]
            second = self.evaluate(node.orelse, scope, depth + 1)  # type: ignore[attr-defined]
            return _UNKNOWN if first is None or second is None else first + second
        if kind is ast.Subscript:
            return self._subscript_values(node, scope, depth)  # type: ignore[arg-type]
        if kind is ast.Call:
            return self._call_values(node, scope, depth)  # type: ignore[arg-type]
        return _UNKNOWN

    def _name_values(self, name: str, scope: Scope, depth: int) -> list[Any] | None:
        where: Scope | None = scope
        while where is not None:
            if where.kind == "class" and where is not scope:
                where = where.parent
                continue
            if where.outer.get(name) == "global" or where.kind == "module":
                break
            bindings = where.bindings.get(name)
            if bindings is not None and name not in where.outer:
                return self._binding_values(bindings, where, depth)
            where = where.parent
        value, _, known = self._look_up(name)
        return [value] if known else _UNKNOWN

    def _binding_values(
        self, bindings: list[Binding], scope: Scope, depth: int
    ) -> list[Any] | None:
        found: list[Any] = []
        for kind, what in bindings:
            values: list[Any] | None = None
            if kind == "value":
                values = self.evaluate(what, scope, depth + 1)
            elif kind == "item":
                values = self._items(what, scope, depth + 1)
            elif kind == "module":
                module = sys.modules.get(what)
                values = [module] if module is not None else None
            elif kind == "from":
                name = self._absolute(what)
                module = sys.modules.get(name or "")
                if module is not None and what.attribute in vars(module):
                    values = [vars(module)[what.attribute]]
            if values is None or len(found) + len(values) > _VALUES_MAX:
                return _UNKNOWN
            found += values
        return found

    def _items(self, node: ast.expr, scope: Scope, depth: int) -> list[Any] | None:
        """The items of what a loop goes over."""
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            found: list[Any] = []
            for element in node.elts:
                values = self.evaluate(element, scope, depth + 1)
                if values is None:
                    return _UNKNOWN
                found += values
            return found
        values = self.evaluate(node, scope, depth + 1)
        if values is None:
            return _UNKNOWN
        found = []
        for value in values:
            if type(value) not in (list, tuple, set, frozenset, dict) or len(value) > _VALUES_MAX:
                return _UNKNOWN
            found += list(value)
        return found

    def _attribute_values(self, bases: list[Any] | None, name: str) -> list[Any] | None:
        if bases is None:
            return _UNKNOWN
        found: list[Any] = []
        for base in bases:
            if isinstance(base, ModuleType):
                inner = sys.modules.get(f"{base.__name__}.{name}")
                if name not in vars(base) and inner is None:
                    return _UNKNOWN
                found.append(vars(base).get(name, inner))
                continue
            namespace = getattr(base, "__dict__", None)
            holders = [namespace] if namespace is not None else []
            holders += [vars(kind) for kind in (base if isinstance(base, type) else type(base)).__mro__]
            for holder in holders:
                if name in holder:
                    if not isinstance(holder[name], _SCALARS):
                        return _UNKNOWN
                    found.append(holder[name])
                    break
            else:
                return _UNKNOWN
        return found

    def _joined(self, node: ast.JoinedStr, scope: Scope, depth: int) -> list[Any] | None:
        texts = [""]
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                if part.format_spec is not None or part.conversion not in (-1, 115):
                    return _UNKNOWN
                values = self.evaluate(part.value, scope, depth + 1)
            else:
                values = self.evaluate(part, scope, depth + 1)
            if values is None or not all(isinstance(value, (str, int)) for value in values):
                return _UNKNOWN
            texts = [text + str(value) for text in texts for value in values]
            if len(texts) > _VALUES_MAX:
                return _UNKNOWN
        return list(texts)

    def _binary(self, node: ast.BinOp, scope: Scope, depth: int) -> list[Any] | None:
        left = self.evaluate(node.left, scope, depth + 1)
        if left is None:
            return _UNKNOWN
        if isinstance(node.op, ast.Mod) and isinstance(node.right, ast.Tuple):
            parts = [self.evaluate(e, scope, depth + 1) for e in node.right.elts]
            if any(part is None or len(part) != 1 for part in parts):
                return _UNKNOWN
            right: list[Any] | None = [tuple(part[0] for part in parts if part is not None)]
        else:
            right = self.evaluate(node.right, scope, depth + 1)
        if right is None or len(left) * len(right) > _VALUES_MAX:
            return _UNKNOWN
        found = []
        for one in left:
            for other in right:
                if not isinstance(one, str):
                    return _UNKNOWN
                try:
                    if isinstance(node.op, ast.Add) and isinstance(other, str):
                        found.append(one + other)
                    elif isinstance(node.op, ast.Mod) and isinstance(other, (str, int, tuple)):
                        found.append(one % other)
                    else:
                        return _UNKNOWN
                except (TypeError, ValueError):
                    return _UNKNOWN
        return found

    def _subscript_values(self, node: ast.Subscript, scope: Scope, depth: int) -> list[Any] | None:
        bases = self.evaluate(node.value, scope, depth + 1)
        keys = self.evaluate(node.slice, scope, depth + 1)
        if bases is None:
            return _UNKNOWN
        found = []
        for base in bases:
            if type(base) not in (dict, list, tuple):
                return _UNKNOWN
            try:
                if keys is None:
                    items = list(base.values()) if type(base) is dict else list(base)
                    if len(items) > _VALUES_MAX or base is sys.modules:
                        return _UNKNOWN
                    found += items
                else:
                    found += [base[key] for key in keys]
            except (KeyError, IndexError, TypeError):
                return _UNKNOWN
        return found

    def _call_values(self, node: ast.Call, scope: Scope, depth: int) -> list[Any] | None:
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in ("format", "lower", "upper", "strip", "get")
            and not node.keywords
        ):
            return self._method_values(node, scope, depth)
        callees = self.evaluate(node.func, scope, depth + 1)
        if not callees or len(callees) != 1:
            return _UNKNOWN
        name = self.graph.special_name(callees[0])
        if name in ("import_module", "__import__") and node.args:
            names = self.evaluate(node.args[0], scope, depth + 1)
            found = []
            for item in names or ():
                if not isinstance(item, str):
                    return _UNKNOWN
                absolute = self._relative_name(
                    item, node, Use("", (), scope, node.lineno, None, False)
                )
                self.graph.load(absolute)
                if name == "__import__" and len(node.args) < 4:
                    absolute = absolute.partition(".")[0]
                module = sys.modules.get(absolute)
                if module is None:
                    return _UNKNOWN
                found.append(module)
            return found or _UNKNOWN
        if name == "getattr" and len(node.args) >= 2:
            bases = self.evaluate(node.args[0], scope, depth + 1)
            keys = self.evaluate(node.args[1], scope, depth + 1)
            if keys is None or not all(isinstance(key, str) for key in keys):
                return _UNKNOWN
            found = []
            for key in keys:
                values = self._attribute_values(bases, key)
                if values is None:
                    return _UNKNOWN
                found += values
            return found
        if name == "globals":
            return [self.environment.globals]
        if name == "vars" and node.args:
            bases = self.evaluate(node.args[0], scope, depth + 1)
            if bases is None:
                return _UNKNOWN
            return [vars(base) for base in bases if isinstance(base, ModuleType)] or _UNKNOWN
        if name == "str" and len(node.args) == 1:
            values = self.evaluate(node.args[0], scope, depth + 1)
            if values is not None and all(isinstance(v, (str, int)) for v in values):
                return [str(value) for value in values]
        return _UNKNOWN

    def _method_values(self, node: ast.Call, scope: Scope, depth: int) -> list[Any] | None:
        assert isinstance(node.func, ast.Attribute)
        bases = self.evaluate(node.func.value, scope, depth + 1)
        arguments = [self.evaluate(arg, scope, depth + 1) for arg in node.args]
        if bases is None or any(arg is None or len(arg) != 1 for arg in arguments):
            return _UNKNOWN
        plain = [arg[0] for arg in arguments if arg is not None]
        found = []
        for base in bases:
            allowed = (str,) if node.func.attr != "get" else (dict,)
            if type(base) not in allowed:
                return _UNKNOWN
            try:
                found.append(getattr(base, node.func.attr)(*plain))
            except Exception:  # noqa: BLE001 - wrong arguments: nothing is known
                return _UNKNOWN
        return found


_MODULE_READERS: list[Any] = [getattr, hasattr, setattr, vars, isinstance, id, type, dir, print]


def _callee_text(call: ast.Call) -> str:
    try:
        return ast.unparse(call.func)
    except (RecursionError, ValueError):
        return "a call"


def _all_names(code: CodeType) -> list[str]:
    found: list[str] = []
    pending = [code]
    while pending:
        item = pending.pop()
        found += item.co_names
        pending.extend(c for c in item.co_consts if isinstance(c, CodeType))
    return found
