"""Names that stand for code in ways of their own: ``getattr``, ``eval``, ``sys.modules``, ….

Where the argument's values are known, what they name is followed; where they are not, the code
depends on something larger, and a note says why.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from types import ModuleType
from typing import Any

from ._component import Key
from ._evaluate import Evaluator
from ._imported import Imported
from ._names import Scope, Use, names_of

__all__ = ["SpecialNames"]


class SpecialNames(Evaluator):
    """What special names mean; how plain names are followed is up to the resolver."""

    def run(self) -> dict[str, tuple[Any, ...]]:
        """Resolve all names."""
        raise NotImplementedError

    def follow(
        self,
        value: Any,
        origin: tuple[str, str] | None,
        path: str,
        attributes: tuple[str, ...],
        use: Use,
    ) -> None:
        """Go along attributes."""
        raise NotImplementedError

    def bring_in(self, entry: Imported) -> None:
        """Import a module now that code imports later."""
        raise NotImplementedError

    def special(self, value: Any, rest: list[str], use: Use, path: str) -> None:
        """Calls whose arguments name code, and objects that stand for the environment."""
        how, node = use.context
        call = node if how == "call" else None
        if value is os.environ or value is getattr(os, "environb", None):
            self.is_plain = False
            self._environment(rest, use)
            return
        if value is sys.modules:
            self.is_plain = False
            self._sys_modules(rest, use, path)
            return
        name = self.graph.special_name(value)
        if name is None:
            return
        self.is_plain = self.is_plain and name == "str"  # which only makes texts for the others
        if name in ("globals", "eval", "exec", "compile", "vars", "__import__", "import_module"):
            handler = getattr(self, f"_call_{name.strip('_')}")
            if call is None:
                if name in ("vars", "compile"):
                    return
                if name in ("__import__", "import_module"):
                    if how != "assigned":
                        self.everything(f"{name} is used as a value", use.line)
                    return
                self._own_module(f"{name} is used as a value", use.line)
                return
            handler(call, use)
        elif name == "getattr" and call is not None:
            self._call_getattr(call, use)
        elif name == "hasattr" and call is not None:
            self._call_hasattr(call, use)
        elif name == "dir" and call is not None:
            self._call_dir(call, use)
        elif name == "find_spec" and call is not None:
            self._call_find_spec(call, use)
        elif name == "getenv" and call is not None:
            keys = self.evaluate(call.args[0], use.scope) if call.args else None
            self._environment_keys(keys)
        elif (
            name == "run_path"
            or name == "program"
            or (name == "run_module" and call is not None and call.args)
        ):
            self.component.runs_programs = True
        elif name == "entry_points":
            self._entry_points(call, use)
        elif name == "everything":
            self.everything(f"{path} is used", use.line)

    def _environment(self, rest: list[str], use: Use) -> None:
        how, node = use.context
        changes = how == "subscript" and not isinstance(node.ctx, ast.Load)
        if changes or rest[:1] in (["setdefault"], ["update"], ["pop"], ["clear"]):
            self.component.writes_environment = True
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
        how, node = use.context
        keys: list[Any] | None = None
        if not rest and how == "subscript":
            keys = self.evaluate(node.slice, use.scope)
        elif rest[:1] == ["get"] and how == "call" and node.args:
            keys = self.evaluate(node.args[0], use.scope)
        elif how == "compared":
            return
        if keys is None:
            self.everything("sys.modules is used", use.line)

    def _call_getattr(self, call: ast.Call, use: Use) -> None:
        if len(call.args) < 2:
            return
        for owner in self.evaluate(call.args[0], use.scope) or ():
            if (
                issubclass(type(owner), ModuleType)
                and self.graph.roots.module_kind(owner) == "user"
            ):
                keys = self.evaluate(call.args[1], use.scope)
                title = ast.unparse(call.args[0])
                self._keys(
                    owner, keys, f"getattr({title})", f"getattr({title}, …) is computed", use
                )

    def _user_modules_in(self, call: ast.Call, use: Use) -> list[ModuleType]:
        values = self.evaluate(call.args[0], use.scope) if call.args else None
        return [
            value
            for value in values or ()
            if issubclass(type(value), ModuleType) and self.graph.roots.module_kind(value) == "user"
        ]

    def _call_hasattr(self, call: ast.Call, use: Use) -> None:
        for module in self._user_modules_in(call, use):
            keys = self.evaluate(call.args[1], use.scope) if len(call.args) > 1 else None
            if keys is None:
                title = ast.unparse(call.args[0])
                reason = f"hasattr({title}, …) is computed"
                self.whole(module, f"hasattr({title})", reason, use.line)
                continue
            for key in keys:
                there = "there" if key in vars(module) else "missing"
                self.found[f"hasattr({module.__name__}, {key})"] = (there,)

    def _call_dir(self, call: ast.Call, use: Use) -> None:
        for module in self._user_modules_in(call, use):
            names = sorted(name for name in vars(module) if not name.startswith("__"))
            self.found[f"dir({module.__name__})"] = ("value", names)

    def _call_find_spec(self, call: ast.Call, use: Use) -> None:
        names = self.evaluate(call.args[0], use.scope) if call.args else None
        for name in names or ():
            if isinstance(name, str) and name:
                kind = self.graph.find_kind(self.relative_name(name, call, use.scope))
                self.found[f"find_spec({name})"] = (kind,)

    def _call_vars(self, call: ast.Call, use: Use) -> None:
        if not call.args:
            return
        for owner in self.evaluate(call.args[0], use.scope) or ():
            if (
                issubclass(type(owner), ModuleType)
                and self.graph.roots.module_kind(owner) == "user"
            ):
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
            self.whole(module, "globals", reason, line)

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
        try:
            tree = ast.parse(text.strip() if isinstance(text, str) else text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        names = names_of(list(tree.body), module_level=True)
        inner = type(self)(self.graph, self.component, names, self.environment)
        for path, meaning in inner.run().items():
            self.found.setdefault(path, meaning)

    def _call_import_module(self, call: ast.Call, use: Use) -> None:
        names = self.evaluate(call.args[0], use.scope) if call.args else None
        if names is None or not all(isinstance(name, str) for name in names):
            title = ast.unparse(call.args[0]) if call.args else ""
            package = self._package_prefix(call.args[0], use.scope) if call.args else None
            if package is not None:
                self._whole_package(package, title, use.line)
                return
            self.everything(f"it imports the module named by `{title}`", use.line)
            self.component.imports_by_name = True
            return
        how, node = self.names.parents.get(id(call), ("", None))
        for name in names:
            absolute = self.relative_name(name, call, use.scope)
            entry = Imported(absolute, 0, None, use.line)
            self.bring_in(entry)
            module = sys.modules.get(absolute)
            if module is None or self.graph.roots.module_kind(module) != "user":
                continue
            local = how == "assigned" and self.is_only_local(node, use.scope)
            if how in ("", "chained") or local:
                continue
            if how == "argument" and self.graph.special_name_of_call(self, node, use) == "getattr":
                continue
            self.whole(module, absolute, f"{absolute} is imported by a call", use.line)

    _call_import = _call_import_module

    def _package_prefix(self, node: ast.expr, scope: Scope) -> str | None:
        """The package in ``"plugins." + name`` and ``f"plugins.{name}"``."""
        first: ast.expr | None = None
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
            first = node.left
        elif isinstance(node, ast.JoinedStr) and node.values:
            first = node.values[0]
            if isinstance(first, ast.FormattedValue):
                return None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.func.value if node.func.attr == "format" else None
        values = self.evaluate(first, scope) if first is not None else None
        if not values or len(values) != 1 or not isinstance(values[0], str):
            return None
        text = re.split(r"[%{]", values[0])[0]
        package = text.rpartition(".")[0]
        is_name = package.isascii() and all(map(str.isidentifier, package.split(".")))
        return package if package and is_name else None

    def _whole_package(self, package: str, title: str, line: int) -> None:
        """A module of a known package: all of them count, by their text."""
        self.bring_in(Imported(package, 0, None, line))
        module = sys.modules.get(package)
        if module is None or self.graph.roots.module_kind(module) != "user":
            return
        for key in self.graph.package_files(module):
            self.found[f"{package}/{key.name}"] = ("ref", key)
        self.component.note(
            f"depends on all modules in {package}, because it imports the one named by `{title}`",
            self.environment.file,
            line,
        )

    def _entry_points(self, call: ast.Call | None, use: Use) -> None:
        group = None
        if call is not None:
            for keyword in call.keywords:
                if keyword.arg == "group":
                    values = self.evaluate(keyword.value, use.scope)
                    group = values[0] if values else None
        for text, meaning in self.graph.entry_points(self.component, group):
            self.found[text] = meaning

    def subclasses(self) -> None:
        line = self.names.attributes["__subclasses__"]
        found = False
        for use in self.names.outer:
            if "__subclasses__" not in use.attributes:
                continue
            value, _, known = self.look_up(str(use.root))
            for name in use.attributes:
                if not issubclass(type(value), ModuleType):
                    break
                value = vars(value).get(name)
            if known and issubclass(type(value), type) and self.graph.class_owner(value) == "user":
                found = True
                for number, inner in enumerate(self.graph.subclasses(value)):
                    meaning = self.graph.meaning(self.component, inner, None)
                    if meaning is not None:
                        self.found[f"{use.root}.__subclasses__[{number}]"] = meaning
        if not found:
            self.everything("it asks for subclasses", line)

    def is_only_local(self, name: Any, scope: Scope) -> bool:
        return (
            isinstance(name, str)
            and scope.kind in ("function", "comprehension")
            and name not in scope.outer
            and len(scope.bindings.get(name, ())) == 1
        )

    def whole(self, module: ModuleType, path: str, reason: str, line: int) -> None:
        key = self.graph.whole_module(module)
        self.found[f"{path}.*"] = ("ref", key)
        self.component.note(
            f"depends on all of {self.graph.module_title(module)}, because {reason}",
            self.environment.file,
            line,
        )

    def everything(self, reason: str, line: int) -> None:
        """All user modules that the pipeline's import loaded."""
        for module in self.graph.user_modules():
            self.found[f"{module.__name__}.*"] = ("ref", self.graph.whole_module(module))
        self.component.note(
            f"depends on all modules of the project, because {reason}", self.environment.file, line
        )

    def module_dict(self, module: ModuleType, path: str, use: Use) -> None:
        """``m.__dict__[K]``."""
        how, node = use.context
        keys = self.evaluate(node.slice, use.scope) if how == "subscript" else None
        self._keys(module, keys, path, "its __dict__ is read", use)

    def _keys(
        self, module: ModuleType, keys: list[Any] | None, path: str, reason: str, use: Use
    ) -> None:
        if keys is not None and all(isinstance(key, str) for key in keys):
            for key in keys:
                if key in vars(module):
                    value = vars(module)[key]
                    if issubclass(type(value), ModuleType):
                        self.follow(value, None, f"{module.__name__}.{key}", (), use)
                        continue
                    meaning = self.graph.meaning(self.component, value, (module.__name__, key))
                    if meaning is not None:
                        self.found[f"{module.__name__}.{key}"] = meaning
                else:
                    self.found[f"{module.__name__}.{key}"] = ("missing",)
            return
        self.whole(module, path, reason, use.line)
