"""What imports do beside binding names: settings changed, things registered, the environment set.

Values that such statements leave in user modules are seen by the graph. For the rest, each
module has its *effects*: the statements whose purpose is an effect on something foreign. A stage
depends on those in the import closure of the modules that it uses, but only where it uses what
they may have changed: a stage that never touches numpy is not run again for ``np.seterr``.
"""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Iterable
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from ._callables import meanings_inside
from ._component import Component, Key, Mode
from ._encoder import Encoder, Steps, Task
from ._hashing import component_hash
from ._modules import absolute_name
from ._provenance import write_reads
from ._source import Statement
from ._syntax import nodes_form

if TYPE_CHECKING:
    from ._graph import Graph

__all__ = ["Effects", "may_act"]

PROCESS = "process"
ENVIRONMENT = "environment"

# Modules that keep no state which a call could change for others.
_PURE = frozenset(
    [
        "__future__",
        "_collections_abc",
        "abc",
        "argparse",
        "array",
        "ast",
        "base64",
        "binascii",
        "bisect",
        "builtins",
        "bz2",
        "calendar",
        "cmath",
        "collections",
        "colorsys",
        "configparser",
        "contextlib",
        "copy",
        "csv",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "errno",
        "filecmp",
        "fnmatch",
        "fractions",
        "functools",
        "genericpath",
        "glob",
        "graphlib",
        "gzip",
        "hashlib",
        "heapq",
        "hmac",
        "html",
        "importlib",
        "inspect",
        "io",
        "ipaddress",
        "itertools",
        "json",
        "keyword",
        "lzma",
        "logging",
        "math",
        "numbers",
        "operator",
        "os.path",
        "pathlib",
        "pickle",
        "platform",
        "posixpath",
        "pprint",
        "pkgutil",
        "quopri",
        "re",
        "reprlib",
        "sched",
        "shutil",
        "stat",
        "statistics",
        "string",
        "struct",
        "subprocess",
        "tempfile",
        "textwrap",
        "timeit",
        "tokenize",
        "tomllib",
        "traceback",
        "types",
        "typing",
        "unicodedata",
        "uuid",
        "xml",
        "zipfile",
        "zlib",
        "zoneinfo",
        "_io",
        "_json",
        "_thread",
        "_struct",
        "_operator",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "_functools",
        "_collections",
        "_datetime",
        "_pickle",
        "_csv",
        "_hashlib",
        "_blake2",
        "_sha2",
        "_weakref",
        "weakref",
        "time",
    ]
)
# What is harmless in modules that can do harm.
_HARMLESS = re.compile(
    r"os\.(path|environ|getenv|listdir|scandir|getcwd|sep|linesep|name|fspath|stat|walk|cpu_count"
    r"|makedirs|mkdir|remove|rename|replace|PathLike|getpid|pathsep|curdir|access)\b"
    r"|posix\.(listdir|scandir|getcwd|stat|mkdir|remove|getpid|fspath)\b"
    r"|sys\.(path|argv|version_info|version|platform|stdout|stderr|executable|maxsize|prefix"
    r"|byteorder|exit|getsizeof|modules|float_info)\b"
    r"|warnings\.warn$|threading\.(Lock|RLock|Event|local)$"
)
_PROCESS_WIDE = frozenset(
    [
        "os",
        "posix",
        "sys",
        "locale",
        "_locale",
        "warnings",
        "_warnings",
        "gc",
        "signal",
        "threading",
        "codecs",
        "atexit",
        "faulthandler",
        "resource",
        "copyreg",
        "nt",
        "asyncio",
        "multiprocessing",
    ]
)
_ENVIRONMENT_READERS = frozenset(
    [
        "subprocess",
        "multiprocessing",
        "tempfile",
        "locale",
        "getpass",
        "urllib",
        "ssl",
        "zoneinfo",
        "webbrowser",
    ]
)
_ENVIRONMENT_CALLS = re.compile(r"(os|posix)\.(system|popen|exec|spawn|posix_spawn|path\.expand)")
# Words in the names of functions that change a setting or register something.
_STARTS = (
    "set", "seed", "reset", "put", "register", "unregister", "install", "patch", "monkey",
    "enable", "disable", "use", "config", "option", "filter", "simplefilter", "getcontext",
    "chdir", "umask", "nice", "insert", "append", "update", "unset", "add", "init", "apply",
    "activate", "autolog", "login", "load", "signal", "hook",
)  # fmt: skip


