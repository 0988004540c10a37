"""The graph of components: what refers to what, each with its own digest.

Nodes are live objects with a name (functions, classes, module-level constants, whole modules);
objects without a name are part of the component that refers to them. Digests are local: a
reference is written as the name of its target, so a change shows up where it was made.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import importlib
import os
import sys
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any

from . import _arrays, _callables, _classes, _instances, _values
from ._component import Component, Key, Mode
from ._edited import combined
from ._encoder import HANDLERS, Encoder, Handler, Steps, Task, is_scalar, type_name
from ._evaluate import Environment, Evaluator, Meaning
from ._hashing import new_hash
from ._loader import Sources
from ._modules import UserModules, absolute_name
from ._names import Names, names_of
from ._own_builtins import OWN_BUILTINS
from ._owners import Owners
from ._packages import Packages
from ._provenance import provenance
from ._resolve import Resolver
from ._roots import Roots
from ._source import Source
from ._syntax import function_form, nodes_form

__all__ = ["Graph"]

_WRAPPERS = (functools._lru_cache_wrapper,)
_CALLABLES = (types.FunctionType, types.MethodType, functools.partial, *_WRAPPERS)
_LIBRARY_CALLABLES = (
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
)
_MUTABLE = frozenset(
    {
        "builtins.list",
        "builtins.dict",
        "builtins.set",
        "builtins.bytearray",
        "collections.deque",
        "collections.defaultdict",
        "collections.OrderedDict",
        "collections.Counter",
        "types.SimpleNamespace",
        "array.array",
        "numpy.ndarray",
        "pandas.core.frame.DataFrame",
        "pandas.core.series.Series",
        "pandas.DataFrame",
        "pandas.Series",
    }
)
_ORIGIN_DEPTH_MAX = 20


class Graph(Owners, UserModules):
    """Components of one process, built when first asked for."""

    def __init__(self, roots: Roots, sources: Sources, packages: Packages) -> None:
        Owners.__init__(self, roots)
        UserModules.__init__(self, roots)
        self.sources = sources
        self.packages = packages
        self.reads_in: Callable[[str], Collection[tuple[int, str, str]]] = _no_reads
        """Told a file: line, kind and name of what its top level read from outside."""
        self.patched: dict[tuple[str, str], Any] = {}
        """What user code put in place of parts of the standard library that the engine uses."""
        self._components: dict[tuple[Key, Mode], Component] = {}
        self._payloads: dict[Key, Any] = {}
        self._named: dict[int, tuple[Any, Key | None]] = {}
        self._handlers: dict[int, tuple[Handler, type]] = {}
        self._forms: dict[tuple[int, bool], str] = {}
        self._names: dict[tuple[int, bool], Names] = {}
        self._special: dict[int, str] | None = None
        self.compares_texts = False
        """Whether all the text of some file stands for a component."""

    # ------------------------------------------------------------------ components

    def component(self, key: Key, mode: Mode = Mode()) -> Component:  # noqa: B008 - immutable
        """The component with its digest."""
        known = self._components.get((key, mode))
        if known is None:
            known = self._components[key, mode] = self._build(key, mode)
        return known

    def components(self) -> Iterator[tuple[Mode, Component]]:
        """All components that were asked for, each with what counted in it."""
        return ((mode, component) for (_, mode), component in self._components.items())

    def payload(self, key: Key) -> Any:
        """The object that a key stands for."""
        return self._payloads.get(key)

    def root(self, function: Any) -> Key:
        """The key of a stage's function."""
        named = function
        while isinstance(named, functools.partial):
            named = named.func
        name = getattr(named, "__name__", None) or type(named).__name__
        key = Key("self", getattr(function, "__module__", None) or "", name)
        known = self._payloads.get(key)
        if known is not None and known is not function:
            # Another function of the same name, such as one made by a loop.
            key = Key("self", f"{key.module}#{len(self._payloads)}", name)
        self._payloads[key] = function
        return key

    def params_key(self, model: type) -> Key:
        """The key of a class whose fields' defaults are params."""
        key = Key("params", model.__module__, model.__qualname__)
        self._payloads[key] = model
        return key

    def _build(self, key: Key, mode: Mode) -> Component:
        component = Component(key)
        self._place(component)
        encoder = Encoder(self, component, mode)
        try:
            component.digest = component.rest = encoder.run(self._steps(encoder, key))
            if component.form is not None:
                component.digest = combined(component.rest, component.form)
            component.mutables = [
                (number, item) for number, item in encoder.visited if self._is_mutable(item)
            ]
        except Exception as error:
            self._unreadable(component, mode, error)
        return component

    def _is_mutable(self, item: Any) -> bool:
        kind = type(item)
        if type_name(kind) in _MUTABLE:
            return True
        return (
            not issubclass(kind, (*_CALLABLES, type, types.ModuleType))
            and self.class_owner(kind) == "user"
        )

    def _unreadable(self, component: Component, mode: Mode, error: Exception) -> None:
        """An object that cannot be looked into: the code of its module stands for it."""
        key = component.key
        component.form = None
        self.compares_texts = True
        component.note(
            f"compares the text of {key.module}, because {key.name} cannot be looked into "
            f"({type(error).__name__}: {error})",
            component.file,
            component.line,
        )
        encoder = Encoder(self, component, mode)
        encoder.mark("unreadable")
        source = self.sources.of_module(key.module)
        if source is not None:
            encoder.write(self.hashed(nodes_form(list(source.tree.body))))
        component.digest = encoder.hash.digest()

    def _steps(self, encoder: Encoder, key: Key) -> Steps:
        component = encoder.component
        value: Any = self._payloads.get(key)
        if key.kind == "env":
            encoder.text(os.environ.get(key.name, "\0absent"))
            return
        if key.kind == "module":
            yield Task(self._module_inside(encoder, value))
            return
        if key.kind == "params":
            yield Task(_classes.class_inside(encoder, value, params=True))
        elif key.kind == "class":
            yield Task(_classes.class_inside(encoder, value))
        elif type(value) is types.FunctionType and self.function_owner(value) == "user":
            yield Task(_callables.function_inside(encoder, value))
        elif isinstance(value, _WRAPPERS):
            yield Task(_callables.wrapper_inside(encoder, value))
        else:
            yield value
        if component.opaque:
            yield Task(provenance(self, encoder))

    def _module_inside(self, encoder: Encoder, module: types.ModuleType) -> Steps:
        component = encoder.component
        component.modules[module.__name__] = None
        meanings: dict[str, Meaning] = {}
        for name, value in list(vars(module).items()):
            if name.startswith("__") and name.endswith("__"):
                continue
            if isinstance(value, types.ModuleType):
                kind = self.roots.module_kind(value)
                if kind == "user":
                    meanings[name] = ("ref", self.whole_module(value))
                elif kind != "pivot":
                    component.libraries[value.__name__] = None
                    meanings[name] = ("lib", value.__name__)
                continue
            meaning = self.meaning(component, value, (module.__name__, name))
            if meaning is not None:
                meanings[name] = meaning
        yield Task(_callables.meanings_inside(encoder, meanings))

    def _place(self, component: Component) -> None:
        """Where the component is defined, for reports and provenance."""
        key = component.key
        value = self._payloads.get(key)
        if key.kind in ("env", "file"):
            return
        if key.kind == "module":
            file = getattr(value, "__file__", None)
            component.file = self.roots.relative(file) if isinstance(file, str) else None
            component.line = 1 if component.file else None
            return
        source = self.sources.of_module(key.module)
        first = key.name.partition(".")[0]
        module = sys.modules.get(key.module)
        is_bound = module is not None and vars(module).get(first) is value
        if source is not None and (key.kind != "self" or is_bound):
            component.bound = (key.module, first)
        if source is not None:
            line = source.line_of(first) if "." not in key.name else None
            if key.kind in ("class", "params"):
                node = source.class_node(key.name)
                line = node.lineno if node is not None else line
            if line is not None:
                component.file, component.line = self.roots.relative(source.path), line
        inner = _unwrapped(value)
        code = inner.__code__ if type(inner) is types.FunctionType else None
        if code is not None and (component.line is None or "." in key.name):
            component.file = self.roots.relative(code.co_filename)
            component.line = code.co_firstlineno

    # ------------------------------------------------------------------ syntax

    def form_digest(self, node: ast.AST, texts: bool) -> str:
        """The digest of a definition's normalized form."""
        key = (id(node), texts)
        known = self._forms.get(key)
        if known is None:
            known = self._forms[key] = self.hashed(function_form(node, texts=texts)).hex()
        return known

    def names(self, node: ast.AST, texts: bool) -> Names:
        """The names in a definition."""
        key = (id(node), texts)
        known = self._names.get(key)
        if known is None:
            known = self._names[key] = names_of([node], texts=texts)
        return known

    def meanings(
        self,
        component: Component,
        nodes: list[ast.AST],
        namespace: dict[str, Any],
        source: Source | None,
    ) -> dict[str, Meaning]:
        """What the names in statements or expressions of a module's top level mean."""
        names = names_of(nodes, module_level=True)
        if source is not None:
            component.codes += source.codes_in(nodes)
        file = self.roots.relative(source.path) if source is not None else None
        return Resolver(self, component, names, Environment(namespace, {}, file, None)).run()

    @staticmethod
    def hashed(data: bytes) -> bytes:
        """A digest to stand for a long text."""
        state = new_hash()
        state.update(data)
        return state.digest()

    # ------------------------------------------------------------------ owners and names

    def named(self, value: Any) -> Key | None:
        """The key of a function or class that its module holds under its own name."""
        known = self._named.get(id(value))
        if known is None:
            known = self._named[id(value)] = (value, self._find_name(value))
        return known[1]

    def _find_name(self, value: Any) -> Key | None:
        module_name = getattr(value, "__module__", None)
        qualname = getattr(value, "__qualname__", None)
        if not isinstance(module_name, str) or not isinstance(qualname, str):
            return None
        module = sys.modules.get(module_name)
        if module is None or self.roots.module_kind(module) != "user":
            return None
        holder: Any = module
        for part in qualname.split("."):
            if not isinstance(holder, (types.ModuleType, type)):
                return None
            holder = vars(holder).get(part)
        if isinstance(holder, (staticmethod, classmethod)):
            holder = holder.__func__
        if holder is not value:
            return None
        key = Key("class" if isinstance(value, type) else "func", module_name, qualname)
        self._payloads[key] = value
        return key

    def binding(self, module: str, name: str, value: Any) -> Key:
        """The key of a module-level name."""
        if issubclass(type(value), type):
            kind = "class"
        elif issubclass(type(value), _CALLABLES):
            kind = "func"
        else:
            kind = "const"
        key = Key(kind, module, name)
        self._payloads.setdefault(key, value)
        return key

    def meaning(
        self, component: Component, value: Any, origin: tuple[str, str] | None
    ) -> Meaning | None:
        """How code that names this object refers to it; None if it does not count."""
        kind = type(value)
        if is_scalar(kind):
            return self._by_binding(component, value, origin)
        if kind is types.FunctionType:
            owner = self.function_owner(value)
            if owner == "pivot":
                return None
            if owner == "library" and not self.holds_user_code(value):
                return self._by_library(component, value, origin)
            key = self.named(value) if owner == "user" else None
            return ("ref", key) if key is not None else self._by_binding(component, value, origin)
        if issubclass(kind, type):
            owner = self.class_owner(value)
            if owner == "pivot":
                return None
            if owner == "library":
                if self.user_patches(value):
                    return ("value", value)
                return self._by_library(component, value, origin)
            key = self.named(value)
            return ("ref", key) if key is not None else self._by_binding(component, value, origin)
        if issubclass(kind, _WRAPPERS):
            key = self.named(value)
            if key is not None:
                return ("ref", key)
            if origin is not None and self._module_kind(origin[0]) != "user":
                return self._by_library(component, value, origin)
        if any(kind is one for one in _LIBRARY_CALLABLES):
            owner_object = getattr(value, "__self__", None)
            if owner_object is None or isinstance(owner_object, types.ModuleType):
                return self._by_library(component, value, origin)
        if kind.__module__.partition(".")[0] == "pivot" and self.class_owner(kind) == "pivot":
            return None
        return self._by_binding(component, value, origin)

    def _by_library(
        self, component: Component, value: Any, origin: tuple[str, str] | None
    ) -> Meaning:
        module = getattr(value, "__module__", None)
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "?")
        dotted = f"{module}.{name}" if isinstance(module, str) else f"builtins.{name}"
        component.libraries[dotted] = None
        if origin is not None and self._module_kind(origin[0]) == "user":
            source = self.canonical(origin, value)
            if self._module_kind(source[0]) != "user":
                component.libraries[".".join(source)] = None
        elif origin is not None:
            component.libraries[".".join(origin)] = None
        return ("lib", dotted)

    def _by_binding(
        self, component: Component, value: Any, origin: tuple[str, str] | None
    ) -> Meaning:
        if origin is None:
            return ("value", value)
        if self._module_kind(origin[0]) == "user":
            origin = self.canonical(origin, value)
        if self._module_kind(origin[0]) != "user":
            component.libraries[".".join(origin)] = None
            if origin[0] == "builtins" and origin[1] not in OWN_BUILTINS:
                return ("value", value)  # only user code can have put it there
            if self._is_library_owned(value):
                return ("lib", ".".join(origin))
            return ("value", value)
        return ("ref", self.binding(*origin, value))

    def _is_library_owned(self, value: Any) -> bool:
        """Whether an object in a library's module is the library's own."""
        if type(value) is types.FunctionType:
            return self.function_owner(value) != "user" and not self.holds_user_code(value)
        if type(value) is types.MethodType:
            return self._is_library_owned(value.__func__)
        return self.class_owner(type(value)) != "user" and not issubclass(
            type(value), (functools.partial, *_WRAPPERS)
        )

    def _module_kind(self, name: str) -> str:
        module = sys.modules.get(name)
        return self.roots.module_kind(module) if module is not None else "none"

    def canonical(self, origin: tuple[str, str], value: Any) -> tuple[str, str]:
        """Where an imported name was first bound."""
        for _ in range(_ORIGIN_DEPTH_MAX):
            source = self.sources.of_module(origin[0])
            if source is None:
                return origin
            module, name = origin
            package = getattr(sys.modules.get(module), "__package__", "") or ""
            candidates = [(i, i.attribute) for i in reversed(source.imported(name))]
            candidates += [(i, name) for i in source.star_imports()]
            for entry, attribute in candidates:
                if attribute is None:
                    continue
                absolute = absolute_name(entry.module, entry.level, package)
                target = sys.modules.get(absolute)
                if target is None or absolute == module:
                    continue
                missing = object()
                if vars(target).get(attribute, missing) is value:
                    origin = (absolute, attribute)
                    break
            else:
                return origin
        return origin

    # ------------------------------------------------------------------ library objects

    def handler_for(self, value: Any) -> Handler:
        """How to write an object whose exact type has no handler of its own."""
        # Never `isinstance`: it asks the object for its class, and a proxy may fail.
        kind = type(value)
        if issubclass(kind, type):
            return _classes.class_met
        known = self._handlers.get(id(kind))
        if known is None:
            known = self._handlers[id(kind)] = (self._find_handler(kind), kind)
        return known[0]

    def file_behind(self, value: Any) -> str | None:
        """The user's file that an open file, database or archive reads from."""
        for name in ("name", "filename", "path", "_path"):
            try:
                path = getattr(value, name, None)
                if isinstance(path, (str, os.PathLike)) and os.path.isfile(path):
                    full = os.path.abspath(os.fspath(path))
                    return self.roots.relative(full) if self.roots.is_user(full) else None
            except Exception:
                continue
        if type_name(type(value)) == "sqlite3.Connection":
            with contextlib.suppress(Exception):
                for _, _, file in value.execute("PRAGMA database_list"):
                    if file and self.roots.is_user(file):
                        return self.roots.relative(file)
        return None

    def _find_handler(self, kind: type) -> Handler:
        name = type_name(kind)
        if name in _values.BY_NAME:
            return _values.BY_NAME[name]
        special = _arrays.handler_for(kind)
        if special is not None:
            return special
        if issubclass(kind, types.ModuleType):
            return HANDLERS[types.ModuleType]
        enum = sys.modules.get("enum")
        if enum is not None and issubclass(kind, enum.Enum):
            return _classes.enum_member
        owner = self.class_owner(kind)
        if owner == "pivot":
            return _pivot_object
        if owner == "user":
            return _instances.instance
        return _instances.library_instance

    # ------------------------------------------------------------------ modules

    def attribute(self, module: types.ModuleType, name: str) -> Any:
        """What the module has under this name for user code."""
        if self.patched:
            found = self.patched.get((module.__name__, name), self)
            if found is not self:
                return found
        return vars(module)[name]

    def whole_module(self, module: types.ModuleType) -> Key:
        """The key of everything that a module binds."""
        key = Key("module", "", module.__name__)
        self._payloads[key] = module
        return key

    def entry_points(self, component: Component, group: Any) -> Iterator[tuple[str, Meaning]]:
        """What installed packages offer under a group, or under any."""
        for dist, name, target in self.packages.entry_points(group):
            module_name = target.partition(":")[0].strip()
            text = f"entry point {name} = {target}"
            component.libraries[f"@{dist}"] = None
            if self.load(module_name) == "user" and module_name in sys.modules:
                yield text, ("ref", self.whole_module(sys.modules[module_name]))
            else:
                yield text, ("lib", target)

    # ------------------------------------------------------------------ special callees

    def special_name(self, value: Any) -> str | None:
        """Callables whose arguments name code."""
        if self._special is None:
            self._special = {id(getattr(builtins, n)): n for n in _SPECIAL_BUILTINS}
            self._special[id(builtins.__import__)] = "__import__"
            self._special[id(importlib.import_module)] = "import_module"
            self._special[id(importlib.__import__)] = "__import__"
            self._special[id(os.getenv)] = "getenv"
        name = self._special.get(id(value))
        if name is None and isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
            return _SPECIAL_NAMES.get((str(value.__module__), value.__name__))
        return name

    def special_name_of_call(self, resolver: Evaluator, call: ast.Call, use: Any) -> str | None:
        """The special name of what a call calls."""
        values = resolver.evaluate(call.func, use.scope)
        return self.special_name(values[0]) if values else None


_SPECIAL_BUILTINS = (
    "getattr", "hasattr", "dir", "globals", "vars", "eval", "exec", "compile", "str",
)  # fmt: skip
_SPECIAL_NAMES = {
    ("runpy", "run_path"): "run_path",
    ("runpy", "run_module"): "run_module",
    ("importlib.util", "find_spec"): "find_spec",
    ("importlib.metadata", "entry_points"): "entry_points",
    ("gc", "get_objects"): "everything",
    ("gc", "get_referrers"): "everything",
    ("inspect", "stack"): "everything",
}


def _no_reads(path: str) -> Collection[tuple[int, str, str]]:
    """Stands in where nobody records reads."""
    del path
    return ()


def _pivot_object(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("pivot")
    encoder.text(type(value).__name__)
    yield from ()


def _unwrapped(value: Any) -> Any:
    for _ in range(50):
        inner = getattr(value, "__wrapped__", None) if issubclass(type(value), _CALLABLES) else None
        if inner is None:
            break
        value = inner
    return value
