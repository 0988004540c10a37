"""The possible values of expressions, as far as they can be known without running code.

Names are looked up in the live namespaces; constants, texts put together from them, items of
tables and loops over them are followed. What comes out are all values that an expression may
have, or None when they cannot be known.
"""

from __future__ import annotations

import ast
import builtins
import sys
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from ._component import Component
from ._imported import Imported
from ._names import Names, Scope

if TYPE_CHECKING:
    from ._graph import Graph
    from ._names import Binding

__all__ = ["Environment", "Evaluator", "Meaning"]

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


class Evaluator:
    """Evaluates expressions of one piece of code."""

    def __init__(
        self, graph: Graph, component: Component, names: Names, environment: Environment
    ) -> None:
        self.graph = graph
        self.component = component
        self.names = names
        self.environment = environment
        self.found: dict[str, Meaning] = {}
        self.is_plain = True
        """Whether what the names mean does not depend on how they are used; see `_edited`."""

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
        value, _, known = self.look_up(name)
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
                values = self.items(what, scope, depth + 1)
            elif kind == "module":
                module = sys.modules.get(what)
                values = [module] if module is not None else None
            elif kind == "from":
                name = self.absolute(what)
                module = sys.modules.get(name or "")
                if module is not None and what.attribute in vars(module):
                    values = [vars(module)[what.attribute]]
            if values is None or len(found) + len(values) > _VALUES_MAX:
                return _UNKNOWN
            found += values
        return found

    def items(self, node: ast.expr, scope: Scope, depth: int) -> list[Any] | None:
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
            if issubclass(type(base), ModuleType):
                inner = sys.modules.get(f"{base.__name__}.{name}")
                if name not in vars(base) and inner is None:
                    return _UNKNOWN
                found.append(vars(base).get(name, inner))
                continue
            namespace = getattr(base, "__dict__", None)
            holders = [namespace] if namespace is not None else []
            holders += [
                vars(kind)
                for kind in (base if issubclass(type(base), type) else type(base)).__mro__
            ]
            for holder in holders:
                if name in holder:
                    if type(holder[name]) not in _SCALARS:
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
                absolute = self.relative_name(item, node, scope)
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
            return [vars(base) for base in bases if issubclass(type(base), ModuleType)] or _UNKNOWN
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
            except Exception:
                return _UNKNOWN
        return found

    def look_up(self, name: str) -> tuple[Any, tuple[str, str] | None, bool]:
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

    def absolute(self, entry: Imported) -> str | None:
        """The absolute name of the imported module."""
        if not entry.level:
            return entry.module
        package = self.environment.package
        parts = package.split(".") if package else []
        if entry.level - 1 > len(parts):
            return None
        base = parts[: len(parts) - (entry.level - 1)]
        return ".".join([*base, entry.module] if entry.module else base)

    def relative_name(self, name: str, call: ast.Call, scope: Scope) -> str:
        if not name.startswith("."):
            return name
        package = self.environment.package
        if len(call.args) > 1:
            values = self.evaluate(call.args[1], scope)
            if values and isinstance(values[0], str):
                package = values[0]
        level = len(name) - len(name.lstrip("."))
        parts = package.split(".")
        base = parts[: len(parts) - (level - 1)]
        return ".".join([*base, name.lstrip(".")]).rstrip(".")


def _all_names(code: CodeType) -> list[str]:
    found: list[str] = []
    pending = [code]
    while pending:
        item = pending.pop()
        found += item.co_names
        pending.extend(c for c in item.co_consts if isinstance(c, CodeType))
    return found