class _Effect(NamedTuple):
    """One statement with an effect on something foreign."""

    digest: bytes
    edges: tuple[Key, ...]
    footprint: frozenset[str]
    line: int
    codes: tuple[CodeType, ...] = ()


class Effects:
    """The effects of all user modules, and which of them concern a stage."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._by_module: dict[tuple[str, Mode], list[_Effect]] = {}
        self._imports: dict[str, tuple[str, ...]] = {}
        self._closures: dict[frozenset[str], list[str]] = {}
        self._reach_of_library: dict[str, frozenset[str]] = {}
        self._reach_of_module: dict[str, frozenset[str]] = {}

    def of_stage(
        self, reached: dict[Key, Component], module: str | None, mode: Mode
    ) -> tuple[list[dict[str, Any]], list[Key], list[CodeType]]:
        """The ``effects:`` components of a stage, what they refer to, and their nameless code."""
        reach: frozenset[str] | None = None
        entries: list[dict[str, Any]] = []
        edges: dict[Key, None] = {}
        codes: list[CodeType] = []
        for name in self.modules_of_stage(reached, module):
            effects = self._of_module(name, mode)
            if not effects:
                continue
            if reach is None:
                reach = self._reach(reached)
            concerned = [
                effect
                for effect in effects
                if PROCESS in effect.footprint or not effect.footprint.isdisjoint(reach)
            ]
            if not concerned:
                continue
            for effect in concerned:
                edges.update(dict.fromkeys(effect.edges))
                codes += effect.codes
            source = self.graph.sources.of_module(name)
            entries.append(
                {
                    "name": f"effects:{name}",
                    "hash": component_hash(*(effect.digest for effect in concerned)),
                    "file": self.graph.roots.relative(source.path) if source else None,
                    "line": concerned[0].line,
                }
            )
        return entries, list(edges), codes

    def modules_of_stage(self, reached: dict[Key, Component], module: str | None) -> list[str]:
        """The modules whose top level counts for a stage, with or without an effect."""
        start = {name for component in reached.values() for name in component.modules}
        if module is not None:
            start.add(module)
        key = frozenset(start)
        known = self._closures.get(key)
        if known is None:
            known = self._closures[key] = self._import_closure(start)
        return known

    # ------------------------------------------------------------------ modules

    def _import_closure(self, start: Iterable[str]) -> list[str]:
        met = set(start)
        pending = list(met)
        while pending:
            for name in self._imports_of(pending.pop()):
                if name not in met:
                    met.add(name)
                    pending.append(name)
        return sorted(met)

    def _imports_of(self, name: str) -> tuple[str, ...]:
        """The user modules that a module's top level imports."""
        known = self._imports.get(name)
        if known is None:
            known = self._imports[name] = tuple(sorted(self._find_imports(name)))
        return known

    def _find_imports(self, name: str) -> set[str]:
        found: set[str] = set()
        source = self.graph.sources.of_module(name)
        module = sys.modules.get(name)
        if source is not None and module is not None:
            package = getattr(module, "__package__", "") or ""
            for entry in source.all_imports():
                base = absolute_name(entry.module, entry.level, package)
                parts = base.split(".")
                names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
                if entry.attribute is not None:
                    names.append(f"{base}.{entry.attribute}")
                for candidate in names:
                    if self._is_user_module(candidate):
                        found.add(candidate)
        for imported, importers in self.graph.sources.importers.items():
            if name in importers and self._is_user_module(imported):
                found.add(imported)
        found.discard(name)
        return found

    def _is_user_module(self, name: str) -> bool:
        module = sys.modules.get(name)
        return module is not None and self.graph.roots.module_kind(module) == "user"

    # ------------------------------------------------------------------ statements

    def _of_module(self, name: str, mode: Mode) -> list[_Effect]:
        key = (name, mode)
        known = self._by_module.get(key)
        if known is None:
            source = self.graph.sources.of_module(name)
            known = []
            if source is not None and name in sys.modules:
                statements = source.acting_statements()
                if source.unparsed:
                    digest = source.digest.encode()
                    known.append(_Effect(digest, (), frozenset({PROCESS}), 1))
                for statement in statements:
                    effect = self._effect(name, statement, mode)
                    if effect is not None:
                        known.append(effect)
            self._by_module[key] = known
        return known

    def _effect(self, module: str, statement: Statement, mode: Mode) -> _Effect | None:
        node = statement.node
        if not may_act(node):
            return None
        decorated: str | None = None
        binding = bool(statement.binds)
        nodes: list[ast.AST]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            nodes = [d for d in node.decorator_list if not _declares_stage(module, d)]
            if not nodes:
                return None
            decorated = node.name
            # A decorator that gives the function back as it is has done something else with it.
            binding = not _is_unchanged(module, node)
        elif isinstance(node, ast.Expr):
            if not _has_call(node.value) or _declares_stage(module, node.value):
                return None
            nodes = [*statement.headers, node]
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            value = getattr(node, "value", None)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            foreign = any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)
            if not foreign and (value is None or not _has_call(value)):
                return None
            binding = not foreign
            nodes = [*statement.headers, node]
        elif isinstance(node, ast.Delete):
            if all(isinstance(target, ast.Name) for target in node.targets):
                return None
            nodes = [*statement.headers, node]
        else:
            return None
        component, digest = self._digest(module, nodes, None, mode)
        footprint = self._footprint(component, strong=binding, mode=mode)
        if not footprint:
            return None
        if decorated is not None:
            component, digest = self._digest(module, nodes, decorated, mode)
        edges, codes = tuple(component.edges), tuple(component.codes)
        return _Effect(digest, edges, footprint, node.lineno, codes)

    def _digest(
        self, module: str, nodes: list[ast.AST], decorated: str | None, mode: Mode
    ) -> tuple[Component, bytes]:
        graph = self.graph
        component = Component(Key("effects", "", module))
        encoder = Encoder(graph, component, mode)
        namespace = vars(sys.modules[module])
        source = graph.sources.of_module(module)

        def steps() -> Steps:
            encoder.write(graph.hashed(nodes_form(nodes)))
            if source is not None:
                write_reads(graph, encoder, source, nodes)
            meanings = graph.meanings(component, nodes, namespace, source)
            if decorated is not None and decorated in namespace:
                # A foreign registry holds the function now.
                meaning = graph.meaning(component, namespace[decorated], (module, decorated))
                if meaning is not None:
                    meanings[f"def {decorated}"] = meaning
            yield Task(meanings_inside(encoder, meanings))

        return component, encoder.run(steps())

    def _footprint(self, component: Component, *, strong: bool, mode: Mode) -> frozenset[str]:
        """What the statement may change: distributions, modules, the environment, the process.

        Where its purpose is an effect (not ``strong``), whatever library it calls directly may be
        changed; in the functions that it calls, only what is named like a change counts.
        """
        if "builtins.print" in component.libraries and not strong:
            return frozenset()
        found: set[str] = set()
        for dotted in component.libraries:
            found.update(self._changes(dotted, strong))
        if component.writes_environment:
            found.add(ENVIRONMENT)
        met: set[Key] = set()
        pending = [(key, strong or key.kind != "const") for key in component.edges]
        while pending:
            key, named = pending.pop()
            if key in met:
                continue
            met.add(key)
            if key.kind not in ("func", "class", "const"):
                continue
            inner = self.graph.component(key, mode)
            for dotted in inner.libraries:
                found.update(self._changes(dotted, named))
            if inner.writes_environment:
                found.add(ENVIRONMENT)
            pending.extend((edge, True) for edge in inner.edges)
        return frozenset(found)

    def _changes(self, dotted: str, strong: bool) -> Iterable[str]:
        if dotted.startswith("set "):
            return (self._tag(dotted[4:]),)
        top = dotted.partition(".")[0]
        if top in _PURE or dotted in _PURE or dotted.startswith("os.path"):
            return ()
        if _HARMLESS.match(dotted):
            return ()
        if strong and not _is_verb(dotted):
            return ()
        if "." not in dotted and dotted in sys.modules:
            return ()  # the module itself, as in `import json` in a body
        return (self._tag(dotted),)

    def _tag(self, dotted: str) -> str:
        top = dotted.lstrip("@").partition(".")[0]
        if top == "builtins":
            return "module builtins"  # names in user code are looked up where they are used
        if top in _PROCESS_WIDE:
            return PROCESS
        if top in sys.stdlib_module_names or top in sys.builtin_module_names:
            return "module " + top.lstrip("_")
        owner = self.graph.packages.owner(dotted if dotted in sys.modules else top)
        return f"package {owner.name if owner is not None else top}"

    # ------------------------------------------------------------------ what a stage uses

    def _reach(self, reached: dict[Key, Component]) -> frozenset[str]:
        found: set[str] = set()
        for component in reached.values():
            if component.reads_environment:
                found.add(ENVIRONMENT)
            for dotted in component.libraries:
                found |= self._library_reach(dotted.removeprefix("set "))
        return frozenset(found)

    def _library_reach(self, dotted: str) -> frozenset[str]:
        known = self._reach_of_library.get(dotted)
        if known is None:
            found: set[str] = set()
            top = dotted.lstrip("@").partition(".")[0]
            if top in sys.stdlib_module_names or top in sys.builtin_module_names:
                if top != "builtins":
                    found |= self._module_reach(top)
                if top in _ENVIRONMENT_READERS or _ENVIRONMENT_CALLS.match(dotted):
                    found.add(ENVIRONMENT)
            else:
                plain, dists = self.graph.packages.of_module(
                    dotted if dotted in sys.modules else top
                )
                found |= {f"package {dist.name}" for dist in dists}
                if plain is not None:
                    found.add(f"package {plain}")
                # A package may use any module of the standard library, and the environment.
                found |= {"module " + name.lstrip("_") for name in sys.stdlib_module_names}
                found.add(ENVIRONMENT)
            known = self._reach_of_library[dotted] = frozenset(found)
        return known

    def _module_reach(self, top: str) -> frozenset[str]:
        """A module of the standard library and those that its own names lead to."""
        known = self._reach_of_module.get(top)
        if known is None:
            met = {top}
            pending = [top]
            while pending:
                module = sys.modules.get(pending.pop())
                for value in list(vars(module).values()) if module is not None else ():
                    if isinstance(value, types.ModuleType):
                        name = value.__name__
                    elif isinstance(value, (type, types.FunctionType)):
                        name = value.__module__
                    else:
                        continue
                    inner = name.partition(".")[0] if isinstance(name, str) else ""
                    if inner in sys.stdlib_module_names and inner not in met and inner not in _PURE:
                        met.add(inner)
                        pending.append(inner)
            known = frozenset("module " + name.lstrip("_") for name in met)
            self._reach_of_module[top] = known
        return known


def may_act(node: ast.stmt) -> bool:
    """Whether a statement can have an effect at all, by its syntax alone."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return bool(node.decorator_list)
    if isinstance(node, ast.Expr):
        return _has_call(node.value)
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
            return True
        return node.value is not None and _has_call(node.value)
    if isinstance(node, ast.Delete):
        return not all(isinstance(target, ast.Name) for target in node.targets)
    return False


def _is_verb(dotted: str) -> bool:
    """Whether a function is named like one that changes something."""
    name = dotted.rpartition(".")[2].lower()
    return any(word.startswith(_STARTS) for word in name.split("_"))


def _has_call(node: ast.AST) -> bool:
    return any(isinstance(inner, (ast.Call, ast.Await, ast.NamedExpr)) for inner in ast.walk(node))


def _is_unchanged(module: str, node: ast.stmt) -> bool:
    """Whether a decorated function is bound as it was defined."""
    if isinstance(node, ast.ClassDef):
        return False
    name = getattr(node, "name", "")
    value = vars(sys.modules[module]).get(name)
    return type(value) is types.FunctionType and value.__code__.co_name == name


def _declares_stage(module: str, node: ast.AST) -> bool:
    """Whether this is a call such as ``stage(...)`` or ``pipeline.add_stage(...)``.

    What a declaration says is compared by itself, stage by stage.
    """
    if isinstance(node, ast.Call):
        node = node.func
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return False
    value: Any = vars(sys.modules[module]).get(node.id)
    while True:
        owner = value.__name__ if isinstance(value, types.ModuleType) else type(value).__module__
        if owner == "builtins" or isinstance(value, types.FunctionType):
            owner = getattr(value, "__module__", None)
        if isinstance(owner, str) and owner.partition(".")[0] == "pivot":
            return True
        if not names or not isinstance(value, types.ModuleType):
            return False
        value = vars(value).get(names.pop())
